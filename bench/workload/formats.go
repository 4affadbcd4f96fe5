package workload

import (
	"math"
	"strconv"
	"time"
)

const (
	// noTime is the event time of a record that is written with impossibleTime for every time in it: malformed although
	// it is well-formed JSON.
	noTime         = math.MinInt64
	impossibleTime = "yesterday"
)

// appendBroken appends a record of which something is missing, or something else in its place.
func (g *Generator) appendBroken(dst []byte, r *Info) []byte {
	start := len(dst)
	switch g.dice.below(3) {
	case 0:
		return append(dst, "<html><title>502 Bad Gateway</title></html>"...)
	case 1:
		spoilt := *r
		spoilt.EventMs = noTime
		return g.appendRecord(dst, &spoilt)
	}
	dst = g.appendRecord(dst, r)
	return dst[:start+1+int(g.dice.below(uint64(len(dst)-start-1)))]
}

// endMs is when the call ended.
func (r *Info) endMs() int64 {
	if r.EventMs == noTime {
		return noTime
	}
	return r.EventMs + int64(r.DurationSeconds)*secondMs
}

// appendRecord writes a record in the workload's format.
func (g *Generator) appendRecord(dst []byte, r *Info) []byte {
	switch g.config.Format {
	case DIDWW:
		return g.appendDIDWW(dst, r)
	case TwilioCall:
		return g.appendTwilioCall(dst, r)
	case TwilioMessage:
		return g.appendTwilioMessage(dst, r)
	}
	return g.appendTollgate(dst, r)
}

var (
	trunks   = [...]string{"us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-west-3"}
	failures = [...]string{"no-answer", "busy", "canceled", "failed"}
)

func (g *Generator) appendTollgate(dst []byte, r *Info) []byte {
	dst = append(dst, `{"id":"`...)
	dst = g.appendID(dst, r.Sequence)
	if r.Service.voice() {
		dst = append(dst, `","type":"call"`...)
	} else {
		dst = append(dst, `","type":"message"`...)
	}
	from, to := r.Number, r.Peer
	if r.Service.inbound() {
		from, to = to, from
		dst = append(dst, `,"direction":"inbound","from":"`...)
	} else {
		dst = append(dst, `,"direction":"outbound","from":"`...)
	}
	dst = appendNumber(dst, from)
	dst = append(dst, `","to":"`...)
	dst = appendNumber(dst, to)
	dst = append(dst, `","start":"`...)
	dst = g.calendar.append(dst, r.EventMs)
	if r.Service.voice() {
		dst = appendTollgateTalk(dst, r)
	} else {
		dst = append(dst, `","segments":`...)
		dst = strconv.AppendUint(dst, uint64(r.Segments), 10)
		dst = append(dst, `,"status":"delivered","encoding":"gsm-7`...)
	}
	dst = append(dst, `","trunk":"`...)
	dst = append(dst, trunks[r.Sequence%uint64(len(trunks))]...)
	return append(dst, `","carrier_price":"-0.00850","currency":"USD","attempt":1}`...)
}

// appendTollgateTalk writes how long a call was. That of an unanswered call is how long it rang: no talk time.
func appendTollgateTalk(dst []byte, r *Info) []byte {
	dst = append(dst, `","duration":`...)
	if r.DurationSeconds == 0 {
		dst = strconv.AppendUint(dst, r.Sequence%40, 10)
		dst = append(dst, `,"answered":false,"hangup":"`...)
		return append(dst, failures[r.Sequence%uint64(len(failures))]...)
	}
	dst = strconv.AppendUint(dst, uint64(r.DurationSeconds), 10)
	return append(dst, `,"answered":true,"hangup":"normal-clearing`...)
}

func (g *Generator) appendDIDWW(dst []byte, r *Info) []byte {
	dst = append(dst, `{"type":"inbound-cdr","id":"`...)
	dst = g.appendUUID(dst, r.Sequence)
	dst = append(dst, `","attributes":{"local_tag":"10-04336EB9-5DBAF4AA000E6DDB-6A41F700","disconnect_initiator":1,"duration":`...)
	dst = strconv.AppendUint(dst, uint64(r.DurationSeconds), 10)
	dst = append(dst, `,"is_last_cdr":true,"customer_vat":0,"success":`...)
	dst = strconv.AppendBool(dst, r.DurationSeconds > 0)
	dst = append(dst, `,"dst_number":"`...)
	dst = strconv.AppendUint(dst, r.Number, 10)
	dst = append(dst, `","time_connect":`...)
	if r.DurationSeconds > 0 {
		dst = append(dst, '"')
		dst = appendTime(dst, r.EventMs, "2006-01-02 15:04:05.000000")
		dst = append(dst, '"')
	} else {
		dst = append(dst, `null`...)
	}
	dst = append(dst, `,"time_start":"`...)
	dst = appendTime(dst, r.EventMs, "2006-01-02 15:04:05.000000")
	dst = append(dst, `","time_end":"`...)
	dst = appendTime(dst, r.endMs(), "2006-01-02 15:04:05.000000")
	dst = append(dst, `","did_number":"`...)
	dst = strconv.AppendUint(dst, r.Number, 10)
	dst = append(dst, `","src_name":"","src_number":"`...)
	if r.Peer != 0 {
		dst = strconv.AppendUint(dst, r.Peer, 10)
	}
	return append(dst, `","trm_duration":null,"tf_duration":null,"metered_channels_amount":null,"internal_disconnect_code":200,`+
		`"out_pop_id":1,"routing_attempt":1,"is_redirected":false,"user_agent":null}}`...)
}

