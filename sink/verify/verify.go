// Package verify proves that an installation is exact: it recounts every entry of the logs and compares the outcome with
// each row in ClickHouse, the balances with Redis, and the positions of the carriers' logs with the rows they made.
//
// It stands outside the flow and only reads. It recounts with math/big and ids that are never forgotten, in code that
// shares nothing with the fold of the debit stage or its script (see recount). Where a log was cut, it begins from the
// sums that ClickHouse holds before the cut. It may run on live traffic: whatever came after its first look is left out.
// It never mends anything.
package verify

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// Logs reads the two logs. Blocks come in the order of their offsets; the bytes are valid only inside yield, whose error
// ends the reading. It is called from several goroutines.
type Logs interface {
	// Bounds gives the first offset of entries that a shard's log holds, and the offset after the last.
	Bounds(ctx context.Context, shard int32) (start, end int64, err error)
	// Entries reads the blocks of entries from..to.
	Entries(ctx context.Context, shard int32, from, to int64, yield func(offset, appendMs int64, block []byte) error) error
	// Postings reads the postings of the blocks of entries from..to, each once.
	Postings(ctx context.Context, shard int32, from, to int64, yield func(block []byte) error) error
}

// Rows reads what is stored, each row once however often it was inserted. See ClickHouse.
type Rows interface {
	Digests(ctx context.Context, ranges []Range, yield func(shard int32, offset int64, d Digest)) error
	Rows(ctx context.Context, shard int32, offset int64) ([]Row, error)
	Sums(ctx context.Context, shard int32, before int64) (map[uint32]*big.Int, error)
}

// Range is a run of blocks of one shard, both ends with it.
type Range struct {
	Shard    int32
	From, To int64
}

// Progress tells how far the debit and the store stage have come.
type Progress interface {
	// Stored gives for each shard the offset of the last block that is stored with all before it, -1 for none.
	Stored(ctx context.Context, shards []int32) ([]int64, error)
	// Applied gives for each shard the offset of the last block that Redis has applied, -1 for none.
	Applied(ctx context.Context, shards []int32) ([]int64, error)
}

// Balances reads the live balances.
type Balances interface {
	// Shard gives the state of one shard at one moment: its watermark, and the accounts at it.
	Shard(ctx context.Context, shard int32) (wm int64, accounts map[uint32]Balance, err error)
}

// Balance is what Redis holds of an account and verify recounts.
type Balance struct {
	Units       int64
	Suspended   bool
	IntentUnits int64 // amount of the open recharge, 0 if there is none
}

// Sources tells how far the carriers' logs are rated.
type Sources interface {
	// Committed gives every source with the positions that are rated: all messages from First to before Next. First is -1
	// where it is not known; then the first row counts.
	Committed(ctx context.Context) ([]Rated, error)
	// Messages tells how many messages a source holds at offsets from..to: markers of transactions, and offsets that
	// compaction or retention has emptied, are none.
	Messages(ctx context.Context, source entry.Source, from, to int64) (int64, error)
}

// Rated is how far one source is rated.
type Rated struct {
	Name        string // for reports, such as "didww[3]"
	Source      entry.Source
	First, Next int64
}

// Deps are what is compared.
type Deps struct {
	Logs     Logs
	Rows     Rows
	Progress Progress
	Balances Balances
	Sources  Sources
	Book     Book
	Clock    stream.Clock
}

// Config names the limits of one verification. Zero fields take the defaults that their comments give.
type Config struct {
	// Shards is how many shards the installation has. Required.
	Shards int32
	// Workers is how many shards are recounted at once. Default 2.
	Workers int
	// ShardsPerScan is how many shards' digests are read in one pass over the tables and held in memory. Default 16.
	ShardsPerScan int32
	// Examples bounds the differences that are described; all are counted. Default 20.
	Examples int
	// Patience is how long to wait for Redis and ClickHouse to reach the end of the logs as it was at the start. What
	// they have not reached then is left out. Default 0.
	Patience time.Duration
}

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = 2
	}
	if c.ShardsPerScan == 0 {
		c.ShardsPerScan = 16
	}
	if c.Examples == 0 {
		c.Examples = 20
	}
	return c
}

// snapshot is what is verified of one shard.
type snapshot struct {
	shard      int32
	start, end int64 // of the log of entries
	stored     int64 // rows are compared up to this offset
	wm         int64 // balances are compared at this offset
	accounts   map[uint32]Balance
	digests    map[int64]Digest
}

