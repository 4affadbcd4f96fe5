package decode

import (
	"time"

	"github.com/tollgate/tollgate/rater/price"
)

// The keys of a DIDWW record, and of its attributes.
const (
	didwwType = firstSlot + iota
	didwwID
)
const (
	didwwNumber = firstInner + iota
	didwwSource
	didwwTimeStart
	didwwTimeConnect
	didwwDuration
)

var didwwKeys = [slotCount]string{didwwType: "type", didwwID: "id", nested: "attributes", didwwNumber: "attributes.did_number",
	didwwSource: "attributes.src_number", didwwTimeStart: "attributes.time_start",
	didwwTimeConnect: "attributes.time_connect", didwwDuration: "attributes.duration"}

func didwwSlot(key []byte, level int) slot {
	if level == 0 {
		switch string(key) {
		case "type":
			return didwwType
		case "id":
			return didwwID
		case "attributes":
			return nested
		}
		return ignored
	}
	switch string(key) {
	case "did_number":
		return didwwNumber
	case "src_number":
		return didwwSource
	case "time_start":
		return didwwTimeStart
	case "time_connect":
		return didwwTimeConnect
	case "duration":
		return didwwDuration
	}
	return ignored
}

// readDIDWW reads a record of the Voice IN stream. A call makes one record per routing attempt, each with an id of its
// own; only an attempt that was connected has a duration.
func (d *Decoder) readDIDWW(r *Record) {
	d.used.service = didwwType
	if string(d.textOf(didwwType)) != "inbound-cdr" {
		d.refuse(r, Undecodable, didwwType, `"inbound-cdr": other records do not belong on this topic`)
		return
	}
	r.Service = price.VoiceIn
	d.readID(r, didwwID)
	d.readParties(r, didwwNumber, didwwSource)
	zone := d.mapping.Zone
	if zone == nil {
		zone = time.UTC
	}
	ms, ok := parseISO(d.textOf(didwwTimeStart), zone)
	d.readEvent(r, didwwTimeStart, ms, ok, "a time such as 2019-10-31 14:50:18.930234")
	switch d.values[didwwTimeConnect].kind {
	case isNull:
		d.used.duration = didwwTimeConnect
	case isText:
		d.readDuration(r, didwwDuration)
	default:
		d.refuse(r, Undecodable, didwwTimeConnect, "a time, or null for a call that was not connected")
	}
}