const rfc2822 = "Mon, 02 Jan 2006 15:04:05 -0700"

func (g *Generator) appendTwilioCall(dst []byte, r *Info) []byte {
	dst = append(dst, `{"sid":"CA`...)
	dst = g.appendSID(dst, r.Sequence)
	dst = append(dst, `","account_sid":"AC00000000000000000000000000000001","answered_by":null,"api_version":"2010-04-01","date_created":"`...)
	dst = appendTime(dst, r.EventMs, rfc2822)
	dst = append(dst, `","date_updated":"`...)
	dst = appendTime(dst, r.endMs(), rfc2822)
	from, to := r.Number, r.Peer
	if r.Service.inbound() {
		from, to = to, from
		dst = append(dst, `","direction":"inbound","duration":"`...)
	} else {
		dst = append(dst, `","direction":"outbound-api","duration":"`...)
	}
	dst = strconv.AppendUint(dst, uint64(r.DurationSeconds), 10)
	dst = append(dst, `","end_time":"`...)
	dst = appendTime(dst, r.endMs(), rfc2822)
	dst = append(dst, `","from":"`...)
	dst = appendNumber(dst, from)
	dst = append(dst, `","parent_call_sid":null,"price":null,"price_unit":"USD","start_time":"`...)
	dst = appendTime(dst, r.EventMs, rfc2822)
	dst = append(dst, `","status":"`...)
	if r.DurationSeconds > 0 {
		dst = append(dst, `completed`...)
	} else {
		dst = append(dst, failures[r.Sequence%uint64(len(failures))]...)
	}
	dst = append(dst, `","to":"`...)
	dst = appendNumber(dst, to)
	return append(dst, `"}`...)
}

func (g *Generator) appendTwilioMessage(dst []byte, r *Info) []byte {
	dst = append(dst, `{"sid":"SM`...)
	dst = g.appendSID(dst, r.Sequence)
	dst = append(dst, `","account_sid":"AC00000000000000000000000000000001","api_version":"2010-04-01","body":"See you at ten.","date_created":"`...)
	dst = appendTime(dst, r.EventMs, rfc2822)
	dst = append(dst, `","date_sent":"`...)
	dst = appendTime(dst, r.EventMs, rfc2822)
	from, to, status := r.Number, r.Peer, "delivered"
	if r.Service.inbound() {
		from, to, status = to, from, "received"
		dst = append(dst, `","direction":"inbound","error_code":null,"from":"`...)
	} else {
		dst = append(dst, `","direction":"outbound-api","error_code":null,"from":"`...)
	}
	dst = appendNumber(dst, from)
	dst = append(dst, `","num_media":"0","num_segments":"`...)
	dst = strconv.AppendUint(dst, uint64(r.Segments), 10)
	dst = append(dst, `","price":null,"price_unit":"USD","status":"`...)
	dst = append(dst, status...)
	dst = append(dst, `","to":"`...)
	dst = appendNumber(dst, to)
	return append(dst, `"}`...)
}

// appendNumber writes a number as +E.164; one that is hidden is "anonymous".
func appendNumber(dst []byte, number uint64) []byte {
	if number == 0 {
		return append(dst, "anonymous"...)
	}
	return strconv.AppendUint(append(dst, '+'), number, 10)
}

// A record's id names the seed (12 hexadecimal digits of its mix), the stream (4) and the sequence (12).

// identityOf gives the part of the id that a generator's records share.
func identityOf(seed uint64, stream uint16) (identity [16]byte) {
	appendHexDigits(appendHexDigits(identity[:0], mix(seed), 12), uint64(stream), 4)
	return identity
}

func (g *Generator) appendID(dst []byte, sequence uint64) []byte {
	return appendHexDigits(append(dst, g.identity[:]...), sequence, 12)
}

func (g *Generator) appendSID(dst []byte, sequence uint64) []byte {
	return append(g.appendID(dst, sequence), "0000"...)
}

func (g *Generator) appendUUID(dst []byte, sequence uint64) []byte {
	dst = append(append(dst, g.identity[:8]...), '-')
	dst = append(append(dst, g.identity[8:12]...), '-')
	dst = append(append(dst, g.identity[12:]...), "-8000-"...)
	return appendHexDigits(dst, sequence, 12)
}

// appendHexDigits writes the lowest digits of v.
func appendHexDigits(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&15])
	}
	return dst
}

func appendTime(dst []byte, ms int64, layout string) []byte {
	if ms == noTime {
		return append(dst, impossibleTime...)
	}
	return time.UnixMilli(ms).UTC().AppendFormat(dst, layout)
}

// calendar writes times quickly: it keeps the date that it wrote last. Its zero value has 1 January 1970 to write.
type calendar struct {
	day  int64
	date [len("2006-01-02T")]byte
}

// append writes a time as "2006-01-02T15:04:05.000Z".
func (c *calendar) append(dst []byte, ms int64) []byte {
	if ms == noTime {
		return append(dst, impossibleTime...)
	}
	const dayMs = 24 * hourMs
	day := ms / dayMs
	if day != c.day || c.date[0] == 0 {
		c.day = day
		time.UnixMilli(ms).UTC().AppendFormat(c.date[:0], "2006-01-02T")
	}
	ms -= day * dayMs
	dst = append(dst, c.date[:]...)
	dst = append(appendTwo(dst, ms/hourMs), ':')
	dst = append(appendTwo(dst, ms/minuteMs%60), ':')
	dst = append(appendTwo(dst, ms/secondMs%60), '.')
	return append(appendTwo(append(dst, byte('0'+ms%1000/100)), ms%100), 'Z')
}

func appendTwo(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
