package decode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep a record's values may nest.
const maxDepth = 64

// kind is what a JSON value is.
type kind uint8

const (
	isAbsent kind = iota
	isNull
	isText
	isNumber
	isBoolean
	isComposite // an object or an array
)

// value is where a JSON value lies in the data: a string without its quotes, anything else in full.
type value struct {
	start, end uint32
	kind       kind
	escaped    bool
}

// slot is where the value of a key that a format reads is kept. Keys that it does not read share slot ignored. As in
// encoding/json, the last of several equal keys wins.
type slot uint8

const (
	ignored    slot = 0
	nested     slot = 1 // the object within the record that the format reads too
	firstSlot  slot = 2
	firstInner slot = 14 // the slots of the keys of the nested object
	slotCount       = 20
)

// slotOf tells the slot of a key of the record (level 0) or of its nested object (level 1).
func (d *Decoder) slotOf(key []byte, level int) slot {
	switch d.format {
	case Tollgate:
		return tollgateSlot(key)
	case DIDWWVoiceIn:
		return didwwSlot(key, level)
	case TwilioCall:
		return twilioCallSlot(key)
	case TwilioMessage:
		return twilioMessageSlot(key)
	}
	return ignored
}

// levelIgnored is the level of objects of which no key is read.
const levelIgnored = 2

// object scans the object that begins at d.data[i] and keeps its values. It gives the position after it, or, not ok,
// the position at which it is broken.
func (d *Decoder) object(i, level int) (next int, ok bool) { return d.members(i, 0, level) }

func (d *Decoder) members(i, depth, level int) (next int, ok bool) {
	b := d.data
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, true
	}
	for place := 0; ; place++ {
		var into slot
		if h := d.habit(place, level); h != nil && h.holds(b, i) {
			i, into = i+int(h.length), h.into
		} else if i, into, ok = d.member(i, level, h); !ok {
			return i, false
		}
		below := levelIgnored
		if into == nested {
			clear(d.values[firstInner:])
			below = level + 1
		}
		if i, ok = d.valueAt(space(b, i), depth, below, &d.values[into]); !ok {
			return i, false
		}
		if i = space(b, i); i == len(b) {
			return i, false
		}
		if b[i] == '}' {
			return i + 1, true
		}
		if b[i] != ',' {
			return i, false
		}
		i = space(b, i+1)
	}
}

// member reads the key at d.data[i] and its colon, and makes it the habit h of its place, if there is one.
func (d *Decoder) member(i, level int, h *habit) (next int, into slot, ok bool) {
	b := d.data
	if i >= len(b) || b[i] != '"' {
		return i, ignored, false
	}
	end, escaped, ok := scanString(b, i+1)
	if !ok {
		return end, ignored, false
	}
	if level < levelIgnored {
		into = d.slotOf(d.keyAt(i+1, end, escaped), level)
	}
	if next = space(b, end+1); next == len(b) || b[next] != ':' {
		return next, ignored, false
	}
	if next++; h != nil && !escaped && next == end+2 {
		h.learn(b[i:], next-i, into)
	}
	return next, into, true
}

// habit is a key, with its quotes and its colon, that the record before had in the same place. Carriers write their keys
// in one order: to see that a key is the same is quicker than to read it, and what it leads to is the same.
type habit struct {
	words, masks [2]uint64
	length       uint8 // 0 for none
	into         slot
}

// habitBytes is the longest key, with its quotes and its colon, that becomes a habit.
const habitBytes = 16

// habit gives the habit of a place in the outermost object, nil where there is none to have.
func (d *Decoder) habit(place, level int) *habit {
	if level == 0 && place < len(d.habits) {
		return &d.habits[place]
	}
	return nil
}

// holds tells whether the habit's key stands at b[i].
func (h *habit) holds(b []byte, i int) bool {
	return h.length > 0 && i+habitBytes <= len(b) && (binary.LittleEndian.Uint64(b[i:])^h.words[0])&h.masks[0] == 0 &&
		(binary.LittleEndian.Uint64(b[i+8:])^h.words[1])&h.masks[1] == 0
}

