package book

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// RecordVersion is the newest version of the log's records that this build reads. Whatever an older build would decide
// otherwise (a new kind, a new parameter, a changed rule) needs a new version: a Builder that meets one stops.
const RecordVersion = 1

// MaxIDBytes bounds the id of a record of the book.
const MaxIDBytes = 255

// Record is one decision, as one message of the book log carries it. The kinds are the structs of this file; each has
// the fields of Header.
type Record interface {
	header() *Header
	kind() string
}

// Header is what every record of the book begins with. Encode fills in the version and the kind.
type Header struct {
	// Version is RecordVersion of the build that wrote the record.
	Version int `json:"v"`
	// Kind names the struct, such as "assign".
	Kind string `json:"kind"`
	// ID is chosen by the writer, unique for ever: an append that is repeated because its outcome was unknown counts
	// once. Only heartbeats have none.
	ID string `json:"id,omitempty"`
}

func (h *Header) header() *Header { return h }

// Open begins the life of an installation: from here on nothing can be back-dated, and records are routed.
type Open struct {
	Header
	Installation string `json:"installation"`
	// Shards is the number of shards, fixed for ever.
	Shards int32 `json:"shards"`
}

// Heartbeat only moves the frontier.
type Heartbeat struct{ Header }

// OpenAccount opens an account. Money is decimal strings of its currency.
type OpenAccount struct {
	Header
	// Account is the wished number, or 0 for the next free one.
	Account  uint32 `json:"account,omitempty"`
	Currency string `json:"currency"`
	Plan     string `json:"plan"`
	// Zone is an IANA name; the statement's days are those of the zone.
	Zone string `json:"zone"`
	// Threshold is the low-balance limit; "" is 0.
	Threshold string `json:"threshold,omitempty"`
	// RechargeTo is the balance that a recharge brings the account to; "" or 0 is no recharge.
	RechargeTo string `json:"rechargeTo,omitempty"`
	// Balance is the opening balance; "" is 0.
	Balance string `json:"balance,omitempty"`
}

// ChangePlan gives an account another plan of the same currency.
type ChangePlan struct {
	Header
	Account uint32    `json:"account"`
	Plan    string    `json:"plan"`
	From    time.Time `json:"from,omitzero"` // the wish; zero is as early as may be
}

// ChangeZone moves an account to another zone, at the old zone's first midnight after the frontier.
type ChangeZone struct {
	Header
	Account uint32 `json:"account"`
	Zone    string `json:"zone"`
}

// AssignNumber gives a number without an owner to an account.
type AssignNumber struct {
	Header
	Number  string    `json:"number"` // E.164, such as "+14155550100"
	Account uint32    `json:"account"`
	From    time.Time `json:"from,omitzero"` // the wish; zero is as early as may be
}

// ReleaseNumber takes a number from its owner.
type ReleaseNumber struct {
	Header
	Number string `json:"number"` // E.164
	// Account is who must own the number for the release to count; 0 is anyone.
	Account uint32    `json:"account,omitempty"`
	From    time.Time `json:"from,omitzero"` // the wish; zero is as early as may be
}

// AddPlan names a currency and the tariff by which the accounts of the plan are charged. A plan never changes; its
// tariff gets new versions.
type AddPlan struct {
	Header
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	Tariff   string `json:"tariff"`
}

// AddRows is one chunk of a version of a tariff. The chunks count from 0 and come in any order.
type AddRows struct {
	Header
	Tariff   string `json:"tariff"`
	Revision string `json:"revision"` // the writer's name of the version, unique in the tariff
	Currency string `json:"currency"`
	Chunk    uint32 `json:"chunk"`
	Rows     []Row  `json:"rows"`
}

// ActivateTariff puts a version of a tariff in force. It counts only if every chunk is there and the rows are as many
// as it says.
type ActivateTariff struct {
	Header
	Tariff   string    `json:"tariff"`
	Revision string    `json:"revision"`
	Chunks   uint32    `json:"chunks"`
	Rows     uint32    `json:"rows"`
	From     time.Time `json:"from,omitzero"` // the wish; zero is as early as may be
}

// SetFormat says how the records of a carrier topic are written.
type SetFormat struct {
	Header
	Topic         string `json:"topic"`
	Format        string `json:"format"` // a name of rater/decode
	FormatVersion uint16 `json:"formatVersion"`
	// DefaultCountry is the calling code of national numbers, "" if the carrier writes none.
	DefaultCountry string `json:"defaultCountry,omitempty"`
	// Zone is that of time stamps without one; "" is UTC.
	Zone string `json:"zone,omitempty"`
	// Source is the name within which the carrier's record ids are unique. Topics of one carrier may share it.
	Source string    `json:"source"`
	From   time.Time `json:"from,omitzero"` // the wish; zero is as early as may be
}

// CloseDay closes the statement of a day in a zone, and of all days before it. The day must be over.
type CloseDay struct {
	Header
	Zone string `json:"zone"`
	Day  string `json:"day"` // such as "2026-11-24"
}

// SetParam changes a parameter of the fold in every shard; Params lists them.
type SetParam struct {
	Header
	Param string `json:"param"`
	Value int64  `json:"value"`
}

// RaiseFold raises the version of the fold in every shard.
type RaiseFold struct {
	Header
	FoldVersion int64 `json:"foldVersion"`
}

