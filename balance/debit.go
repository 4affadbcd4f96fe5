// Package balance is the debit stage: it reads the entries of its shards, has the script in Redis apply them, and
// appends the outcomes to the postings.
//
// It stands between rate, which wrote the entries, and store, act and audit, which read the postings. Protocol rule 7
// is this file: whatever was lost (a reply, a produce, the last seconds of Redis, all of Redis), the loop asks the
// shard where it stands and goes on from there; the answers are the same bytes. It never decides an outcome and
// never talks to ClickHouse or to the world outside.
package balance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// Shards is Redis as the loop sees it.
type Shards interface {
	// Apply runs the script once for each call, all in one pipeline. After an error nothing is known; the same calls
	// may be sent again.
	Apply(ctx context.Context, calls []*lua.Call) error
	// Heads reads where each shard stands on the current master.
	Heads(ctx context.Context, shards []int32, heads []lua.Head) error
	// Load puts an image into a shard that has no state.
	Load(ctx context.Context, shard int32, topicID [16]byte, image *ledger.Shard) error
	// Wipe empties a shard whose watermark is still wm.
	Wipe(ctx context.Context, shard int32, wm int64) error
}

// Images finds the state from which a shard without one is loaded.
type Images interface {
	// Newest gives the newest whole image of a shard, or nil if there is none.
	Newest(ctx context.Context, shard int32) (*ledger.Shard, error)
}

// Config names the limits of a debit loop.
type Config struct {
	// EntriesTopic and PostingsTopic are the two logs.
	EntriesTopic, PostingsTopic string
	// MaxWait bounds how long a fetch waits for entries.
	MaxWait time.Duration
	// Linger is the least length of a round: entries that come within it share one call and one produce.
	Linger time.Duration
	// EntriesPerCall bounds the entries of one script call, which bounds how long Redis is held.
	EntriesPerCall int
	// ProbeEvery is how often an idle shard is asked whether it still stands where the loop left it.
	ProbeEvery time.Duration
	// BeyondEndAfter is how long a shard may claim to be ahead of its log before it is halted.
	BeyondEndAfter time.Duration
	// RetryMin and RetryMax bound the pause before a failed call is made again.
	RetryMin, RetryMax time.Duration
	// Drain is how long a loop that is told to stop may take to finish what is under way.
	Drain time.Duration
}

// DefaultConfig is the configuration of a debit loop on one machine.
func DefaultConfig() Config {
	return Config{
		EntriesTopic: "entries", PostingsTopic: "postings",
		MaxWait: 250 * time.Millisecond, Linger: 5 * time.Millisecond, EntriesPerCall: lua.MaxEntriesPerCall,
		ProbeEvery: time.Second, BeyondEndAfter: 10 * time.Second,
		RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second, Drain: 4 * time.Second,
	}
}

// Deps are the loop's neighbours.
type Deps struct {
	Reader  stream.Reader
	Writer  stream.Writer
	Topics  stream.Topics
	Shards  Shards
	Images  Images
	Clock   stream.Clock
	Metrics *Metrics
	Logger  *slog.Logger
}

// Loop debits a few shards: one fetch, one pipeline of script calls and one produce serve all of them.
type Loop struct {
	Deps
	cfg       Config
	retry     stream.Retry
	topicID   stream.TopicID
	shards    []*shard
	fetching  []*shard // those of the last fetch, in its order
	positions []stream.Position
	calls     []*lua.Call
	calling   []*shard
	ids       []int32
	heads     []lua.Head
	wire      []byte
}

// phase is what a shard needs next.
type phase int

const (
	asking  phase = iota // read its head
	running              // apply entries
	halted               // it refuses to go on: ask again with every probe
)

