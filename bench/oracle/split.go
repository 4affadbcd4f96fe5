package oracle

import (
	"bytes"
	"compress/gzip"
	"io"
)

// Bounds of one message.
const (
	mostMessageBytes = 64 << 20
	mostPieces       = 100_000
)

// piece is the bytes of one record in a message. It is broken if they are no JSON object.
type piece struct {
	raw    []byte
	broken bool
}

// split cuts a message into its records: one object, objects one after the other, or an array of them, each also in gzip.
// It yields at least one piece. What holds too much or nothing is one broken piece.
func split(message []byte) []piece {
	data, ok := inflate(message)
	if !ok {
		return []piece{{message, true}}
	}
	whole := []piece{{data, true}}
	at := skipSpace(data, 0)
	if len(data) > mostMessageBytes || at == len(data) {
		return whole
	}
	var pieces []piece
	if data[at] != '[' {
		pieces = splitLines(data, at)
	} else if first := skipSpace(data, at+1); first < len(data) && data[first] == ']' && skipSpace(data, first+1) == len(data) {
		return whole // an empty array
	} else {
		pieces = splitArray(data, at+1)
	}
	if len(pieces) > mostPieces {
		return whole
	}
	return pieces
}

// inflate gives what a message holds, decompressed if it is gzip. It is not ok if that is damaged or too much.
func inflate(message []byte) (data []byte, ok bool) {
	if !bytes.HasPrefix(message, []byte{0x1f, 0x8b}) {
		return message, true
	}
	zipped, err := gzip.NewReader(bytes.NewReader(message))
	if err != nil {
		return nil, false
	}
	data, err = io.ReadAll(io.LimitReader(zipped, mostMessageBytes+1))
	return data, err == nil && len(data) <= mostMessageBytes
}

// splitLines cuts records that stand one after the other. A broken one ends where the next line begins with a brace.
func splitLines(data []byte, at int) (pieces []piece) {
	var scratch object
	for at < len(data) && len(pieces) <= mostPieces {
		end, ok := at, false
		if data[at] == '{' {
			end, ok = objectAt(data, at, &scratch)
		}
		if !ok {
			if end = bytes.Index(data[at:], []byte("\n{")) + 1; end == 0 {
				end = len(data) - at
			}
			end += at
		}
		pieces = append(pieces, piece{bytes.TrimRight(data[at:end], " \t\r\n"), !ok})
		at = skipSpace(data, end)
	}
	return pieces
}

// splitArray cuts the elements of an array whose first one begins at data[at]. A broken element ends at the next comma
// outside of brackets and strings. What cannot be cut any more is one broken piece.
func splitArray(data []byte, at int) (pieces []piece) {
	for len(pieces) <= mostPieces {
		at = skipSpace(data, at)
		end, ok := valueAt(data, at)
		if !ok {
			end = brokenElementEnd(data, at)
		}
		pieces = append(pieces, piece{data[at:end], !ok || data[at] != '{'})
		at = skipSpace(data, end)
		switch {
		case at == len(data) && !ok:
			return pieces
		case at < len(data) && data[at] == ',':
			at++
		case at < len(data) && data[at] == ']':
			if at = skipSpace(data, at+1); at < len(data) {
				pieces = append(pieces, piece{data[at:], true})
			}
			return pieces
		default:
			return append(pieces, piece{data[at:], true})
		}
	}
	return pieces
}

// brokenElementEnd finds the comma or bracket behind a broken element, or the end of the data.
func brokenElementEnd(data []byte, i int) int {
	open, inText := 0, false
	for ; i < len(data); i++ {
		c := data[i]
		if inText {
			if c == '\\' {
				i++
			} else if c == '"' {
				inText = false
			}
			continue
		}
		switch c {
		case '"':
			inText = true
		case '{', '[':
			open++
		case '}', ']', ',':
			if open == 0 && c != '}' {
				return i
			}
			if c != ',' {
				open--
			}
		}
	}
	return len(data)
}
