package decode

import "github.com/tollgate/tollgate/rater/price"

// The keys of Tollgate's own JSON.
const (
	tollgateID = firstSlot + iota
	tollgateType
	tollgateDirection
	tollgateFrom
	tollgateTo
	tollgateStart
	tollgateDuration
	tollgateAnswered
	tollgateSegments
)

var tollgateKeys = [slotCount]string{tollgateID: "id", tollgateType: "type", tollgateDirection: "direction",
	tollgateFrom: "from", tollgateTo: "to", tollgateStart: "start", tollgateDuration: "duration",
	tollgateAnswered: "answered", tollgateSegments: "segments"}

func tollgateSlot(key []byte) slot {
	switch string(key) {
	case "id":
		return tollgateID
	case "type":
		return tollgateType
	case "direction":
		return tollgateDirection
	case "from":
		return tollgateFrom
	case "to":
		return tollgateTo
	case "start":
		return tollgateStart
	case "duration":
		return tollgateDuration
	case "answered":
		return tollgateAnswered
	case "segments":
		return tollgateSegments
	}
	return ignored
}

func (d *Decoder) readTollgate(r *Record) {
	r.Service = d.tollgateService(r)
	d.readID(r, tollgateID)
	if r.Service.Inbound() {
		d.readParties(r, tollgateTo, tollgateFrom)
	} else {
		d.readParties(r, tollgateFrom, tollgateTo)
	}
	d.readTollgateStart(r)
	switch {
	case !r.Service.Valid(): // refused already
	case r.Service.Voice():
		d.readTollgateTalk(r)
	case d.values[tollgateSegments].kind == isAbsent:
		r.Segments = 1
	default:
		d.readSegments(r, tollgateSegments)
	}
}

func (d *Decoder) tollgateService(r *Record) price.Service {
	d.used.service = tollgateType
	in, out := price.VoiceIn, price.VoiceOut
	switch string(d.textOf(tollgateType)) {
	case "call":
	case "message":
		in, out = price.MessageIn, price.MessageOut
	default:
		d.refuse(r, Undecodable, tollgateType, `"call" or "message"`)
		return 0
	}
	switch string(d.textOf(tollgateDirection)) {
	case "inbound":
		return in
	case "outbound":
		return out
	}
	d.refuse(r, Undecodable, tollgateDirection, `"inbound" or "outbound"`)
	return 0
}

// readTollgateStart reads the start: RFC 3339 with its offset, or milliseconds since 1970 as a number.
func (d *Decoder) readTollgateStart(r *Record) {
	const want = "a time of RFC 3339 with Z or an offset, or milliseconds since 1970 as a number"
	v := d.values[tollgateStart]
	if v.kind != isNumber {
		ms, ok := parseISO(d.textOf(tollgateStart), nil)
		d.readEvent(r, tollgateStart, ms, ok, want)
		return
	}
	ms := int64(0)
	if written := d.data[v.start:v.end]; len(written) <= 15 {
		ms = int64(digits(written))
	}
	d.readEvent(r, tollgateStart, ms, true, want)
}

// readTollgateTalk reads whether a call was answered, and how long it was if it was.
func (d *Decoder) readTollgateTalk(r *Record) {
	v := d.values[tollgateAnswered]
	switch {
	case v.kind == isBoolean && d.data[v.start] == 'f':
		d.used.duration = tollgateAnswered
		return
	case v.kind != isBoolean && v.kind != isAbsent:
		d.refuse(r, Undecodable, tollgateAnswered, "true or false")
	}
	d.readDuration(r, tollgateDuration)
}