// learn makes a habit of the key of so many bytes that b begins with.
func (h *habit) learn(b []byte, length int, into slot) {
	if length > habitBytes || len(b) < habitBytes {
		h.length = 0
		return
	}
	first := min(length, 8)
	h.length, h.into = uint8(length), into
	h.words = [2]uint64{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
	h.masks = [2]uint64{^uint64(0) >> (64 - 8*first), ^uint64(0) >> (64 - 8*(length-first))}
}

// keyAt gives the key that lies at d.data[start:end], with its escapes resolved.
func (d *Decoder) keyAt(start, end int, escaped bool) []byte {
	if !escaped {
		return d.data[start:end]
	}
	d.key = unescape(d.key[:0], d.data[start:end])
	return d.key
}

// value scans the value at d.data[i]; of an object it keeps the values as object does.
func (d *Decoder) value(i, level int) (next int, ok bool) {
	return d.valueAt(i, 0, level, &d.values[ignored])
}

// valueAt scans the value at d.data[i] and notes where it lies.
func (d *Decoder) valueAt(i, depth, level int, v *value) (next int, ok bool) {
	b := d.data
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; {
	case c == '"':
		end, escaped, ok := scanString(b, i+1)
		*v = value{uint32(i + 1), uint32(end), isText, escaped}
		if !ok {
			return end, false
		}
		return end + 1, true
	case c == '-' || c-'0' < 10:
		next, ok = scanNumber(b, i)
		*v = value{uint32(i), uint32(next), isNumber, false}
	case (c == '{' || c == '[') && depth < maxDepth:
		if c == '{' {
			next, ok = d.members(i, depth+1, level)
		} else {
			next, ok = d.elements(i, depth+1)
		}
		*v = value{uint32(i), uint32(next), isComposite, false}
	default:
		var k kind
		next, k = scanLiteral(b, i)
		*v, ok = value{uint32(i), uint32(next), k, false}, next > i
	}
	return next, ok
}

// elements skips the array that begins at d.data[i].
func (d *Decoder) elements(i, depth int) (next int, ok bool) {
	b := d.data
	if i = space(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1, true
	}
	for {
		if i, ok = d.valueAt(i, depth, levelIgnored, &d.values[ignored]); !ok {
			return i, false
		}
		if i = space(b, i); i == len(b) {
			return i, false
		}
		if b[i] == ']' {
			return i + 1, true
		}
		if b[i] != ',' {
			return i, false
		}
		i = space(b, i+1)
	}
}

// space skips white space from b[i] on.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanString finds the quote that ends the string whose first byte is b[i], eight bytes at a time. It is not ok, with
// the position of the trouble, where there is none before a control byte or a bad escape.
func scanString(b []byte, i int) (end int, escaped, ok bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, backslash := w^(ones*'"'), w^(ones*'\\')
			// The lowest bit set marks the first byte that is a quote, a backslash or below 0x20.
			hit := ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-ones*0x20)&^w) & highs
			if hit != 0 {
				if i += bits.TrailingZeros64(hit) >> 3; b[i] == '"' {
					return i, escaped, true
				}
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		if i >= len(b) || b[i] < 0x20 {
			return i, escaped, false
		}
		if b[i] == '"' {
			return i, escaped, true
		}
		n := escapeLength(b[i:])
		if n == 0 {
			return i, escaped, false
		}
		escaped = true
		i += n
	}
}

// escapeLength is the length of the escape that b begins with, or 0 if it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c-'0' < 10:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape appends s, whose escapes are well-formed, with its escapes resolved. Half a surrogate pair becomes U+FFFD.
func unescape(out, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		if s[i+1] != 'u' {
			out = append(out, shortEscape(s[i+1]))
			i += 2
			continue
		}
		r, _ := hex4(s[i+2:])
		i += 6
		if utf16.IsSurrogate(r) {
			low, pair := rune(0), rune(utf8.RuneError)
			if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
				low, _ = hex4(s[i+2:])
				pair = utf16.DecodeRune(r, low)
			}
			if r = pair; r != utf8.RuneError {
				i += 6
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

func shortEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // a quote, a slash or a backslash
}

// scanNumber gives the position after the number at b[i], or, not ok, that of the byte that spoils it.
func scanNumber(b []byte, i int) (next int, ok bool) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, ok = scanDigits(b, i); !ok {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i, ok = scanDigits(b, i+1); !ok {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i, ok = scanDigits(b, i); !ok {
			return i, false
		}
	}
	return i, true
}

// scanDigits gives the position after the digits at b[i]; not ok if there are none.
func scanDigits(b []byte, i int) (next int, ok bool) {
	start := i
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i, i > start
}

// scanLiteral gives the position after the literal at b[i], or i if there is none.
func scanLiteral(b []byte, i int) (next int, k kind) {
	switch rest := b[i:]; {
	case len(rest) >= 4 && string(rest[:4]) == "null":
		return i + 4, isNull
	case len(rest) >= 4 && string(rest[:4]) == "true":
		return i + 4, isBoolean
	case len(rest) >= 5 && string(rest[:5]) == "false":
		return i + 5, isBoolean
	}
	return i, isAbsent
}
