package oracle

import "strings"

// The default alphabet of short messages, and the characters that take two places in it.
const (
	defaultAlphabet = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿" +
		"abcdefghijklmnopqrstuvwxyzäöñüà"
	doubleCharacters = "\f^{}\\[~]|€"
)

// countSegments counts the parts in which a text is sent: 160 places, or 153 in each of several; 70 or 67 where it needs
// another alphabet. A character of two places is never cut.
func countSegments(body string) uint32 {
	alone, shared := 160, 153
	width := func(r rune) int { return 1 + min(strings.Count(doubleCharacters, string(r)), 1) }
	for _, r := range body {
		if !strings.ContainsRune(defaultAlphabet+doubleCharacters, r) {
			alone, shared = 70, 67
			width = func(r rune) int { return 1 + int(min(r>>16, 1)) }
		}
	}
	places := 0
	for _, r := range body {
		places += width(r)
	}
	if places <= alone {
		return 1
	}
	segments, left := uint32(1), shared
	for _, r := range body {
		if left < width(r) {
			segments, left = segments+1, shared
		}
		left -= width(r)
	}
	return segments
}
