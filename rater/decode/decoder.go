package decode

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// Decoder splits messages into records and reads them. It is owned by one loop and reused for life; the zero Decoder
// is ready for Reset.
type Decoder struct {
	format  Format
	mapping Mapping
	data    []byte // the message, decompressed
	at      int    // where the next piece begins
	state   state
	verdict string // in state whole and rest: why they are refused

	values  [slotCount]value // of the current record, by slot; they point into data
	used    usedSlots        // where the current record was read from
	scratch []byte           // the current record's strings that had escapes
	key     []byte           // a key that had escapes
	habits  [24]habit        // of the format's records, by the place of the key

	compressed bytes.Reader
	gunzip     gzip.Reader
	inflated   []byte
}

// state is what Next finds at d.at.
type state uint8

const (
	ended   state = iota // nothing
	whole                // a message that is refused as one record
	lines                // records one after the other
	element              // an element of the array
	tail                 // what follows the closed array: nothing, if all is well
	rest                 // bytes that cannot be split: refused as one record
)

// Reset begins a message. The message must stay as it is until the next Reset. An error means that this build does
// not know the version of the format: the caller must stop, not skip. Every message yields at least one record.
func (d *Decoder) Reset(format Format, version uint16, mapping *Mapping, message []byte) error {
	if !format.Knows(version) {
		d.state = ended
		return fmt.Errorf("cannot decode version %d of format %s: this build knows up to %d: run a newer one", version, format, format.Newest())
	}
	if format != d.format {
		d.habits = [24]habit{}
	}
	d.format, d.mapping, d.data, d.at = format, Mapping{}, message, 0
	if mapping != nil {
		d.mapping = *mapping
	}
	d.state, d.verdict = lines, ""
	if len(message) >= 2 && message[0] == 0x1f && message[1] == 0x8b {
		d.inflate(message)
	}
	d.open()
	return nil
}

// inflate puts the decompressed message into d.data, or refuses it.
func (d *Decoder) inflate(message []byte) {
	d.compressed.Reset(message)
	err := d.gunzip.Reset(&d.compressed)
	buffer := d.inflated[:0]
	for err == nil && len(buffer) <= MaxMessageBytes {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		var n int
		n, err = d.gunzip.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
	}
	d.inflated = buffer
	switch {
	case len(buffer) > MaxMessageBytes:
		d.refuseWhole(fmt.Sprintf("the message grows beyond %d bytes when it is decompressed", MaxMessageBytes))
	case err != io.EOF:
		d.refuseWhole("the message begins like gzip, but is damaged or cut short")
	default:
		d.data = buffer
	}
}

// refuseWhole makes the message one refused record.
func (d *Decoder) refuseWhole(why string) { d.state, d.verdict = whole, why }

// open decides how the message is split, and whether it is split at all.
func (d *Decoder) open() {
	if d.state == whole {
		return
	}
	first := space(d.data, 0)
	switch {
	case len(d.data) > MaxMessageBytes:
		d.refuseWhole(fmt.Sprintf("the message is longer than %d bytes", MaxMessageBytes))
		return
	case first == len(d.data):
		d.refuseWhole("the message is empty")
		return
	case d.data[first] == '[':
		d.openArray(first + 1)
	}
	if d.state != whole && d.mayHoldTooMany() && d.holdsTooMany() {
		d.refuseWhole(fmt.Sprintf("the message holds more than %d records", MaxRecordsPerMessage))
	}
}

func (d *Decoder) openArray(i int) {
	d.at, d.state = i, element
	if i = space(d.data, i); i < len(d.data) && d.data[i] == ']' && space(d.data, i+1) == len(d.data) {
		d.refuseWhole("the array is empty")
	}
}

// mayHoldTooMany is a bound that costs next to nothing: elements are parted by commas; of records one after the other
// each begins with a brace, and between two of them lies at most one piece of rubbish.
func (d *Decoder) mayHoldTooMany() bool {
	if len(d.data) < MaxRecordsPerMessage {
		return false // no piece is shorter than a byte
	}
	if d.state == element {
		return bytes.Count(d.data, []byte{','})+3 > MaxRecordsPerMessage
	}
	return 2*bytes.Count(d.data, []byte{'{'})+1 > MaxRecordsPerMessage
}

