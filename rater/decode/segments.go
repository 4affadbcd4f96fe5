package decode

import "strings"

// The characters of the default alphabet of 3GPP TS 23.038, and of its extension, each of which takes two septets.
const (
	gsmDefault = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

// countSegments counts the segments that a text of UTF-8 is sent in: of 160 septets, or 153 of several, if the default
// alphabet has all its characters, else of 70 units of UCS-2, or 67. A character of two septets or units is not split.
// An empty text is one segment.
func countSegments(body []byte) uint32 {
	if septets(body) {
		return fill(body, 160, 153, func(r rune) int {
			if strings.ContainsRune(gsmExtension, r) {
				return 2
			}
			return 1
		})
	}
	return fill(body, 70, 67, func(r rune) int {
		if r > 0xffff {
			return 2
		}
		return 1
	})
}

func septets(body []byte) bool {
	for _, r := range string(body) {
		if !strings.ContainsRune(gsmDefault, r) && !strings.ContainsRune(gsmExtension, r) {
			return false
		}
	}
	return true
}

// fill counts the segments that a text fills: one of single units, or several of part units each.
func fill(body []byte, single, part int, size func(rune) int) uint32 {
	total, segments, used := 0, uint32(1), 0
	for _, r := range string(body) {
		n := size(r)
		total += n
		if used += n; used > part {
			segments++
			used = n
		}
	}
	if total <= single {
		return 1
	}
	return segments
}