// shard is where the loop stands with one shard.
type shard struct {
	id        int32
	phase     phase
	next      int64 // offset of the next entries to apply
	shippedTo int64 // highest offset whose postings are known to be in Kafka
	blocks    []entry.Block
	wires     [][]byte // the blocks as they stand in the log
	times     []int64
	used      int
	call      lua.Call
	heard     time.Time        // when the shard last answered
	beyond    time.Time        // since when it claims to be ahead of its log; zero if it does not
	untold    bool             // it does not know yet that postings up to shippedTo are in Kafka
	reason    string           // why it is halted
	hindrance stream.Hindrance // it gets no answer, though others do
	shown     bool             // as halted, in the metrics
}

// NewLoop makes a loop over the given shards.
func NewLoop(deps Deps, cfg Config, shards []int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg}
	l.retry = stream.Retry{Loop: "debit", Min: cfg.RetryMin, Max: cfg.RetryMax, Clock: deps.Clock, Logger: deps.Logger, Count: deps.Metrics.Retries.Inc}
	for _, id := range shards {
		l.shards = append(l.shards, &shard{id: id, call: lua.Call{Shard: id}})
	}
	return l
}

// Run debits until ctx ends, which is no error. What is under way then is finished first: a round is short.
func (l *Loop) Run(ctx context.Context) error {
	work, cancel := stream.Outlive(ctx, l.cfg.Drain)
	defer cancel()
	return l.retry.Rounds(ctx, l.cfg.Linger, func(ctx context.Context) error { return l.round(ctx, work) })
}

// round takes every shard one step further. What must not be broken off goes by the context of work, which outlives ctx
// a little.
func (l *Loop) round(ctx, work context.Context) error {
	if l.topicID == (stream.TopicID{}) {
		id, err := l.Topics.TopicID(ctx, l.cfg.EntriesTopic)
		if err != nil {
			return fmt.Errorf("cannot find topic %s: %w", l.cfg.EntriesTopic, err)
		}
		l.topicID = id
	}
	if err := l.ask(ctx); err != nil {
		return err
	}
	if err := l.read(ctx); err != nil {
		return err
	}
	if err := l.apply(work); err != nil {
		return err
	}
	if err := l.ship(work); err != nil {
		return err
	}
	l.show()
	return nil
}

// show tells which shards stand still for a reason that is no operator's. It looks at the end of a round: one that is asked
// again counts as running until the script has refused it once more.
func (l *Loop) show() {
	for _, s := range l.shards {
		if halted := s.phase == halted && !strings.HasPrefix(s.reason, lua.ByHand); halted != s.shown {
			s.shown = halted
			l.Metrics.halt(s.id, halted)
		}
	}
}

