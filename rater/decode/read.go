package decode

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tollgate/tollgate/rater/price"
)

// usedSlots says from which slots the fields of a record were read, for Fields.
type usedSlots struct{ service, number, peer, id, event, duration, segments slot }

// refuse marks the record as refused for the value of a slot, unless it is already: the first reason stands.
func (d *Decoder) refuse(r *Record, problem Problem, s slot, want string) {
	if r.Problem == None {
		r.Problem, r.Detail = problem, fmt.Sprintf("%s is %s: want %s", d.keyOf(s), d.shown(s), want)
	}
}

// shown gives the value of a slot as it was written, cut to what a line can bear.
func (d *Decoder) shown(s slot) string {
	const most = 60
	v := d.values[s]
	if v.kind == isAbsent {
		return "missing"
	}
	written, cut := d.data[v.start:v.end], ""
	if len(written) > most {
		written, cut = written[:most], "…"
	}
	if v.kind == isText {
		return strconv.Quote(string(written)) + cut
	}
	return string(written) + cut
}

// keyOf is the carrier's name of a slot.
func (d *Decoder) keyOf(s slot) string {
	switch d.format {
	case Tollgate:
		return tollgateKeys[s]
	case DIDWWVoiceIn:
		return didwwKeys[s]
	case TwilioCall:
		return twilioCallKeys[s]
	}
	return twilioMessageKeys[s]
}

// textOf gives the string in a slot with its escapes resolved; empty when there is none.
func (d *Decoder) textOf(s slot) []byte {
	v := d.values[s]
	if v.kind != isText {
		return nil
	}
	written := d.data[v.start:v.end:v.end]
	if !v.escaped {
		return written
	}
	start := len(d.scratch)
	d.scratch = unescape(d.scratch, written)
	return d.scratch[start:len(d.scratch):len(d.scratch)]
}

// isEmpty tells whether a slot holds nothing: no key, null or "".
func (d *Decoder) isEmpty(s slot) bool {
	v := d.values[s]
	return v.kind == isAbsent || v.kind == isNull || v.kind == isText && v.start == v.end
}

// legible tells whether a string is valid UTF-8 without control characters and without the mark of a lost character.
func legible(read []byte) bool {
	all := byte(0)
	for _, c := range read {
		if c < ' ' {
			return false
		}
		all |= c
	}
	return all < utf8.RuneSelf || utf8.Valid(read) && !bytes.Contains(read, []byte("\uFFFD"))
}

func (d *Decoder) readID(r *Record, s slot) {
	d.used.id = s
	id := d.textOf(s)
	if len(id) == 0 || len(id) > MaxIDBytes || !legible(id) {
		d.refuse(r, Undecodable, s, "a legible string of 1 to 255 bytes")
		return
	}
	r.ID = id
}

// readParties reads the account's own number and the other party.
func (d *Decoder) readParties(r *Record, own, peer slot) {
	d.used.number, d.used.peer = own, peer
	r.NumberText = d.textOf(own)
	var ok bool
	if r.Number, ok = ParseNumber(r.NumberText, d.mapping.DefaultCountry); !ok {
		d.refuse(r, Undecodable, own, "a telephone number")
	}
	name := d.textOf(peer)
	if len(name) > MaxPeerBytes || !legible(name) || name == nil && !d.isEmpty(peer) {
		d.refuse(r, Undecodable, peer, "a legible string of at most 255 bytes")
		return
	}
	r.Peer = name
}

// readEvent keeps the time that a slot was read as.
func (d *Decoder) readEvent(r *Record, s slot, ms int64, ok bool, want string) {
	d.used.event = s
	if !ok || ms < minEventMs || ms > maxEventMs {
		d.refuse(r, Undecodable, s, want)
		return
	}
	r.EventMs = ms
}

func (d *Decoder) readRFC2822(r *Record, s slot) {
	ms, ok := parseRFC2822(d.textOf(s))
	d.readEvent(r, s, ms, ok, "a time of RFC 2822, such as Tue, 31 Aug 2010 20:36:29 +0000")
}

func (d *Decoder) readDuration(r *Record, s slot) {
	d.used.duration = s
	r.DurationSeconds = d.readCount(r, s, price.MaxDurationSeconds, "whole seconds")
}

func (d *Decoder) readSegments(r *Record, s slot) {
	d.used.segments = s
	r.Segments = d.readCount(r, s, price.MaxSegments, "a number of segments")
}

// readCount reads digits, as a JSON number or in a string.
func (d *Decoder) readCount(r *Record, s slot, most uint32, want string) uint32 {
	v := d.values[s]
	written := d.data[v.start:v.end]
	if v.kind != isText && v.kind != isNumber {
		d.refuse(r, Undecodable, s, want)
		return 0
	}
	if v.escaped {
		written = d.textOf(s)
	}
	count, problem := parseCount(written)
	if problem == None && count > most {
		problem = OutOfBounds
	}
	if problem != None {
		d.refuse(r, problem, s, fmt.Sprintf("%s, 0 to %d", want, most))
		return 0
	}
	return count
}

// parseCount reads digits; a whole number below zero or beyond 32 bits is out of bounds.
func parseCount(s []byte) (count uint32, problem Problem) {
	negative := len(s) > 1 && s[0] == '-'
	if negative {
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, Undecodable
	}
	n := uint64(0)
	for _, c := range s {
		if c-'0' > 9 {
			return 0, Undecodable
		}
		n = min(n*10+uint64(c-'0'), math.MaxUint32+1)
	}
	if n > math.MaxUint32 || negative && n > 0 {
		return 0, OutOfBounds
	}
	return uint32(n), None
}

// Field is one line of what a record became: the field's name, the carrier's key that it was read from, and its value.
type Field struct{ Name, Key, Value string }

// Fields lists what the record that Next gave last became, in a fixed order, for `tollgate decode`. Fields that
// could not be read, or that the record's service does not have, are left out.
func (d *Decoder) Fields(r *Record) []Field {
	var fields []Field
	add := func(name string, s slot, value string) {
		key := ""
		if s != ignored {
			key = d.keyOf(s)
		}
		if value != "" {
			fields = append(fields, Field{name, key, value})
		}
	}
	if r.Service.Valid() {
		add("service", d.used.service, r.Service.String())
	}
	if r.Number != 0 {
		add("number", d.used.number, "+"+strconv.FormatUint(r.Number, 10))
	}
	add("peer", d.used.peer, string(r.Peer))
	add("id", d.used.id, string(r.ID))
	if r.EventMs != 0 {
		add("event", d.used.event, time.UnixMilli(r.EventMs).UTC().Format("2006-01-02T15:04:05.999Z"))
	}
	if r.Problem == None && r.Service.Voice() {
		add("duration", d.used.duration, fmt.Sprintf("%d s", r.DurationSeconds))
	}
	if r.Problem == None && !r.Service.Voice() {
		add("segments", d.used.segments, strconv.FormatUint(uint64(r.Segments), 10))
	}
	add("problem", ignored, r.Problem.String())
	add("detail", ignored, r.Detail)
	return fields
}
