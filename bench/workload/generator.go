package workload

import "math"

// Service is what a record is about. Names and numbers are those of the product's tariffs.
type Service uint8

// The services, seen from the account's number.
const (
	VoiceIn Service = iota + 1
	VoiceOut
	MessageIn
	MessageOut
)

// String gives the service's name, such as "voice-in".
func (s Service) String() string {
	return [...]string{VoiceIn: "voice-in", VoiceOut: "voice-out", MessageIn: "message-in", MessageOut: "message-out"}[s]
}

func (s Service) voice() bool   { return s <= VoiceOut }
func (s Service) inbound() bool { return s == VoiceIn || s == MessageIn }

// Kind is what must become of a record.
type Kind uint8

// The kinds.
const (
	// Valid is a record that must be charged (an unanswered call: with nothing).
	Valid Kind = iota
	// Duplicate is an exact copy of an earlier Valid record, and must not be charged.
	Duplicate
	// UnknownNumber must be refused, because no account has the number.
	UnknownNumber
	// Malformed must be refused, because it cannot be decoded.
	Malformed
	// NoPrice must be refused, because the account's tariff has no row for the number called.
	NoPrice
	// OutOfBounds must be refused, because a call cannot last, or a message be, that long.
	OutOfBounds
	// TooFarAhead must be refused, because it is dated into the future.
	TooFarAhead
	// KindCount is the number of kinds.
	KindCount
)

// String gives the kind's name; those of refused records are the product's reasons, such as "unknown-number".
func (k Kind) String() string {
	return [...]string{Valid: "valid", Duplicate: "duplicate", UnknownNumber: "unknown-number", Malformed: "undecodable",
		NoPrice: "no-price", OutOfBounds: "out-of-bounds", TooFarAhead: "too-far-ahead"}[k]
}

// HistoryMs is how far an event lies before the nowMs of its record at most: numbers and tariffs must be in force that
// long before the first nowMs.
const HistoryMs = (60 + 11) * hourMs

const (
	secondMs = int64(1000)
	minuteMs = 60 * secondMs
	hourMs   = 60 * minuteMs
	// longestTalkSeconds ends the tail of talk times where real months do.
	longestTalkSeconds = 36_000
	// nearbyRecords is how far back copies of recent records go.
	nearbyRecords = 64
)

// Info tells what a record is.
type Info struct {
	Kind    Kind
	Service Service
	// Account is the number of the account; 0 if the record's number has none.
	Account uint32
	// Number is the account's number, and Peer the other party's (0 if hidden), as E.164 digits.
	Number, Peer uint64
	// Sequence counts the calls of Append from 0; that of a Duplicate is the Sequence of the original.
	Sequence uint64
	// EventMs is the start of the call or the sending of the message, milliseconds since 1970 UTC.
	EventMs int64
	// LateMs is how long before nowMs the record ended; negative if in the future. A copy repeats its original's.
	LateMs int64
	// DurationSeconds is the stated duration of a call; 0 if it was not answered.
	DurationSeconds uint32
	// Segments is the segments of a message.
	Segments uint32
}

// Counts adds up what a generator made. Everything below ByKind counts Valid records only.
type Counts struct {
	// ByKind counts the records of each kind.
	ByKind [KindCount]uint64
	// Calls and Answered count calls, Messages text messages.
	Calls, Answered, Messages uint64
	// TalkSeconds is the sum of the durations, Segments that of the segments.
	TalkSeconds, Segments uint64
	// LateHour and LateDay count records that ended 1 hour to 1 day, and more, before they were made.
	LateHour, LateDay uint64
}

// Records is the number of records, copies and refused ones included.
func (c *Counts) Records() uint64 {
	total := uint64(0)
	for _, n := range c.ByKind {
		total += n
	}
	return total
}

// Refused is the number of records that must be refused.
func (c *Counts) Refused() uint64 { return c.Records() - c.ByKind[Valid] - c.ByKind[Duplicate] }

// Add adds the counts of another generator.
func (c *Counts) Add(other *Counts) {
	for k, n := range other.ByKind {
		c.ByKind[k] += n
	}
	c.Calls += other.Calls
	c.Answered += other.Answered
	c.Messages += other.Messages
	c.TalkSeconds += other.TalkSeconds
	c.Segments += other.Segments
	c.LateHour += other.LateHour
	c.LateDay += other.LateDay
}

