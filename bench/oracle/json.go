package oracle

import (
	"bytes"
	"encoding/json"
)

// deepest is how deep the values of a record may nest.
const deepest = 64

// member is a key of an object and its value, both as written.
type member struct{ key, value []byte }

// object is the members of a JSON object in their order.
type object []member

// get gives the value of a key as written, nil if there is none. The last of equal keys counts.
func (o object) get(key string) []byte {
	for i := len(o) - 1; i >= 0; i-- {
		if k := o[i].key; string(k[1:len(k)-1]) == key || bytes.IndexByte(k, '\\') >= 0 && unquote(k) == key {
			return o[i].value
		}
	}
	return nil
}

// walker checks JSON by its grammar, and collects the members of one object on the way.
type walker struct {
	data []byte
	into *object // of the object at depth 0; nil collects nothing
}

// objectAt reads an object that begins at data[at]: its members, and where it ends. It is not ok if it is no valid JSON.
func objectAt(data []byte, at int, into *object) (end int, ok bool) {
	*into = (*into)[:0]
	w := walker{data, into}
	return w.members(at, 0)
}

// valueAt finds the end of the value of any kind that begins at data[at].
func valueAt(data []byte, at int) (end int, ok bool) {
	w := walker{data: data}
	return w.value(at, 0)
}

// value is the rule "value" of the grammar; depth counts the objects and arrays around it.
func (w *walker) value(i, depth int) (end int, ok bool) {
	if i >= len(w.data) {
		return i, false
	}
	switch c := w.data[i]; c {
	case '"':
		return w.text(i)
	case '{', '[':
		if depth >= deepest {
			return i, false
		}
		if c == '{' {
			return w.members(i, depth+1)
		}
		return w.elements(i, depth+1)
	case 't':
		return w.word(i, "true")
	case 'f':
		return w.word(i, "false")
	case 'n':
		return w.word(i, "null")
	}
	return w.number(i)
}

func (w *walker) members(i, depth int) (end int, ok bool) {
	collect := depth == 0 && w.into != nil
	i = skipSpace(w.data, i+1)
	if w.is(i, '}') {
		return i + 1, true
	}
	for {
		keyAt := i
		if i, ok = w.text(i); !ok {
			return i, false
		}
		keyEnd := i
		if i = skipSpace(w.data, i); !w.is(i, ':') {
			return i, false
		}
		valueStart := skipSpace(w.data, i+1)
		if i, ok = w.value(valueStart, depth); !ok {
			return i, false
		}
		if collect {
			*w.into = append(*w.into, member{w.data[keyAt:keyEnd], w.data[valueStart:i]})
		}
		if i = skipSpace(w.data, i); w.is(i, '}') {
			return i + 1, true
		}
		if !w.is(i, ',') {
			return i, false
		}
		i = skipSpace(w.data, i+1)
	}
}

func (w *walker) elements(i, depth int) (end int, ok bool) {
	i = skipSpace(w.data, i+1)
	if w.is(i, ']') {
		return i + 1, true
	}
	for {
		if i, ok = w.value(i, depth); !ok {
			return i, false
		}
		if i = skipSpace(w.data, i); w.is(i, ']') {
			return i + 1, true
		}
		if !w.is(i, ',') {
			return i, false
		}
		i = skipSpace(w.data, i+1)
	}
}

// text is a string with its quotes.
func (w *walker) text(i int) (end int, ok bool) {
	if !w.is(i, '"') {
		return i, false
	}
	for i++; i < len(w.data); i++ {
		switch c := w.data[i]; {
		case c == '"':
			return i + 1, true
		case c < ' ':
			return i, false
		case c == '\\':
			if i++; i >= len(w.data) || bytes.IndexByte([]byte(`"\/bfnrtu`), w.data[i]) < 0 {
				return i, false
			}
			if w.data[i] == 'u' {
				if !w.hexadecimal(i + 1) {
					return i, false
				}
				i += 4
			}
		}
	}
	return i, false
}

func (w *walker) hexadecimal(i int) bool {
	if i+4 > len(w.data) {
		return false
	}
	for _, c := range w.data[i : i+4] {
		if bytes.IndexByte([]byte("0123456789abcdefABCDEF"), c) < 0 {
			return false
		}
	}
	return true
}

func (w *walker) number(i int) (end int, ok bool) {
	if w.is(i, '-') {
		i++
	}
	if w.is(i, '0') {
		i++
	} else if i, ok = w.digits(i); !ok {
		return i, false
	}
	if w.is(i, '.') {
		if i, ok = w.digits(i + 1); !ok {
			return i, false
		}
	}
	if w.is(i, 'e') || w.is(i, 'E') {
		if i++; w.is(i, '+') || w.is(i, '-') {
			i++
		}
		return w.digits(i)
	}
	return i, true
}

func (w *walker) digits(i int) (end int, ok bool) {
	start := i
	for i < len(w.data) && '0' <= w.data[i] && w.data[i] <= '9' {
		i++
	}
	return i, i > start
}

func (w *walker) word(i int, word string) (end int, ok bool) {
	return i + len(word), bytes.HasPrefix(w.data[i:], []byte(word))
}

func (w *walker) is(i int, c byte) bool { return i < len(w.data) && w.data[i] == c }

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// unquote gives the text of a valid JSON string. Bytes that are no UTF-8 stay as they are where nothing is escaped.
func unquote(written []byte) string {
	inner := written[1 : len(written)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if json.Unmarshal(written, &s) != nil {
		return ""
	}
	return s
}