// ask reads the heads of shards that are new to the loop, idle for a while, or halted.
func (l *Loop) ask(ctx context.Context) error {
	now := l.Clock.Now()
	l.calling, l.ids = l.calling[:0], l.ids[:0]
	for _, s := range l.shards {
		if !s.hindrance.Holds(now) && (s.phase == asking || now.Sub(s.heard) >= l.cfg.ProbeEvery) {
			l.calling, l.ids = append(l.calling, s), append(l.ids, s.id)
		}
	}
	if len(l.ids) == 0 {
		return nil
	}
	l.heads = append(l.heads[:0], make([]lua.Head, len(l.ids))...)
	if err := l.Shards.Heads(ctx, l.ids, l.heads); err != nil {
		l.measure(ctx)
		return fmt.Errorf("cannot read the heads of shards %v: %w", l.ids, err)
	}
	edges, err := l.Topics.ListOffsets(ctx, l.cfg.EntriesTopic, l.ids)
	if err != nil {
		return err
	}
	for i, s := range l.calling {
		if err := l.heads[i].Err; err != nil {
			l.leaveOut(s, edges[i].End-s.next, err)
			continue
		}
		s.heard = now
		if err := l.hear(ctx, s, &l.heads[i], edges[i]); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut has a shard that does not answer wait, longer each time, while others do answer: its server is away, or its keys
// are damaged. What it was asked to apply is read again when it has said where it stands.
func (l *Loop) leaveOut(s *shard, lag int64, err error) {
	if !s.heard.IsZero() {
		l.lag(s, lag)
	}
	if l.retry.Hinder(&s.hindrance, err) {
		l.Logger.Warn("debit: a shard does not answer, the others go on", "shard", s.id, "error", err)
	}
	s.phase, s.used = asking, 0
}

// measure shows how far the shards that were to be asked are behind, while Redis does not say: from where they were left.
func (l *Loop) measure(ctx context.Context) {
	edges, err := l.Topics.ListOffsets(ctx, l.cfg.EntriesTopic, l.ids)
	if err != nil {
		return // what failed before is tried again, and says what is wrong
	}
	for i, s := range l.calling {
		if !s.heard.IsZero() {
			l.lag(s, edges[i].End-s.next)
		}
	}
}

func (l *Loop) lag(s *shard, blocks int64) { l.Metrics.lag(s.id).Set(float64(max(0, blocks))) }

// hear draws the conclusions from where a shard says it stands.
func (l *Loop) hear(ctx context.Context, s *shard, h *lua.Head, edges stream.Offsets) error {
	switch {
	case h.Torn: // half a call came back with a restart of Redis
		l.Logger.Warn("debit: redis holds half a call of the script, the shard will be loaded again", "shard", s.id, "wm", h.WM)
		return l.wipe(ctx, s, h.WM)
	case !h.Initialized:
		return l.load(ctx, s, edges)
	case h.Halted != "":
		l.lag(s, edges.End-h.WM-1)
		l.halt(s, h.Halted)
		return nil
	case h.TopicID != l.topicID:
		l.halt(s, fmt.Sprintf("it belongs to topic id %x, %s has %x: was the topic made anew?", h.TopicID, l.cfg.EntriesTopic, l.topicID))
		return nil
	case s.phase == running && h.WM < s.next-1:
		l.Metrics.Rewinds.Inc()
		s.next = h.WM + 1
	case s.phase != running:
		s.phase, s.next, s.shippedTo = running, h.Base+1, h.Base
	}
	s.untold = h.Base < s.shippedTo
	return l.compareWithLog(ctx, s, h, edges)
}

// compareWithLog handles a shard that stands outside of what its log still holds.
func (l *Loop) compareWithLog(ctx context.Context, s *shard, h *lua.Head, edges stream.Offsets) error {
	start, end := edges.Start, edges.End
	l.lag(s, end-h.WM-1)
	switch {
	case h.WM+1 < start: // a master from before the log was cut
		l.Logger.Warn("debit: the shard stands before the start of its log, it will be loaded again", "shard", s.id, "wm", h.WM, "start", start)
		return l.wipe(ctx, s, h.WM)
	case s.next < start: // the log is cut only below postings that an image saw
		s.next, s.shippedTo = start, max(s.shippedTo, start-1)
	case h.WM < end:
		s.beyond = time.Time{}
	case s.beyond.IsZero():
		s.beyond = l.Clock.Now()
	case l.Clock.Now().Sub(s.beyond) >= l.cfg.BeyondEndAfter:
		l.halt(s, fmt.Sprintf("its watermark %d is beyond the end %d of %s[%d]: entries were lost", h.WM, end, l.cfg.EntriesTopic, s.id))
	}
	return nil
}

// halt stops one shard; the others go on. It is asked again with every probe: an operator may have resumed it.
func (l *Loop) halt(s *shard, reason string) {
	switch {
	case s.reason == reason:
	case strings.HasPrefix(reason, lua.ByHand):
		l.Logger.Warn("debit: a shard waits: an operator halted it; let it go on with `tollgate shard resume`", "shard", s.id, "reason", reason)
	default:
		l.Logger.Error("BUG: shard halted; see `tollgate shard inspect`", "shard", s.id, "reason", reason)
	}
	s.phase, s.reason = halted, reason
}

// leave stands still on a shard that needs a newer build, until one takes it over: nothing is wrong with it.
func (l *Loop) leave(s *shard, reason string) {
	if s.reason != reason {
		l.Logger.Error("debit: a shard waits for a newer build of tollgate to take it over", "shard", s.id, "reason", reason)
	}
	s.phase, s.reason = halted, reason
}

// wipe empties a shard that must be loaded again, if it still stands at wm.
func (l *Loop) wipe(ctx context.Context, s *shard, wm int64) error {
	if err := l.Shards.Wipe(ctx, s.id, wm); err != nil {
		return fmt.Errorf("cannot wipe shard %d: %w", s.id, err)
	}
	s.phase = asking
	return nil
}

// load gives a shard without state its newest image, or the state before the first entry.
func (l *Loop) load(ctx context.Context, s *shard, edges stream.Offsets) error {
	image, err := l.Images.Newest(ctx, s.id)
	if err != nil {
		return fmt.Errorf("cannot find an image of shard %d: %w", s.id, err)
	}
	if image == nil {
		image = ledger.New()
	}
	if image.WM+1 < edges.Start {
		l.halt(s, fmt.Sprintf("its newest image is of %d, but %s[%d] begins at %d", image.WM, l.cfg.EntriesTopic, s.id, edges.Start))
		return nil
	}
	if err := l.Shards.Load(ctx, s.id, l.topicID, image); err != nil && !errors.Is(err, lua.ErrInitialized) {
		return fmt.Errorf("cannot load shard %d: %w", s.id, err)
	}
	l.Metrics.Loads.Inc()
	l.Logger.Info("debit: shard loaded", "shard", s.id, "image", image.WM)
	s.phase = asking
	return nil
}

// read fetches the next entries of all running shards, up to the limit of one call each.
func (l *Loop) read(ctx context.Context) error {
	l.fetching, l.positions = l.fetching[:0], l.positions[:0]
	for _, s := range l.shards {
		s.used = 0
		if s.phase == running {
			l.fetching = append(l.fetching, s)
			l.positions = append(l.positions, stream.Position{Topic: l.cfg.EntriesTopic, Partition: s.id, Offset: s.next})
		}
	}
	if err := l.Reader.Fetch(ctx, l.positions, l.cfg.MaxWait); err != nil {
		return fmt.Errorf("cannot fetch entries: %w", err)
	}
	for i, s := range l.fetching {
		l.take(s, l.Reader.Result(i))
	}
	return nil
}

// take decodes what was fetched for one shard. What hinders one shard does not hinder the others.
func (l *Loop) take(s *shard, fetched *stream.Fetched) {
	var m stream.Message
	for entries := 0; entries < l.cfg.EntriesPerCall && fetched.Next(&m); s.used++ {
		if s.used == len(s.blocks) {
			s.blocks = append(s.blocks, entry.Block{})
			s.wires, s.times = append(s.wires, nil), append(s.times, 0)
		}
		b := &s.blocks[s.used]
		if err := b.DecodeForFold(m.Value); err != nil {
			l.halt(s, fmt.Sprintf("%s[%d] at %d: %v", l.cfg.EntriesTopic, s.id, m.Offset, err))
			s.used = 0
			return
		}
		if entries > 0 && entries+b.Len() > l.cfg.EntriesPerCall {
			break
		}
		entries += b.Len()
		s.wires[s.used], s.times[s.used] = m.Value, m.AppendTime
		s.call.Blocks = append(s.call.Blocks[:s.used], lua.BlockRef{Offset: m.Offset, AppendMs: m.AppendTime, Entries: b})
	}
	if s.used > 0 {
		l.lag(s, fetched.HighWatermark-s.call.Blocks[s.used-1].Offset-1)
	}
	switch err := fetched.Err; {
	case errors.Is(err, stream.ErrOffsetOutOfRange): // the log was cut, or it ends before: compareWithLog decides
		s.used, s.phase = 0, asking
	case err != nil:
		l.Metrics.Retries.Inc()
		if reason := err.Error(); s.reason != reason {
			l.Logger.Warn("debit: cannot read the entries of a shard, trying again", "shard", s.id, "error", err)
			s.reason = reason
		}
	}
}

// apply has the script apply what was read, one call a shard in one pipeline. A shard without new entries is told that
// its last postings are in Kafka: a recharge that they decided waits for that.
func (l *Loop) apply(ctx context.Context) error {
	l.calls, l.calling = l.calls[:0], l.calling[:0]
	for _, s := range l.shards {
		if s.phase != running || s.used == 0 && !s.untold {
			continue
		}
		c := &s.call
		// The array of blocks may have moved while it grew: point at where they are now.
		for i := range c.Blocks[:s.used] {
			c.Blocks[i].Entries = &s.blocks[i]
		}
		c.Blocks = c.Blocks[:s.used]
		c.TopicID, c.From, c.To, c.ShippedTo = l.topicID, s.next, s.next-1, s.shippedTo
		if s.used > 0 {
			c.To = c.Blocks[s.used-1].Offset
		}
		l.calls, l.calling = append(l.calls, c), append(l.calling, s)
	}
	if len(l.calls) == 0 {
		return nil
	}
	if err := l.Shards.Apply(ctx, l.calls); err != nil {
		return fmt.Errorf("cannot apply entries: %w", err)
	}
	now := l.Clock.Now()
	for _, s := range l.calling {
		if s.call.Err != nil {
			l.leaveOut(s, s.call.To-s.next+1, s.call.Err)
			continue
		}
		s.heard, s.hindrance = now, stream.Hindrance{}
		l.answer(s)
	}
	return nil
}

// answer draws the conclusions from what the script said; only a shard that applied its entries keeps them.
func (l *Loop) answer(s *shard) {
	r := &s.call.Reply
	switch r.Status {
	case lua.OK:
		s.untold = false
		return
	case lua.Gap: // the master lost what it had applied
		l.Metrics.Rewinds.Inc()
		s.next = r.WM + 1
	case lua.Trimmed: // another owner went on and shipped
		s.next, s.shippedTo = r.Base+1, r.Base
	case lua.Uninit:
		s.phase = asking
	case lua.Version:
		l.leave(s, "it needs a newer build: "+r.Detail)
	default:
		l.halt(s, r.Detail)
	}
	s.used = 0
}

// ship appends the outcomes to the postings, in order, and does not give up until they are there or the loop is told to
// stop: nothing after them may be appended before. A loop that stops here loses nothing; the journal has the outcomes.
func (l *Loop) ship(ctx context.Context) error {
	l.Writer.Reset()
	gathered := 0
	for _, s := range l.shards {
		if s.phase != running || s.used == 0 {
			continue
		}
		for i, o := range s.call.Reply.Outcomes {
			b := &s.blocks[i]
			if o.Offset != s.call.Blocks[i].Offset || posting.OutcomesLen(b.Len()) > len(o.Bytes) {
				l.halt(s, fmt.Sprintf("the script answered %d bytes for offset %d where %d entries of offset %d were asked", len(o.Bytes), o.Offset, b.Len(), s.call.Blocks[i].Offset))
				break
			}
			l.wire = posting.AppendTo(l.wire[:0], o.Offset, s.times[i], b.Len(), o.Bytes, s.wires[i])
			if err := l.retry.Append(ctx, l.Writer, l.cfg.PostingsTopic, s.id, nil, l.wire); err != nil {
				return fmt.Errorf("cannot append postings of shard %d: %w", s.id, err)
			}
			gathered++
		}
	}
	if gathered == 0 {
		return nil
	}
	if err := l.retry.Send(ctx, l.Writer); err != nil {
		return fmt.Errorf("cannot append postings: %w", err)
	}
	for _, s := range l.shards {
		if s.phase == running && s.used > 0 {
			l.Metrics.count(s.call.Reply.Outcomes)
			s.shippedTo, s.next, s.reason = s.call.To, s.call.To+1, ""
		}
	}
	return nil
}
