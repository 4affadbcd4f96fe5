package decode

import "github.com/tollgate/tollgate/rater/price"

// The keys of Twilio's Call resource.
const (
	callSID = firstSlot + iota
	callDirection
	callFrom
	callTo
	callForwardedFrom
	callStatus
	callDuration
	callStartTime
	callDateCreated
)

var twilioCallKeys = [slotCount]string{callSID: "sid", callDirection: "direction", callFrom: "from", callTo: "to",
	callForwardedFrom: "forwarded_from", callStatus: "status", callDuration: "duration", callStartTime: "start_time",
	callDateCreated: "date_created"}

func twilioCallSlot(key []byte) slot {
	switch string(key) {
	case "sid":
		return callSID
	case "direction":
		return callDirection
	case "from":
		return callFrom
	case "to":
		return callTo
	case "forwarded_from":
		return callForwardedFrom
	case "status":
		return callStatus
	case "duration":
		return callDuration
	case "start_time":
		return callStartTime
	case "date_created":
		return callDateCreated
	}
	return ignored
}

func (d *Decoder) readTwilioCall(r *Record) {
	// First of all the sid: a status callback has none, and its Duration counts minutes.
	d.readID(r, callSID)
	if len(r.ID) < 2 || string(r.ID[:2]) != "CA" {
		d.refuse(r, Undecodable, callSID, "the sid of a call, CA…")
	}
	d.used.service = callDirection
	switch string(d.textOf(callDirection)) {
	case "inbound":
		r.Service = price.VoiceIn
		d.readParties(r, callTo, callFrom)
	case "outbound-api":
		r.Service = price.VoiceOut
		d.readParties(r, callFrom, callTo)
	case "outbound-dial":
		r.Service = price.VoiceOut
		own := callForwardedFrom
		if d.isEmpty(own) {
			own = callFrom
		}
		d.readParties(r, own, callTo)
	default:
		d.refuse(r, Undecodable, callDirection, "inbound, outbound-api or outbound-dial")
	}
	d.readTwilioTalk(r)
}

// readTwilioTalk reads the start and the duration, as far as the status says that there are any.
func (d *Decoder) readTwilioTalk(r *Record) {
	d.used.duration = callStatus
	started := callStartTime
	switch string(d.textOf(callStatus)) {
	case "completed":
		d.readDuration(r, callDuration)
	case "busy", "failed", "no-answer", "canceled":
		if d.isEmpty(started) { // never dialled
			started = callDateCreated
		}
	case "queued", "initiated", "ringing", "in-progress":
		d.refuse(r, Undecodable, callStatus, "a final status: the call is not over")
	default:
		d.refuse(r, Undecodable, callStatus, "completed, busy, failed, no-answer or canceled")
	}
	d.readRFC2822(r, started)
}

// The keys of Twilio's Message resource.
const (
	messageSID = firstSlot + iota
	messageDirection
	messageFrom
	messageTo
	messageStatus
	messageSegments
	messageBody
	messageDateSent
	messageDateCreated
)

var twilioMessageKeys = [slotCount]string{messageSID: "sid", messageDirection: "direction", messageFrom: "from",
	messageTo: "to", messageStatus: "status", messageSegments: "num_segments", messageBody: "body",
	messageDateSent: "date_sent", messageDateCreated: "date_created"}

func twilioMessageSlot(key []byte) slot {
	switch string(key) {
	case "sid":
		return messageSID
	case "direction":
		return messageDirection
	case "from":
		return messageFrom
	case "to":
		return messageTo
	case "status":
		return messageStatus
	case "num_segments":
		return messageSegments
	case "body":
		return messageBody
	case "date_sent":
		return messageDateSent
	case "date_created":
		return messageDateCreated
	}
	return ignored
}

func (d *Decoder) readTwilioMessage(r *Record) {
	d.readID(r, messageSID)
	if len(r.ID) < 2 || string(r.ID[:2]) != "SM" && string(r.ID[:2]) != "MM" {
		d.refuse(r, Undecodable, messageSID, "the sid of a message, SM… or MM…")
	}
	d.used.service = messageDirection
	switch string(d.textOf(messageDirection)) {
	case "inbound":
		r.Service = price.MessageIn
		d.readParties(r, messageTo, messageFrom)
	case "outbound-api", "outbound-call", "outbound-reply":
		r.Service = price.MessageOut
		d.readParties(r, messageFrom, messageTo)
	default:
		d.refuse(r, Undecodable, messageDirection, "inbound, outbound-api, outbound-call or outbound-reply")
	}
	d.readTwilioSegments(r)
	sent := messageDateSent
	if d.isEmpty(sent) {
		sent = messageDateCreated
	}
	d.readRFC2822(r, sent)
}

// readTwilioSegments reads the segments of a message that was sent or received. Twilio's own count stands, unless it is
// missing or still 0, as it is at first with a Messaging Service: then they are counted from the text.
func (d *Decoder) readTwilioSegments(r *Record) {
	d.used.segments = messageStatus
	switch string(d.textOf(messageStatus)) {
	case "sent", "delivered", "received", "read", "partially_delivered", "delivery_unknown":
	case "failed", "undelivered", "canceled":
		return
	case "accepted", "scheduled", "queued", "sending", "receiving":
		d.refuse(r, Undecodable, messageStatus, "a final status: the message is still on its way")
		return
	default:
		d.refuse(r, Undecodable, messageStatus, "sent, delivered, received, read, failed, undelivered or canceled")
		return
	}
	d.used.segments = messageSegments
	if !d.isEmpty(messageSegments) {
		d.readSegments(r, messageSegments)
	}
	if r.Segments == 0 && r.Problem == None {
		r.Segments = countSegments(d.textOf(messageBody))
		if d.used.segments = messageBody; r.Segments > price.MaxSegments {
			d.refuse(r, OutOfBounds, messageBody, "a text of at most 255 segments")
		}
	}
}