// Replay decides about a record that was rejected: it is rated by what the book says now. The owner that the number has
// by now at the record's time goes before the account named. The first replay of a record id wins.
type Replay struct {
	Header
	// Topic and Source are where the record came from; the topic's present format reads it.
	Topic     string `json:"topic"`
	TopicID   string `json:"topicId"` // 32 hexadecimal digits
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Ix        uint32 `json:"ix"`
	// Shard, EntryOffset and EntryIx are where the rejected entry lies, for those who ask what became of it.
	Shard       int32  `json:"shard"`
	EntryOffset int64  `json:"entryOffset"`
	EntryIx     uint32 `json:"entryIx"`
	// Raw is the rejected bytes, in base64. Of a message that was rejected whole they are those of one of its records, and
	// Ix is that record's place in it.
	Raw []byte `json:"raw"`
	// Piece is which record of Raw is meant, where that is a whole message all the same; its place is then Ix + Piece.
	Piece uint32 `json:"piece,omitempty"`
	// Account pays where the number had no owner; 0 is none.
	Account uint32 `json:"account,omitempty"`
}

func (*Open) kind() string           { return "open" }
func (*Heartbeat) kind() string      { return "heartbeat" }
func (*OpenAccount) kind() string    { return "account" }
func (*ChangePlan) kind() string     { return "account-plan" }
func (*ChangeZone) kind() string     { return "zone" }
func (*AssignNumber) kind() string   { return "assign" }
func (*ReleaseNumber) kind() string  { return "release" }
func (*AddPlan) kind() string        { return "plan" }
func (*AddRows) kind() string        { return "tariff-rows" }
func (*ActivateTariff) kind() string { return "tariff" }
func (*SetFormat) kind() string      { return "format" }
func (*CloseDay) kind() string       { return "close" }
func (*SetParam) kind() string       { return "param" }
func (*RaiseFold) kind() string      { return "fold-version" }
func (*Replay) kind() string         { return "replay" }

// newRecord gives an empty record of the kind, nil for a kind that there is not.
func newRecord(kind string) Record {
	switch kind {
	case "open":
		return &Open{}
	case "heartbeat":
		return &Heartbeat{}
	case "account":
		return &OpenAccount{}
	case "account-plan":
		return &ChangePlan{}
	case "zone":
		return &ChangeZone{}
	case "assign":
		return &AssignNumber{}
	case "release":
		return &ReleaseNumber{}
	case "plan":
		return &AddPlan{}
	case "tariff-rows":
		return &AddRows{}
	case "tariff":
		return &ActivateTariff{}
	case "format":
		return &SetFormat{}
	case "close":
		return &CloseDay{}
	case "param":
		return &SetParam{}
	case "fold-version":
		return &RaiseFold{}
	case "replay":
		return &Replay{}
	}
	return nil
}

// heartbeat is the message of every heartbeat.
var heartbeat = []byte(`{"v":1,"kind":"heartbeat"}`)

// Encode gives the message of a record for the book log. It sets the version and the kind; the id is the caller's, and
// only a heartbeat may lack it. A record that Encode refuses could never be accepted.
func Encode(r Record) ([]byte, error) {
	h := r.header()
	h.Version, h.Kind = RecordVersion, r.kind()
	if err := h.validate(); err != nil {
		return nil, err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode record %q of the book: %w", h.ID, err)
	}
	return value, nil
}

func (h *Header) validate() error {
	if h.Kind != "heartbeat" && h.ID == "" || len(h.ID) > MaxIDBytes {
		return fmt.Errorf("record of kind %q has an id of %d bytes: use 1 to %d", h.Kind, len(h.ID), MaxIDBytes)
	}
	return nil
}

// errNewer is what decodeRecord says of a record that a newer build wrote.
var errNewer = errors.New("the record needs a newer build of tollgate")

// decodeRecord reads a message of the book log, strictly: a field that the kind does not have is an error. It wraps
// errNewer if the version is beyond RecordVersion; then nothing but the header is looked at.
func decodeRecord(value []byte) (Record, error) {
	if bytes.Equal(value, heartbeat) {
		return &Heartbeat{Header{Version: RecordVersion, Kind: "heartbeat"}}, nil
	}
	if r := plainRecord(value); r != nil {
		return r, r.header().validate()
	}
	return decodeStrictly(value)
}

// decodeStrictly reads a message of whatever form.
func decodeStrictly(value []byte) (Record, error) {
	h, err := peekHeader(value)
	if err != nil {
		return nil, err
	}
	if h.Version > RecordVersion {
		return nil, fmt.Errorf("record %q of kind %q has version %d: %w", h.ID, h.Kind, h.Version, errNewer)
	}
	r := newRecord(h.Kind)
	if h.Version < 1 || r == nil {
		return nil, fmt.Errorf("no record of the book has version %d and kind %q", h.Version, h.Kind)
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("not a record of kind %q: %w", h.Kind, err)
	}
	if rest := bytes.TrimSpace(value[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("record %q is followed by %d bytes", r.header().ID, len(rest))
	}
	if full := r.header(); full.Kind != h.Kind || full.Version != h.Version {
		return nil, fmt.Errorf("record %q names its kind or version twice", full.ID)
	}
	return r, r.header().validate()
}

// peekHeader reads the version and the kind. Encode writes them first, so that nearly always a look at the first bytes
// is enough; for others the whole is parsed.
func peekHeader(value []byte) (h Header, err error) {
	if rest, ok := bytes.CutPrefix(value, []byte(`{"v":1,"kind":"`)); ok {
		if kind, _, ok := bytes.Cut(rest, []byte(`"`)); ok && newRecord(string(kind)) != nil {
			return Header{Version: 1, Kind: string(kind)}, nil
		}
	}
	if err := json.Unmarshal(value, &h); err != nil {
		return h, fmt.Errorf("not a record of the book: %w", err)
	}
	return h, nil
}
