package lua

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/entry"
)

// Dump is everything that a shard holds, as of one moment.
type Dump struct {
	Head  Head
	State *ledger.Shard
	// Journal holds the outcomes of the blocks above Head.Base, by offset.
	Journal []BlockOutcomes
}

// Dump reads the whole state of a shard, for tests, for the operator and for verify: one transaction that holds Redis
// for as long as it takes. ErrUninitialized if there is none.
func (s *Shards) Dump(ctx context.Context, shard int32) (*Dump, error) {
	stem := s.stem(shard)
	generation, err := s.client.HGet(ctx, stem+"head", "generation").Int64()
	if err == redis.Nil {
		return nil, fmt.Errorf("cannot read shard %d: %w", shard, ErrUninitialized)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read shard %d: %w", shard, err)
	}
	pipe := s.client.TxPipeline()
	head := pipe.HGetAll(ctx, stem+"head")
	journal := pipe.Do(ctx, "XRANGE", stem+"journal", "-", "+")
	sources, accounts := pipe.HGetAll(ctx, stem+"sources"), pipe.HGetAll(ctx, stem+"accounts")
	closed, results := pipe.HGetAll(ctx, stem+"closed"), pipe.HGetAll(ctx, stem+"results")
	order := pipe.LRange(ctx, stem+"order", 0, -1)
	current := pipe.SMembers(ctx, stem+"ids:"+strconv.FormatInt(generation, 10))
	previous := pipe.SMembers(ctx, stem+"ids:"+strconv.FormatInt(generation-1, 10))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("cannot read shard %d: %w", shard, err)
	}
	d := &Dump{State: ledger.New()}
	p := parser{state: d.State}
	p.head(d, head.Val())
	if p.err == nil && d.State.Generation != generation {
		return nil, fmt.Errorf("cannot read shard %d: its generation turned meanwhile; read it again", shard)
	}
	p.journal(d, journal)
	p.sources(sources.Val())
	p.accounts(accounts.Val())
	p.closed(closed.Val())
	p.results(results.Val(), order.Val())
	p.ids(current.Val(), &d.State.Current)
	p.ids(previous.Val(), &d.State.Previous)
	if p.err != nil {
		return nil, fmt.Errorf("shard %d: %w", shard, p.err)
	}
	return d, nil
}

// Standing gives where a shard stands and its accounts, as of one moment: Dump without what grows with every record.
// ErrUninitialized if there is no state.
func (s *Shards) Standing(ctx context.Context, shard int32) (Head, map[uint32]*ledger.Account, error) {
	stem := s.stem(shard)
	pipe := s.client.TxPipeline()
	values := pipe.HMGet(ctx, stem+"head", headFields...)
	accounts := pipe.HGetAll(ctx, stem+"accounts")
	if _, err := pipe.Exec(ctx); err != nil {
		return Head{}, nil, fmt.Errorf("cannot read shard %d: %w", shard, err)
	}
	var h Head
	p := parser{state: ledger.New(), err: h.read(values.Val())}
	if p.accounts(accounts.Val()); p.err == nil && !h.Initialized {
		p.err = ErrUninitialized
	}
	if p.err != nil {
		return Head{}, nil, fmt.Errorf("cannot read shard %d: %w", shard, p.err)
	}
	return h, p.state.Accounts, nil
}

// parser reads the keys of a shard into its state. It keeps the first error.
type parser struct {
	state *ledger.Shard
	err   error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) int(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		p.fail("a number is expected: %w", err)
	}
	return n
}

func (p *parser) within(text string, least, most int64) int64 {
	n := p.int(text)
	if n < least || n > most {
		p.fail("%d is not from %d to %d", n, least, most)
	}
	return n
}

func (p *parser) id(text string) uint64 {
	if len(text) != 8 {
		p.fail("an id of %d bytes instead of 8", len(text))
		return 0
	}
	return le.Uint64([]byte(text))
}

func (p *parser) head(d *Dump, fields map[string]string) {
	values := []any{fields["installation"], fields["topic"], fields["wm"], fields["base"], fields["version"], fields["halted"]}
	if err := d.Head.read(values); err != nil {
		p.fail("head: %w", err)
	}
	s := p.state
	s.WM, s.Version, s.NowMs = d.Head.WM, d.Head.Version, p.int(fields["now"])
	s.Generation, s.GenerationStartMs = p.int(fields["generation"]), p.int(fields["generation_start"])
	s.CoveredSinceMs = p.int(fields["covered_since"])
	for i := range s.Params {
		s.Params[i] = p.int(fields["param"+strconv.Itoa(i)])
	}
}

// journal reads the stream itself: go-redis would make a map of the fields, which have all one name.
func (p *parser) journal(d *Dump, cmd *redis.Cmd) {
	messages, err := cmd.Slice()
	if err != nil {
		p.fail("journal: %w", err)
	}
	for _, m := range messages {
		message, ok := m.([]any)
		if !ok || len(message) != 2 {
			p.fail("journal: an entry of %T", m)
			return
		}
		id, _ := message[0].(string)
		offset, _, _ := strings.Cut(id, "-")
		fields, _ := message[1].([]any)
		o := BlockOutcomes{Offset: p.int(offset)}
		if o.Count, o.Bytes, err = appendOutcomes(nil, fields); err != nil {
			p.fail("journal of offset %s: %w", offset, err)
		}
		d.Journal = append(d.Journal, o)
	}
}

func (p *parser) sources(fields map[string]string) {
	for key, value := range fields {
		if len(key) != entry.SourceLen || len(value) != 12 {
			p.fail("source of %d bytes with a position of %d", len(key), len(value))
			return
		}
		var s entry.Source
		copy(s.TopicID[:], key)
		s.Partition = int32(uint32(key[16])<<24 | uint32(key[17])<<16 | uint32(key[18])<<8 | uint32(key[19]))
		v := []byte(value)
		p.state.Sources[s] = entry.Position{Offset: int64(le.Uint64(v)), Ix: le.Uint32(v[8:])}
	}
}

func (p *parser) accounts(fields map[string]string) {
	for key, value := range fields {
		a, err := ledger.UnpackAccount([]byte(value))
		if err != nil {
			p.fail("account %s: %w", key, err)
			return
		}
		p.state.Accounts[uint32(p.within(key, 0, math.MaxUint32))] = &a
	}
}

func (p *parser) closed(fields map[string]string) {
	for zone, day := range fields {
		p.state.Closed[uint32(p.within(zone, 0, math.MaxUint32))] = int32(p.within(day, math.MinInt32, math.MaxInt32))
	}
}

func (p *parser) results(fields map[string]string, order []string) {
	for key, value := range fields {
		r, err := unpackResult([]byte(value))
		if err != nil {
			p.fail("result %x: %w", key, err)
			return
		}
		p.state.Results[p.id(key)] = r
	}
	for _, key := range order {
		p.state.ResultOrder = append(p.state.ResultOrder, p.id(key))
	}
}

func (p *parser) ids(members []string, into *ledger.IDs) {
	for _, m := range members {
		into.Add(p.id(m))
	}
}
