package lua

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/entry"
)

// Status is how a shard answered a call.
type Status uint8

// The statuses. All but OK mean that nothing was written.
const (
	// OK: the call is done; Outcomes holds what became of its entries.
	OK Status = iota + 1
	// Uninit: the shard has no state and must be loaded.
	Uninit
	// Halt: the shard must stop; Detail says why.
	Halt
	// Gap: the shard has applied less than the call supposes; go on from WM + 1.
	Gap
	// Trimmed: the shard has forgotten the outcomes that the call asks for, since they are in Kafka; go on from Base + 1.
	Trimmed
	// Version: the entries need a newer build; Detail says what for.
	Version
)

var statusNames = [...]string{OK: "OK", Uninit: "UNINIT", Halt: "HALT", Gap: "GAP", Trimmed: "TRIMMED", Version: "VERSION"}

// String gives the status as the scripts write it.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// BlockRef is one block of entries with its place in the log.
type BlockRef struct {
	// Offset and AppendMs are the block's offset in `entries` and the broker's append time.
	Offset, AppendMs int64
	Entries          *entry.Block
}

// BlockOutcomes is what the shard answered for one block, in the layout of balance/posting.
type BlockOutcomes struct {
	Offset int64
	Count  int
	// Bytes are valid until the call is used again.
	Bytes []byte
}

// Reply is a shard's answer to a call.
type Reply struct {
	Status Status
	// WM and Base are where the shard stands. Gap knows only WM, Trimmed only Base, the other refusals neither.
	WM, Base int64
	// Detail is the reason of Halt and Version.
	Detail string
	// Outcomes are those of the blocks from From to To, by offset: the kept ones of blocks that were applied before, the
	// new ones of the others.
	Outcomes []BlockOutcomes
}

// Call is one call of the script for one shard. A loop owns its calls for life and refills them: buffers are kept.
type Call struct {
	Shard   int32
	TopicID [16]byte
	// From and To are the range of offsets that the call is about; To may lie beyond the last block, where the log has
	// holes. ShippedTo is the highest offset whose postings are in Kafka, as far as the caller knows.
	From, To, ShippedTo int64
	// Blocks are the blocks of entries in the range, by ascending offset.
	Blocks []BlockRef
	// Reply and Err are the answer: Err is nil iff Reply is one.
	Reply Reply
	Err   error

	index   map[uint32]uint32 // account -> its index in the call, from 1
	names   []byte            // the accounts as msgpack strings, in the order of their indexes
	packed  []byte
	ends    []int
	args    []any
	answers []byte
	cmd     *redis.Cmd
}

var le = binary.LittleEndian

// maxExact is the greatest integer that scripts hold exactly.
const maxExact = 1<<53 - 1

// Apply sends all calls in one pipeline and reads their replies. Of a call with an Err nothing is known, and it may be sent
// again; that does not concern the others, which may be of another server. The error says that there is no reply at all.
// Scripts that a server does not have yet are loaded.
func (s *Shards) Apply(ctx context.Context, calls []*Call) error {
	pending := calls
	for attempt := 0; ; attempt++ {
		if err := s.send(ctx, pending); err != nil {
			return err
		}
		var missing []*Call
		for _, c := range pending {
			c.Err = c.read()
			if redis.HasErrorPrefix(c.Err, "NOSCRIPT") {
				missing = append(missing, c)
			}
		}
		if len(missing) == 0 || attempt > 0 {
			return noReply(calls)
		}
		if err := s.apply.Load(ctx, s.client).Err(); err != nil {
			return fmt.Errorf("cannot load the script into redis: %w", err)
		}
		pending = missing
	}
}

// noReply gives the first of the calls' errors, if all have one.
func noReply(calls []*Call) error {
	for _, c := range calls {
		if c.Err == nil {
			return nil
		}
	}
	if len(calls) == 0 {
		return nil
	}
	c := calls[0]
	return fmt.Errorf("cannot apply entries %d to %d to shard %d: %w", c.From, c.To, c.Shard, c.Err)
}

