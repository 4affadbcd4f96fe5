package oracle

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// carrierFormat is how a carrier writes its records.
type carrierFormat uint8

const (
	tollgateJSON carrierFormat = iota + 1
	didwwVoiceIn
	twilioCall
	twilioMessage
)

var formatNames = map[string]carrierFormat{"tollgate": tollgateJSON, "didww-voice-in": didwwVoiceIn, "twilio-call": twilioCall,
	"twilio-message": twilioMessage}

// reason is why a record is a dead letter, by the numbers of ClickHouse's column. 0 is that of a record that can be charged.
type reason uint8

const (
	rated         reason = 0
	undecodable   reason = 1
	noFormat      reason = 2
	unknownNumber reason = 3
	noPrice       reason = 4
	tooFarAhead   reason = 5
	outOfBounds   reason = 6
)

func (r reason) String() string {
	return [...]string{"rated", "undecodable", "no-format", "unknown-number", "no-price", "too-far-ahead", "out-of-bounds"}[r]
}

// record is a call or message as the carrier states it.
type record struct {
	service  service
	refusal  reason // undecodable, outOfBounds or rated
	number   uint64
	peer, id []byte
	eventMs  int64
	// count is the stated seconds of a call, or the segments of a message that are to be billed.
	count uint32
}

// refuse keeps the first thing that is wrong.
func (r *record) refuse(why reason) {
	if r.refusal == rated {
		r.refusal = why
	}
}

// decoder reads records of one format.
type decoder struct {
	format         *format
	object, nested object // reused
	record         *record
}

// decode reads one piece of a message.
func (d *decoder) decode(p piece, r *record) {
	*r = record{}
	d.record = r
	if p.broken {
		r.refuse(undecodable)
		return
	}
	if _, ok := objectAt(p.raw, 0, &d.object); !ok {
		r.refuse(undecodable)
		return
	}
	switch d.format.carrier {
	case tollgateJSON:
		d.tollgate(d.object)
	case didwwVoiceIn:
		d.didww(d.object)
	case twilioCall:
		d.twilioCall(d.object)
	case twilioMessage:
		d.twilioMessage(d.object)
	}
}

// tollgateTypes are the services of a type: inbound, outbound.
var tollgateTypes = map[string][2]service{"call": {voiceIn, voiceOut}, "message": {messageIn, messageOut}}

func (d *decoder) tollgate(o object) {
	r := d.record
	services := tollgateTypes[textOf(o.get("type"))]
	switch textOf(o.get("direction")) {
	case "inbound":
		r.service = services[0]
	case "outbound":
		r.service = services[1]
	}
	if r.service == 0 {
		r.refuse(undecodable)
		return
	}
	d.id(o.get("id"), "")
	if r.service.inbound() {
		d.parties(o.get("to"), o.get("from"))
	} else {
		d.parties(o.get("from"), o.get("to"))
	}
	d.tollgateStart(o.get("start"))
	segments, answered := o.get("segments"), string(o.get("answered"))
	switch {
	case !r.service.voice() && segments == nil:
		r.count = 1
	case !r.service.voice():
		d.count(segments, mostSegments)
	case answered == "false":
	case answered != "" && answered != "true":
		r.refuse(undecodable)
	default:
		d.count(o.get("duration"), mostSeconds)
	}
}

// tollgateStart is a time with its offset, or a number of milliseconds.
func (d *decoder) tollgateStart(value []byte) {
	if isText(value) {
		d.event(parseISO([]byte(textOf(value)), nil))
		return
	}
	digits := string(value)
	if digits == "" || len(digits) > 15 || strings.Trim(digits, "0123456789") != "" {
		d.event(0, false)
		return
	}
	ms, err := strconv.ParseInt(digits, 10, 64)
	d.event(ms, err == nil)
}

func (d *decoder) didww(o object) {
	r := d.record
	if textOf(o.get("type")) != "inbound-cdr" {
		r.refuse(undecodable)
		return
	}
	r.service = voiceIn
	d.id(o.get("id"), "")
	d.nested = d.nested[:0]
	if attributes := o.get("attributes"); len(attributes) > 0 && attributes[0] == '{' {
		objectAt(attributes, 0, &d.nested)
	}
	a := d.nested
	d.parties(a.get("did_number"), a.get("src_number"))
	d.event(parseISO([]byte(textOf(a.get("time_start"))), d.format.zone))
	switch connected := a.get("time_connect"); {
	case string(connected) == "null":
	case isText(connected):
		d.count(a.get("duration"), mostSeconds)
	default:
		r.refuse(undecodable)
	}
}