func (c *Counts) count(r *Info) {
	c.ByKind[r.Kind]++
	if r.Kind != Valid {
		return
	}
	if r.Service.voice() {
		c.Calls++
		c.TalkSeconds += uint64(r.DurationSeconds)
		if r.DurationSeconds > 0 {
			c.Answered++
		}
	} else {
		c.Messages++
		c.Segments += uint64(r.Segments)
	}
	switch {
	case r.LateMs >= 24*hourMs:
		c.LateDay++
	case r.LateMs >= hourMs:
		c.LateHour++
	}
}

// Generator makes one stream of records. It belongs to one goroutine; many may share a Workload.
type Generator struct {
	workload *Workload
	config   *Config
	identity [16]byte // what the ids of its records begin with
	key      uint64   // of the stream's dice
	next     uint64   // sequence of the next record
	dice     dice
	recent   []birth // the latest valid records: a ring
	born     uint64  // valid records so far
	calendar calendar
	counts   Counts
}

// birth is all that is needed to make a record again.
type birth struct {
	sequence uint64
	nowMs    int64
}

// Generator makes the generator of one stream of the workload. Streams are independent: no two have a record id in common.
func (w *Workload) Generator(stream uint16) *Generator {
	seed := w.config.Seed
	g := &Generator{workload: w, config: &w.config, identity: identityOf(seed, stream), key: mix(seed^saltRecords) + mix(uint64(stream))}
	if w.config.DuplicateShare > 0 {
		g.recent = make([]birth, w.config.DuplicateReach)
	}
	return g
}

// Counts gives what the generator has made so far.
func (g *Generator) Counts() Counts { return g.counts }

// Append appends one record, as the carrier that writes it at nowMs (milliseconds since 1970 UTC) would, and tells what
// it is. It does not allocate when dst has room.
func (g *Generator) Append(dst []byte, nowMs int64) ([]byte, Info) {
	r := g.draw(nowMs)
	if r.Kind == Malformed {
		return g.appendBroken(dst, &r), r
	}
	return g.appendRecord(dst, &r), r
}

// Layout is how several records share one message.
type Layout uint8

// The layouts.
const (
	// Lines is one record a line (NDJSON).
	Lines Layout = iota
	// Array is one JSON array.
	Array
)

// AppendMessage appends a message of count records, and what each of them is to infos. Its Malformed records are
// well-formed JSON with an impossible time: anything worse could take its neighbours along.
func (g *Generator) AppendMessage(dst []byte, infos []Info, nowMs int64, layout Layout, count int) ([]byte, []Info) {
	separator := byte('\n')
	if layout == Array {
		separator = ','
		dst = append(dst, '[')
	}
	for i := range count {
		if i > 0 {
			dst = append(dst, separator)
		}
		r := g.draw(nowMs)
		infos = append(infos, r)
		if r.Kind == Malformed {
			r.EventMs = noTime
		}
		dst = g.appendRecord(dst, &r)
	}
	if layout == Array {
		dst = append(dst, ']')
	}
	return dst, infos
}

// draw decides what comes next: a copy of an earlier record, or a new one.
func (g *Generator) draw(nowMs int64) Info {
	sequence := g.next
	g.next++
	r := Info{}
	if g.beginsCopy(sequence) && g.born > 0 {
		original := g.drawOriginal()
		g.beginsCopy(original.sequence)
		r = g.compose(original)
		r.Kind = Duplicate
	} else {
		r = g.compose(birth{sequence: sequence, nowMs: nowMs})
	}
	if r.Kind == Valid && len(g.recent) > 0 {
		g.recent[g.born%uint64(len(g.recent))] = birth{sequence: sequence, nowMs: nowMs}
		g.born++
	}
	g.counts.count(&r)
	return r
}

// beginsCopy starts the dice of a record; its first draw tells whether a copy is wanted instead.
func (g *Generator) beginsCopy(sequence uint64) bool {
	g.dice.seed(g.key, sequence)
	return g.dice.fraction() < g.config.DuplicateShare
}

func (g *Generator) drawOriginal() birth {
	kept := min(g.born, uint64(len(g.recent)))
	reach := kept
	if g.dice.fraction() < 0.5 {
		reach = min(kept, nearbyRecords)
	}
	return g.recent[(g.born-1-g.dice.below(reach))%uint64(len(g.recent))]
}

