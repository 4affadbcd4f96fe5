// Package decode turns the bytes of a carrier's message into records: who, when, how long, in one shape for all
// carriers. It is the first step of the rate stage; rater/book finds the owner and the tariff afterwards.
//
// What it yields is a function of format, version, mapping and bytes alone: the same in every process at any time. It
// never fails: what cannot be understood is a refused record with its raw bytes and the reason. It allocates only
// for refusals, never looks at a clock, and never reads the carrier's own price.
package decode

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tollgate/tollgate/rater/price"
)

// Format is the shape in which a carrier writes its records. The numbers are in the book; they never change meaning.
type Format uint8

// The formats. README.md in this folder documents each field by field.
const (
	// Tollgate is Tollgate's own JSON, for those who have no carrier format.
	Tollgate Format = 1
	// DIDWWVoiceIn is DIDWW's stream of inbound call-detail records.
	DIDWWVoiceIn Format = 2
	// TwilioCall is Twilio's Call resource.
	TwilioCall Format = 3
	// TwilioMessage is Twilio's Message resource.
	TwilioMessage Format = 4
)

var formatNames = [...]string{Tollgate: "tollgate", DIDWWVoiceIn: "didww-voice-in", TwilioCall: "twilio-call", TwilioMessage: "twilio-message"}

// A change that could alter number, id, time or count of the records of some message is a new version of its format,
// which the book activates; the old version stays.
var newestVersions = [...]uint16{Tollgate: 1, DIDWWVoiceIn: 1, TwilioCall: 1, TwilioMessage: 1}

// Formats lists every format, in the order of their numbers.
func Formats() []Format { return []Format{Tollgate, DIDWWVoiceIn, TwilioCall, TwilioMessage} }

// String gives the name that the configuration and the command line use, such as "twilio-call".
func (f Format) String() string {
	if f.Newest() > 0 {
		return formatNames[f]
	}
	return fmt.Sprintf("format-%d", uint8(f))
}

// Newest is the newest version of the format that this build knows, or 0 for an unknown format.
func (f Format) Newest() uint16 {
	if int(f) < len(newestVersions) {
		return newestVersions[f]
	}
	return 0
}

// Knows tells whether this build can decode the version of the format. A process that meets another in the book must
// leave the work to a newer build.
func (f Format) Knows(version uint16) bool { return version >= 1 && version <= f.Newest() }

// ParseFormat reads a name as String writes it.
func ParseFormat(name string) (Format, error) {
	for _, f := range Formats() {
		if formatNames[f] == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("unknown format %q: use one of %s", name, strings.Join(formatNames[Tollgate:], ", "))
}

// Mapping is what the book says about a carrier topic besides its format. The zero Mapping takes bare digits for
// international numbers and stamps without a zone for UTC.
type Mapping struct {
	// DefaultCountry is the calling code that national numbers belong to, such as "1" or "44"; "" when the carrier
	// writes international numbers only.
	DefaultCountry string
	// Zone is the zone of time stamps that name none; nil is UTC.
	Zone *time.Location
}

// Validate says what is wrong with the mapping, if anything.
func (m *Mapping) Validate() error {
	code, err := strconv.ParseUint(m.DefaultCountry, 10, 16)
	if m.DefaultCountry == "" || err == nil && code > 0 && code < 1000 && m.DefaultCountry[0] >= '1' {
		return nil
	}
	return fmt.Errorf("default country %q is not a calling code: use 1 to 3 digits, such as 1 or 44", m.DefaultCountry)
}

// Limits on what one message may hold. They are part of the formats' versions: another limit is another version.
const (
	// MaxMessageBytes bounds a message, and what a compressed one may grow to: 64 MiB.
	MaxMessageBytes = 64 << 20
	// MaxRecordsPerMessage bounds the records of one message. A message with more is refused whole, as one record.
	MaxRecordsPerMessage = 100_000
	// MaxIDBytes bounds the id of a record.
	MaxIDBytes = 255
	// MaxPeerBytes bounds the other party's number or name.
	MaxPeerBytes = 255
)

// Problem says why a record was refused.
type Problem uint8

// The problems.
const (
	// None is that of a record that can be rated.
	None Problem = 0
	// Undecodable is a record that is not what its format says.
	Undecodable Problem = 1
	// OutOfBounds is a record with an absurd duration or number of segments.
	OutOfBounds Problem = 2
)

// String gives the problem in a word, or "" for None.
func (p Problem) String() string {
	return [...]string{None: "", Undecodable: "undecodable", OutOfBounds: "out-of-bounds"}[p]
}

// Record is one call or message as the carrier states it. A refused record carries what could be read of it. The slices
// alias the message or the decoder's buffers: they hold until the next call of Next or Reset.
type Record struct {
	Service price.Service
	Problem Problem
	// Number is the account's own number, its E.164 digits as a number: the called one of inbound records, else the
	// calling one. NumberText is how the carrier wrote it.
	Number     uint64
	NumberText []byte
	// Peer is the other party's number or name as the carrier wrote it; may be empty, at most MaxPeerBytes.
	Peer []byte
	// ID is the carrier's id of the record, unique within its source and kind of service; 1 to MaxIDBytes bytes.
	ID []byte
	// EventMs is the start of the call or the sending of the message, milliseconds since 1970 UTC.
	EventMs int64
	// DurationSeconds is the stated duration of a call; 0 if it was not answered.
	DurationSeconds uint32
	// Segments is the segments of a message that are to be billed.
	Segments uint32
	// Raw is the bytes of this record inside the message, decompressed.
	Raw []byte
	// Detail says, for people, which field of a refused record is wrong and what was wanted.
	Detail string
}