// send packs the calls and sends them in one pipeline. Errors of Redis are left in the commands.
func (s *Shards) send(ctx context.Context, calls []*Call) error {
	pipe := s.client.Pipeline()
	for _, c := range calls {
		if err := c.pack(s.cfg.Installation); err != nil {
			return fmt.Errorf("BUG: call of shard %d: %w", c.Shard, err)
		}
		stem := s.stem(c.Shard)
		keys := []string{stem + "head", stem + "journal", stem + "sources", stem + "accounts", stem + "closed", stem + "results",
			stem + "order", stem + "attention", stem + "ids:"}
		c.cmd = pipe.EvalSha(ctx, s.apply.Hash(), keys, c.args...)
	}
	exec(ctx, pipe)
	return nil
}

// pack fills args with the arguments of the script.
func (c *Call) pack(installation string) error {
	if c.From < 0 || c.To < c.From-1 || c.To > maxExact || c.ShippedTo > maxExact {
		return fmt.Errorf("range from %d to %d, shipped to %d", c.From, c.To, c.ShippedTo)
	}
	if c.index == nil {
		c.index = map[uint32]uint32{}
	}
	clear(c.index)
	c.names = append(c.names[:0], 0xdd, 0, 0, 0, 0) // a msgpack array of up to 2³² values
	c.packed, c.ends = c.packed[:0], c.ends[:0]
	last := c.From - 1
	for i := range c.Blocks {
		b := &c.Blocks[i]
		if b.Offset <= last || b.Offset > c.To || b.AppendMs < 0 || b.AppendMs > maxExact {
			return fmt.Errorf("block of offset %d and append time %d in the range from %d to %d", b.Offset, b.AppendMs, last+1, c.To)
		}
		last = b.Offset
		c.packBlock(b)
		c.ends = append(c.ends, len(c.packed))
	}
	binary.BigEndian.PutUint32(c.names[1:], uint32(len(c.index)))
	c.args = append(c.args[:0], installation, hex.EncodeToString(c.TopicID[:]), c.From, c.To, c.ShippedTo, ledger.FoldVersion, c.names)
	start := 0
	for _, end := range c.ends {
		c.args = append(c.args, c.packed[start:end])
		start = end
	}
	return nil
}

// packBlock appends a block as apply.lua reads it, little endian:
//
//	i64 offset, i64 append time, u32 count, u8 has a source, u8 positions ascend, u8 valid usage only,
//	20 bytes source, (i64, u32) prev, first and last position, i64 least event time of usage
//	count × u32 account index, i32 local day, i64 amount; count × 8 bytes id hash; count × i64 event time;
//	count × i64, u32 position; count × u8 kind; 32 bytes of arguments for each entry that is not usage
func (c *Call) packBlock(ref *BlockRef) {
	b := ref.Entries
	n := b.Len()
	shape := shapeOf(b)
	dst := slices.Grow(c.packed, 128+n*(45+8*entry.ArgCount))
	dst = le.AppendUint64(dst, uint64(ref.Offset))
	dst = le.AppendUint64(dst, uint64(ref.AppendMs))
	dst = le.AppendUint32(dst, uint32(n))
	dst = append(dst, shape.fed, shape.ascending, shape.plain)
	dst = b.Source.AppendKey(dst)
	for _, p := range [...]entry.Position{b.Prev, shape.first, shape.last} {
		dst = le.AppendUint64(dst, uint64(p.Offset))
		dst = le.AppendUint32(dst, p.Ix)
	}
	dst = le.AppendUint64(dst, uint64(shape.minEventMs))
	for i := range n {
		dst = le.AppendUint32(dst, c.indexOf(b.Account[i]))
		dst = le.AppendUint32(dst, uint32(b.LocalDay[i]))
		dst = le.AppendUint64(dst, uint64(b.AmountUnits[i]))
	}
	for _, id := range b.IDHash {
		dst = le.AppendUint64(dst, id)
	}
	for _, ms := range b.EventMs {
		dst = le.AppendUint64(dst, uint64(ms))
	}
	for i := range n {
		dst = le.AppendUint64(dst, uint64(b.Offset[i]))
		dst = le.AppendUint32(dst, b.Ix[i])
	}
	for _, k := range b.Kind {
		dst = append(dst, byte(k))
	}
	for i, k := range b.Kind {
		if k == entry.Usage {
			continue
		}
		for _, arg := range b.Args(i) {
			dst = le.AppendUint64(dst, uint64(arg))
		}
	}
	c.packed = dst
}