// holdsTooMany counts the pieces and comes back to where it began.
func (d *Decoder) holdsTooMany() bool {
	at, state := d.at, d.state
	count := 0
	for count <= MaxRecordsPerMessage && d.next(&Record{}) {
		count++
	}
	d.at, d.state = at, state
	return count > MaxRecordsPerMessage
}

// Next gives the next record of the message, refused or not; false when there is none left.
func (d *Decoder) Next(r *Record) bool {
	*r = Record{}
	d.used = usedSlots{}
	if !d.next(r) {
		return false
	}
	if r.Problem == None {
		d.read(r)
	}
	return true
}

// next cuts off the next piece and scans its values. A piece that is no object is refused.
func (d *Decoder) next(r *Record) bool {
	switch d.state {
	case ended:
		return false
	case whole:
		d.takeRest(r, 0)
	case lines:
		return d.nextOfLines(r)
	case element:
		d.nextElement(r)
	case tail:
		if d.at = space(d.data, d.at); d.at == len(d.data) {
			d.state = ended
			return false
		}
		d.verdict = "something follows the end of the array"
		d.takeRest(r, d.at)
	case rest:
		d.takeRest(r, d.at)
	}
	return true
}

// takeRest makes one refused record of all from start on.
func (d *Decoder) takeRest(r *Record, start int) {
	r.Raw, r.Problem, r.Detail = d.data[start:], Undecodable, d.verdict
	d.state = ended
}

// nextOfLines takes the next of the objects that stand one after the other. Something else, or an object that is
// broken, reaches up to the next line that opens an object.
func (d *Decoder) nextOfLines(r *Record) bool {
	start := space(d.data, d.at)
	if start == len(d.data) {
		d.state = ended
		return false
	}
	clear(d.values[:])
	end, ok := start, false
	if d.data[start] == '{' {
		end, ok = d.object(start, 0)
	}
	if !ok {
		brokenAt := end
		if end = bytes.Index(d.data[start:], []byte("\n{")); end < 0 {
			end = len(d.data)
		} else {
			end += start + 1
		}
		r.Problem, r.Detail = Undecodable, fmt.Sprintf("not a JSON object: broken at byte %d", brokenAt-start)
		r.Raw = bytes.TrimRight(d.data[start:end], " \t\r\n")
	} else {
		r.Raw = d.data[start:end]
	}
	d.at = end
	return true
}

// nextElement takes the next element of the array. A broken one reaches up to the next comma outside brackets and
// strings; where there is none, the rest of the message is one record.
func (d *Decoder) nextElement(r *Record) {
	start := space(d.data, d.at)
	clear(d.values[:])
	end, ok := d.value(start, 0)
	if !ok {
		r.Problem, r.Detail = Undecodable, fmt.Sprintf("not a JSON value: broken at byte %d", end-start)
		end = elementEnd(d.data, start)
	} else if d.data[start] != '{' {
		r.Problem, r.Detail = Undecodable, "not a JSON object"
	}
	r.Raw = d.data[start:end]
	if d.at = space(d.data, end); d.at == len(d.data) && !ok {
		d.state = ended
		return
	}
	switch {
	case d.at < len(d.data) && d.data[d.at] == ',':
		d.at++
	case d.at < len(d.data) && d.data[d.at] == ']':
		d.at++
		d.state = tail
	default:
		d.state, d.verdict = rest, "the array is not closed: the message may be cut short"
	}
}

// elementEnd finds the comma or bracket that ends a broken element, counting brackets and skipping strings, or the
// end of the data.
func elementEnd(b []byte, i int) int {
	depth, quoted := 0, false
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case depth == 0 && (c == ',' || c == ']'):
			return i
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return len(b)
}

// read fills the record from the values of its object, as its format has them.
func (d *Decoder) read(r *Record) {
	d.scratch = d.scratch[:0]
	switch d.format {
	case Tollgate:
		d.readTollgate(r)
	case DIDWWVoiceIn:
		d.readDIDWW(r)
	case TwilioCall:
		d.readTwilioCall(r)
	case TwilioMessage:
		d.readTwilioMessage(r)
	}
}