// compose makes the record of a birth, with the dice behind its first draw. The same birth gives the same record.
func (g *Generator) compose(b birth) Info {
	d := &g.dice
	r := Info{Sequence: b.sequence, Kind: g.drawKind()}
	r.Service = g.drawService()
	switch r.Kind {
	case NoPrice:
		r.Service = VoiceOut
	case OutOfBounds:
		if !r.Service.voice() && g.config.Format != TwilioMessage {
			r.Service -= MessageIn - VoiceIn // the call of the same direction
		}
	}
	index := g.workload.busy.draw(d)
	number := g.workload.numberOf(index, int(d.below(uint64(g.config.NumbersPerAccount))))
	r.Account, r.Number = FirstAccount+uint32(index), number
	if r.Kind == UnknownNumber {
		r.Account, r.Number = 0, g.workload.unownedNumber(d)
	}
	r.Peer = drawPeer(d, r.Number, r.Service)
	if r.Kind == NoPrice {
		r.Peer = satelliteSpan.draw(d)
	}
	if r.Service.voice() {
		r.DurationSeconds = g.drawTalkSeconds()
	} else {
		r.Segments = drawSegments(d)
	}
	r.LateMs = g.drawLateMs(r.Kind)
	if r.Kind == TooFarAhead {
		r.LateMs -= int64(r.DurationSeconds) * secondMs // it is the start that must lie ahead
	}
	r.EventMs = b.nowMs - r.LateMs - int64(r.DurationSeconds)*secondMs
	if g.config.Format == TwilioCall || g.config.Format == TwilioMessage {
		r.EventMs -= r.EventMs % secondMs // all that the format can say
	}
	if r.Kind == OutOfBounds { // the carrier counts wrong; its clock is right
		r.exaggerate(d)
	}
	return r
}

// exaggerate makes a call longer than a day, or a message longer than there are.
func (r *Info) exaggerate(d *dice) {
	if r.Service.voice() {
		r.DurationSeconds = uint32(d.between(86_401, 5_000_000))
	} else {
		r.Segments = uint32(d.between(256, 10_000))
	}
}

func (g *Generator) drawKind() Kind {
	c := g.config
	noPriceShare := c.NoPriceShare
	if c.Format == DIDWW || c.Format == TwilioMessage {
		noPriceShare = 0 // no outbound calls
	}
	f := g.dice.fraction()
	for _, refused := range [...]struct {
		kind  Kind
		share float64
	}{{UnknownNumber, c.UnknownNumberShare}, {Malformed, c.MalformedShare}, {NoPrice, noPriceShare},
		{OutOfBounds, c.OutOfBoundsShare}, {TooFarAhead, c.TooFarAheadShare}} {
		if f < refused.share {
			return refused.kind
		}
		f -= refused.share
	}
	return Valid
}

func (g *Generator) drawService() Service {
	message, outbound := g.dice.fraction() < g.config.MessageShare, g.dice.fraction() < g.config.OutboundShare
	switch g.config.Format {
	case DIDWW:
		return VoiceIn
	case TwilioCall:
		message = false
	case TwilioMessage:
		message = true
	}
	switch {
	case message && outbound:
		return MessageOut
	case message:
		return MessageIn
	case outbound:
		return VoiceOut
	}
	return VoiceIn
}

// drawTalkSeconds follows a real month of inbound calls: some unanswered, 5.4 % of the answered at most 10 s, the rest
// lognormal with μ = 4.81 and σ = 0.92 from 10 s on.
func (g *Generator) drawTalkSeconds() uint32 {
	d := &g.dice
	if d.fraction() >= g.config.AnsweredShare {
		return 0
	}
	if d.fraction() < 0.054 {
		return uint32(d.between(1, 11))
	}
	uniform := (float64(d.pcg.Uint64()>>12) + 0.5) / (1 << 52) // in (0, 1)
	seconds := math.Exp(4.81 + 0.92*math.Sqrt2*math.Erfinv(2*uniform-1))
	return uint32(min(max(seconds, 10), longestTalkSeconds))
}

func drawSegments(d *dice) uint32 {
	switch f := d.fraction(); {
	case f < 0.80:
		return 1
	case f < 0.95:
		return 2
	}
	return 3
}

// drawLateMs draws how long ago the event ended: up to 3 s for the most of them. Only valid records are late by more,
// so that a record has one peculiarity at a time.
func (g *Generator) drawLateMs(kind Kind) int64 {
	d := &g.dice
	f := d.fraction()
	switch {
	case kind == TooFarAhead:
		return -d.between(5*minuteMs, hourMs)
	case kind != Valid:
	case f < g.config.LateDayShare:
		return d.between(24*hourMs, 60*hourMs)
	case f < g.config.LateDayShare+g.config.LateHourShare:
		return d.between(hourMs, 12*hourMs)
	}
	return d.between(0, 3*secondMs)
}