// Run verifies the installation. An error means that it could not be done; differences are in the report.
func Run(ctx context.Context, deps Deps, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	report := &Report{Shards: cfg.Shards, limit: cfg.Examples}
	// The order matters: what a source has committed is in entries, what Redis has applied is in entries.
	rated, err := deps.Sources.Committed(ctx)
	if err != nil {
		return nil, err
	}
	entered, err := deps.Book.Entered(ctx)
	if err != nil {
		return nil, err
	}
	snapshots, err := look(ctx, deps, cfg)
	if err != nil {
		return nil, err
	}
	positions := newPositions(rated)
	decided := &decided{rated: entered, byShard: make([][]entry.Position, cfg.Shards)}
	for from := int32(0); from < cfg.Shards; from += cfg.ShardsPerScan {
		group := snapshots[from:min(from+cfg.ShardsPerScan, cfg.Shards)]
		if err := readDigests(ctx, deps.Rows, group); err != nil {
			return nil, err
		}
		workers, groupCtx := errgroup.WithContext(ctx)
		workers.SetLimit(cfg.Workers)
		for i := range group {
			workers.Go(func() error {
				c := comparison{deps: deps, snapshot: &group[i], report: report, positions: positions, decided: decided}
				return c.run(groupCtx)
			})
		}
		if err := workers.Wait(); err != nil {
			return nil, err
		}
	}
	if report.Cut > 0 { // positions before the cut are not known
		report.note("%d shards' logs are cut at the front, so the positions of sources are not checked", report.Cut)
		return report, nil
	}
	decided.check(deps.Book, report)
	return report, positions.check(ctx, deps.Sources, report)
}

// look takes the snapshot of every shard, after waiting for the stages to reach the ends of the logs if so configured.
func look(ctx context.Context, deps Deps, cfg Config) ([]snapshot, error) {
	ids, ends := make([]int32, cfg.Shards), make([]int64, cfg.Shards)
	for i := range ids {
		ids[i] = int32(i)
		_, end, err := deps.Logs.Bounds(ctx, ids[i])
		if err != nil {
			return nil, err
		}
		ends[i] = end
	}
	stored, err := awaitStages(ctx, deps, ids, ends, deps.Clock.Now().Add(cfg.Patience))
	if err != nil {
		return nil, err
	}
	snapshots := make([]snapshot, len(ids))
	for i, id := range ids {
		s := &snapshots[i]
		*s = snapshot{shard: id, stored: stored[i], digests: map[int64]Digest{}}
		if s.wm, s.accounts, err = deps.Balances.Shard(ctx, id); err != nil {
			return nil, err
		}
		if s.start, s.end, err = deps.Logs.Bounds(ctx, id); err != nil {
			return nil, err
		}
	}
	return snapshots, nil
}

// awaitStages waits until all that was in the logs is applied and stored, or the deadline, and tells how far the store is.
func awaitStages(ctx context.Context, deps Deps, ids []int32, ends []int64, deadline time.Time) ([]int64, error) {
	for {
		applied, err := deps.Progress.Applied(ctx, ids)
		if err != nil {
			return nil, err
		}
		stored, err := deps.Progress.Stored(ctx, ids)
		behind := false
		for i := range stored {
			behind = behind || min(stored[i], applied[i]) < ends[i]-1
		}
		if err != nil || !behind || !deps.Clock.Now().Before(deadline) {
			return stored, err
		}
		deps.Clock.Sleep(ctx, 200*time.Millisecond)
	}
}

// readDigests reads the digests of the rows that are to be compared.
func readDigests(ctx context.Context, rows Rows, group []snapshot) error {
	var ranges []Range
	byShard := map[int32]map[int64]Digest{}
	for i := range group {
		s := &group[i]
		byShard[s.shard] = s.digests
		if s.stored >= s.start {
			ranges = append(ranges, Range{Shard: s.shard, From: s.start, To: s.stored})
		}
	}
	return rows.Digests(ctx, ranges, func(shard int32, offset int64, d Digest) {
		sum := byShard[shard][offset]
		sum.Rows += d.Rows
		sum.Sum += d.Sum
		byShard[shard][offset] = sum
	})
}

// place names an entry in reports.
func place(shard int32, offset int64, ix uint32) string {
	return fmt.Sprintf("shard %d, block %d, entry %d", shard, offset, ix)
}