// How plain a block is, from anything at all to usage with valid amounts only. In a mixed one there are rejected records
// in between, which change nothing.
const (
	wild byte = iota
	mixed
	plain
)

// shape is what the script wants to know of a block as a whole, so that it need not look at each entry.
type shape struct {
	fed, ascending, plain byte
	first, last           entry.Position
	minEventMs            int64
}

func shapeOf(b *entry.Block) shape {
	s := shape{ascending: 1, plain: plain, first: entry.None, last: entry.None, minEventMs: math.MaxInt64}
	if b.Source != (entry.Source{}) {
		s.fed = 1
	}
	for i, k := range b.Kind {
		p := entry.Position{Offset: b.Offset[i], Ix: b.Ix[i]}
		if i == 0 {
			s.first = p
		} else if !s.last.Less(p) {
			s.ascending = 0
		}
		s.last = p
		switch {
		case k == entry.Usage:
			s.minEventMs = min(s.minEventMs, b.EventMs[i])
			if !b.AmountUnits[i].Valid() {
				s.plain = wild
			}
		case k == entry.Rejected:
			s.plain = min(s.plain, mixed)
		default:
			s.plain = wild
		}
	}
	return s
}

// indexOf gives the index of an account in the call.
func (c *Call) indexOf(account uint32) uint32 {
	if at, ok := c.index[account]; ok {
		return at
	}
	at := uint32(len(c.index) + 1)
	c.index[account] = at
	start := len(c.names)
	c.names = strconv.AppendUint(append(c.names, 0), uint64(account), 10)
	c.names[start] = 0xa0 | byte(len(c.names)-start-1) // a msgpack string of up to 31 bytes
	return at
}

// read refills the call's reply from what the script answered.
func (c *Call) read() error {
	reply, err := c.cmd.Slice()
	if err != nil {
		return err
	}
	r := &c.Reply
	*r = Reply{Outcomes: r.Outcomes[:0]}
	text := make([]string, len(reply)) // "" where blocks of outcomes are
	for i, v := range reply {
		text[i], _ = v.(string)
	}
	if len(text) == 0 || slices.Index(statusNames[:], text[0]) < int(OK) {
		return fmt.Errorf("unknown reply %.40q", text)
	}
	r.Status = Status(slices.Index(statusNames[:], text[0]))
	switch {
	case r.Status == Halt && len(text) == 2, r.Status == Version && len(text) == 2:
		r.Detail = text[1]
	case r.Status == Gap && len(text) == 2:
		return parseInts(text[1:], &r.WM)
	case r.Status == Trimmed && len(text) == 2:
		return parseInts(text[1:], &r.Base)
	case r.Status == OK && len(text) >= 3 && len(text)%2 == 1:
		return c.readOutcomes(reply, text)
	case r.Status != Uninit:
		return fmt.Errorf("reply %s with %d values", r.Status, len(text))
	}
	return nil
}

// readOutcomes reads the offsets and outcomes from the fourth value on.
func (c *Call) readOutcomes(reply []any, text []string) error {
	r := &c.Reply
	if err := parseInts(text[1:3], &r.WM, &r.Base); err != nil {
		return err
	}
	c.answers, c.ends = c.answers[:0], c.ends[:0]
	for i := 3; i < len(reply); i += 2 {
		var o BlockOutcomes
		if err := parseInts(text[i:i+1], &o.Offset); err != nil {
			return err
		}
		fields, _ := reply[i+1].([]any)
		var err error
		if o.Count, c.answers, err = appendOutcomes(c.answers, fields); err != nil {
			return fmt.Errorf("outcomes of block %d: %w", o.Offset, err)
		}
		r.Outcomes, c.ends = append(r.Outcomes, o), append(c.ends, len(c.answers))
	}
	start := 0
	for i, end := range c.ends { // only now, since the buffer may have moved while it grew
		r.Outcomes[i].Bytes = c.answers[start:end:end]
		start = end
	}
	return nil
}

// appendOutcomes appends the outcomes of one block, which are the values of its fields but for the count.
func appendOutcomes(dst []byte, fields []any) (count int, outcomes []byte, err error) {
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		if name != "n" {
			dst = append(dst, value...)
		} else if count, err = strconv.Atoi(value); err != nil {
			return 0, dst, err
		}
	}
	return count, dst, nil
}
