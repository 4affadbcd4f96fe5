package verify

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// comparison verifies one shard.
type comparison struct {
	deps      Deps
	snapshot  *snapshot
	report    *Report
	positions *positions
	decided   *decided

	recount  *recount
	balances map[uint32]*big.Int // where the log is cut: only balances are recounted
	block    entry.Block
	postings posting.Block
	outcomes []posting.Outcome
	row      Row
	scratch  []byte
	next     int64 // offset of the next block

	blocks, entries, rows int64
}

func (c *comparison) run(ctx context.Context) error {
	s := c.snapshot
	c.next = s.start
	var err error
	if s.start == 0 {
		err = c.fromStart(ctx)
	} else {
		err = c.fromSums(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot verify shard %d: %w", s.shard, err)
	}
	if c.next < s.end {
		c.report.differ(s.end-c.next, "shard %d: the log ends before block %d instead of block %d", s.shard, c.next, s.end)
	}
	for _, offset := range slices.Sorted(maps.Keys(s.digests)) { // what no block accounts for
		c.report.differ(int64(s.digests[offset].Rows), "shard %d: ClickHouse has %d rows of block %d, which is not in the log", s.shard, s.digests[offset].Rows, offset)
	}
	c.report.count(c.blocks, c.entries, c.rows, int64(len(s.accounts)))
	return nil
}

// fromStart recounts all entries.
func (c *comparison) fromStart(ctx context.Context) error {
	s := c.snapshot
	c.recount = newRecount()
	if s.wm < 0 {
		c.compareBalances()
	}
	if s.wm >= s.end {
		c.report.differ(1, "shard %d: Redis is at block %d, beyond the end %d of the log", s.shard, s.wm, s.end)
	}
	return c.deps.Logs.Entries(ctx, s.shard, 0, s.end-1, func(offset, appendMs int64, wire []byte) error {
		if err := c.block.Decode(wire); err != nil {
			return fmt.Errorf("block %d: %w", offset, err)
		}
		var err error
		if c.outcomes, err = c.recount.apply(offset, appendMs, &c.block, c.outcomes); err != nil {
			return err
		}
		c.positions.mark(&c.block, c.outcomes, c.report)
		c.decided.mark(s.shard, &c.block, c.outcomes)
		if err := c.compareBlock(ctx, offset, appendMs, &c.block, c.outcomes); err != nil {
			return err
		}
		if offset == s.wm {
			c.compareBalances()
		}
		return nil
	})
}

// fromSums begins with the sums of what is stored before the cut, and takes the results from the postings: what they
// depend on is not in the logs any more. Amounts and balances are recounted.
func (c *comparison) fromSums(ctx context.Context) error {
	s := c.snapshot
	c.report.cut()
	if s.stored < s.start-1 {
		c.report.note("shard %d: ClickHouse has not stored what the log no longer holds; only the rest is compared", s.shard)
	}
	var err error
	if c.balances, err = c.deps.Rows.Sums(ctx, s.shard, s.start); err != nil {
		return err
	}
	switch {
	case s.wm == s.start-1:
		c.compareUnits()
	case s.wm < s.start:
		c.report.note("shard %d: Redis is at block %d, before the start %d of the log; its balances are not compared", s.shard, s.wm, s.start)
	}
	return c.deps.Logs.Postings(ctx, s.shard, s.start, s.end-1, func(wire []byte) error {
		b := &c.postings
		if err := b.Decode(wire); err != nil {
			return err
		}
		c.addUp(b)
		if err := c.compareBlock(ctx, b.EntryOffset, b.AppendMs, &b.Entries, b.Outcomes); err != nil {
			return err
		}
		if b.EntryOffset == s.wm {
			c.compareUnits()
		}
		return nil
	})
}

// addUp recounts the balances of one block, and puts into its outcomes what they must be.
func (c *comparison) addUp(b *posting.Block) {
	for i := range b.Outcomes {
		o, id := &b.Outcomes[i], b.Entries.Account[i]
		if shardWide(b.Entries.Kind[i]) && o.Result != posting.Repeated {
			id = 0
		}
		amount := o.AmountUnits
		if o.Result == posting.Charged {
			amount = b.Entries.AmountUnits[i]
		} else if o.Result != posting.Applied {
			amount = 0
		}
		o.AmountUnits, o.BalanceUnits = amount, 0
		balance := c.balances[id]
		if balance == nil && amount != 0 {
			balance = new(big.Int)
			c.balances[id] = balance
		}
		if balance != nil {
			balance.Add(balance, big.NewInt(int64(amount)))
			o.BalanceUnits = units(balance)
		}
	}
}

func shardWide(k entry.Kind) bool {
	return k == entry.Close || k == entry.Param || k == entry.FoldVersion
}

// compareBlock compares one block with its rows: by their digest, and one by one only where that differs.
func (c *comparison) compareBlock(ctx context.Context, offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) error {
	s := c.snapshot
	if offset != c.next {
		c.report.differ(offset-c.next, "shard %d: the log has block %d after block %d", s.shard, offset, c.next-1)
	}
	c.next = offset + 1
	c.blocks++
	c.entries += int64(b.Len())
	if offset > s.stored {
		return nil
	}
	c.rows += int64(b.Len())
	var must Digest
	for i := range outcomes {
		c.row.fill(b, i, appendMs, &outcomes[i])
		c.scratch = must.add(&c.row, c.scratch)
	}
	stored := s.digests[offset]
	delete(s.digests, offset)
	if stored == must {
		return nil
	}
	if !c.report.describes() {
		c.report.differ(max(1, int64(max(must.Rows, stored.Rows)-min(must.Rows, stored.Rows))), "")
		return nil
	}
	return c.explain(ctx, offset, appendMs, b, outcomes)
}

// explain compares the rows of one block one by one.
func (c *comparison) explain(ctx context.Context, offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) error {
	s := c.snapshot
	rows, err := c.deps.Rows.Rows(ctx, s.shard, offset)
	if err != nil {
		return err
	}
	byIx := map[uint32][]*Row{}
	for i := range rows {
		byIx[rows[i].Ix] = append(byIx[rows[i].Ix], &rows[i])
	}
	found := int64(0)
	differ := func(ix uint32, format string, args ...any) {
		found++
		c.report.differ(1, "%s: %s", place(s.shard, offset, ix), fmt.Sprintf(format, args...))
	}
	for i := range outcomes {
		c.row.fill(b, i, appendMs, &outcomes[i])
		stored := byIx[uint32(i)]
		delete(byIx, uint32(i))
		switch {
		case len(stored) == 0:
			differ(uint32(i), "account %d has no row in %s", c.row.Account, c.row.Table)
		case len(stored) > 1:
			differ(uint32(i), "account %d has %d rows with different keys instead of one", c.row.Account, len(stored))
		case *stored[0] != c.row:
			differ(uint32(i), "account %d: %s", c.row.Account, c.row.differing(stored[0]))
		}
	}
	for _, ix := range slices.Sorted(maps.Keys(byIx)) {
		differ(ix, "ClickHouse has %d rows, the block has no such entry", len(byIx[ix]))
	}
	if found == 0 {
		c.report.differ(1, "shard %d, block %d: the digest of its rows differs, but no row does: did they change meanwhile?", s.shard, offset)
	}
	return nil
}

// compareBalances compares every account with Redis.
func (c *comparison) compareBalances() {
	must := make(map[uint32]Balance, len(c.recount.accounts))
	for id, a := range c.recount.accounts {
		b := Balance{Units: int64(units(a.balance)), Suspended: a.suspended}
		if a.waiting {
			b.IntentUnits = int64(units(a.intentUnits))
		}
		must[id] = b
	}
	c.compareAccounts(must)
}

// compareUnits compares the balances alone.
func (c *comparison) compareUnits() {
	must := make(map[uint32]Balance, len(c.balances))
	for id, live := range c.snapshot.accounts { // an account without a balance may be in Redis and not in the sums
		live.Units = 0
		must[id] = live
	}
	for id, balance := range c.balances {
		if b, live := must[id]; live || balance.Sign() != 0 {
			b.Units = int64(units(balance))
			must[id] = b
		}
	}
	c.compareAccounts(must)
}

func (c *comparison) compareAccounts(must map[uint32]Balance) {
	s := c.snapshot
	for id, want := range must {
		if got, ok := s.accounts[id]; !ok {
			c.report.differ(1, "shard %d: account %d is not in Redis, its balance must be %d units", s.shard, id, want.Units)
		} else if got != want {
			c.report.differ(1, "shard %d: account %d is %+v in Redis at block %d, must be %+v", s.shard, id, got, s.wm, want)
		}
	}
	for id, got := range s.accounts {
		if _, ok := must[id]; !ok {
			c.report.differ(1, "shard %d: account %d is %+v in Redis, the log does not know it", s.shard, id, got)
		}
	}
}