func (d *decoder) twilioCall(o object) {
	r := d.record
	d.id(o.get("sid"), "CA")
	switch textOf(o.get("direction")) {
	case "inbound":
		r.service = voiceIn
		d.parties(o.get("to"), o.get("from"))
	case "outbound-api":
		r.service = voiceOut
		d.parties(o.get("from"), o.get("to"))
	case "outbound-dial":
		r.service = voiceOut
		own := o.get("forwarded_from")
		if isEmpty(own) {
			own = o.get("from")
		}
		d.parties(own, o.get("to"))
	default:
		r.refuse(undecodable)
	}
	started := o.get("start_time")
	switch textOf(o.get("status")) {
	case "completed":
		d.count(o.get("duration"), mostSeconds)
	case "busy", "failed", "no-answer", "canceled":
		if isEmpty(started) {
			started = o.get("date_created")
		}
	default: // unknown, or not over
		r.refuse(undecodable)
	}
	d.event(parseRFC2822([]byte(textOf(started))))
}

func (d *decoder) twilioMessage(o object) {
	r := d.record
	d.id(o.get("sid"), "SM", "MM")
	switch textOf(o.get("direction")) {
	case "inbound":
		r.service = messageIn
		d.parties(o.get("to"), o.get("from"))
	case "outbound-api", "outbound-call", "outbound-reply":
		r.service = messageOut
		d.parties(o.get("from"), o.get("to"))
	default:
		r.refuse(undecodable)
	}
	switch textOf(o.get("status")) {
	case "sent", "delivered", "received", "read", "partially_delivered", "delivery_unknown":
		d.twilioSegments(o)
	case "failed", "undelivered", "canceled":
	default: // unknown, or on its way
		r.refuse(undecodable)
	}
	sent := o.get("date_sent")
	if isEmpty(sent) {
		sent = o.get("date_created")
	}
	d.event(parseRFC2822([]byte(textOf(sent))))
}

// twilioSegments takes the carrier's count, or counts where there is none or 0.
func (d *decoder) twilioSegments(o object) {
	r := d.record
	if stated := o.get("num_segments"); !isEmpty(stated) {
		d.count(stated, mostSegments)
	}
	if r.count > 0 || r.refusal != rated {
		return
	}
	if r.count = countSegments(textOf(o.get("body"))); r.count > mostSegments {
		r.refuse(outOfBounds)
	}
}

// id reads the carrier's id, which begins with one of the prefixes.
func (d *decoder) id(value []byte, prefixes ...string) {
	id := textOf(value)
	begins := false
	for _, p := range prefixes {
		begins = begins || strings.HasPrefix(id, p)
	}
	if id == "" || len(id) > 255 || !legible(id) || !begins {
		d.record.refuse(undecodable)
		return
	}
	d.record.id = []byte(id)
}

// parties reads the account's own number and the other party.
func (d *decoder) parties(own, peer []byte) {
	r := d.record
	var ok bool
	if r.number, ok = parseNumber([]byte(textOf(own)), d.format.country); !ok {
		r.refuse(undecodable)
	}
	name := textOf(peer)
	if len(name) > 255 || !legible(name) || !isText(peer) && !isEmpty(peer) {
		r.refuse(undecodable)
		return
	}
	r.peer = []byte(name)
}

func (d *decoder) event(ms int64, ok bool) {
	if !ok || !plausible(ms) {
		d.record.refuse(undecodable)
		return
	}
	d.record.eventMs = ms
}

// count reads digits, bare or in quotes.
func (d *decoder) count(value []byte, most int64) {
	digits := string(value)
	if isText(value) {
		digits = textOf(value)
	}
	unsigned := digits
	if len(digits) > 1 {
		unsigned = strings.TrimPrefix(digits, "-")
	}
	if unsigned == "" || strings.Trim(unsigned, "0123456789") != "" {
		d.record.refuse(undecodable)
		return
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > most { // of digits alone, only too many are an error
		d.record.refuse(outOfBounds)
		return
	}
	d.record.count = uint32(n)
}

func isText(value []byte) bool { return len(value) > 0 && value[0] == '"' }

// isEmpty tells whether a key is missing, null or "".
func isEmpty(value []byte) bool {
	return len(value) == 0 || string(value) == "null" || string(value) == `""`
}

// textOf gives the text of a JSON string, "" for anything else.
func textOf(value []byte) string {
	if !isText(value) {
		return ""
	}
	return unquote(value)
}

// legible tells whether a text can be shown: no control characters, no bytes that are no text, no lost characters.
func legible(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' {
			return false
		}
	}
	return utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
}
