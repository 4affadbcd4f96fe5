package lua_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
)

var topic = [16]byte{1, 2, 3}

// dial starts a Redis for the test and gives a client of it.
func dial(t testing.TB) redis.UniversalClient {
	client := redis.NewUniversalClient(lua.Options(local.ForTest(t, local.Redis).RedisAddr))
	t.Cleanup(func() { client.Close() })
	return client
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// twin drives the script and the Go fold through the same log and compares them.
type twin struct {
	*testing.T
	rng    *rand.Rand
	client redis.UniversalClient
	shards *lua.Shards
	others *lua.Shards   // the same ones, as another installation sees them
	state  *ledger.Shard // the fold in Go, after all of the log
	gen    *generator
	log    []*block
	want   map[int64][]byte // outcomes by offset
	wm     int64            // of Redis
	base   int64
	call   lua.Call
	shard  int32
	seen   *coverage
}

// coverage counts what the log made happen, so that a generator that goes blind is noticed.
type coverage struct {
	results     [posting.Unmatched + 1]int
	flags       [8]int
	generations int64
	loads       int
	refusals    [troubles]int // by the trouble that decided
	repeats     int           // answers from the journal alone
	listsFull   int           // open lists that had no room for another attempt, as of some block
	waiting     int           // accounts that had used up their recharges, as of some block
}

func (c *coverage) add(outcomes []posting.Outcome) {
	for _, o := range outcomes {
		c.results[o.Result]++
		for bit := range c.flags {
			c.flags[bit] += int(o.Flags >> bit & 1)
		}
	}
}

// lacks tells whether something never happened.
func (c *coverage) lacks() bool {
	return slices.Contains(c.results[1:], 0) || slices.Contains(c.flags[:], 0) || slices.Contains(c.refusals[:], 0) ||
		slices.Contains([]int{c.repeats, c.listsFull, c.waiting}, 0) || c.generations < 10 || c.loads < 3
}

// TestScriptIsTheTwinOfTheFold holds apply.lua to ledger.Fold on a real Redis: outcomes byte for byte, journal, state, and
// the refusals of protocol rule 5, which leave everything as it was.
// TOLLGATE_SEED repeats a run, TOLLGATE_ENTRIES sets its length: beyond 300,000 there are more shards, not longer logs.
func TestScriptIsTheTwinOfTheFold(t *testing.T) {
	client := dial(t)
	seed := number("TOLLGATE_SEED", rand.Uint64())
	entries := int(number("TOLLGATE_ENTRIES", 300_000))
	t.Logf("TOLLGATE_SEED=%d TOLLGATE_ENTRIES=%d", seed, entries)
	var seen coverage
	for shard, folded := int32(0), 0; folded < entries; shard++ {
		tw := newTwin(t, client, seed, shard, &seen)
		tw.gen.blockLen, tw.gen.stubborn = []int{10, 60, 400}[tw.rng.IntN(3)], shard%4 == 3
		if tw.gen.stubborn {
			tw.state.Params[ledger.Attempts] = 255
			tw.state.Accounts[1] = &ledger.Account{Open: true, Floor: ledger.NoDay, BalanceUnits: -1, RechargeToUnits: 1_000_000}
		}
		folded += tw.run(min(entries/12, 25_000))
	}
	t.Logf("outcomes by result %v, by flag %v, %d generations, %d loads of older images", seen.results, seen.flags, seen.generations, seen.loads)
	t.Logf("refused calls by what decided %v, %d answers from the journal alone", seen.refusals, seen.repeats)
	t.Logf("%d times an open list was full, %d times an account had used up its recharges", seen.listsFull, seen.waiting)
	if entries >= 300_000 && seen.lacks() {
		t.Error("the generated log left something out")
	}
}

// newTwin makes the fold in Go and a generator for a shard that Redis does not have yet.
func newTwin(t *testing.T, client redis.UniversalClient, seed uint64, shard int32, seen *coverage) *twin {
	rng, state := rand.New(rand.NewPCG(seed, uint64(shard))), ledger.New()
	state.Params[ledger.GiveUpAfter] = []int64{1, 2, 5}[rng.IntN(3)]
	return &twin{T: t, rng: rng, client: client, shards: lua.New(client, lua.Config{Installation: "test", LoadChunkValues: 300}),
		others: lua.New(client, lua.Config{Installation: "other"}), state: state, gen: newGenerator(rng, state), want: map[int64][]byte{}, wm: -1,
		base: -1, shard: shard, seen: seen}
}

// run makes a shard, folds about so many entries, and gives how many.
func (t *twin) run(entries int) (folded int) {
	ctx := t.Context()
	t.check(t.shards.Load(ctx, t.shard, topic, t.state))
	image := clone(t, t.state)
	for round := 0; folded < entries; round++ {
		for range 1 + t.rng.IntN(6) {
			folded += t.extend()
		}
		t.catchUp(ctx)
		if t.rng.IntN(12) == 0 {
			t.compareState(ctx)
		}
		switch t.rng.IntN(60) {
		case 0:
			image = clone(t, t.state)
		case 1: // Redis falls back to an older state
			t.check(t.shards.Wipe(ctx, t.shard, t.wm))
			t.check(t.shards.Load(ctx, t.shard, topic, image))
			t.wm, t.base = image.WM, image.WM
			t.seen.loads++
			t.catchUp(ctx)
		}
	}
	t.compareState(ctx)
	t.seen.generations += t.state.Generation
	return folded
}

func (t *twin) check(err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("shard %d: %v", t.shard, err)
	}
}

// extend adds a block to the log, folds it in Go and keeps what it should make.
func (t *twin) extend() int {
	b := t.gen.next()
	t.check(t.state.Check(&b.entries))
	outcomes := t.state.Fold(b.offset, b.appendMs, &b.entries, nil)
	t.want[b.offset] = posting.AppendOutcomes(nil, outcomes)
	t.seen.add(outcomes)
	for _, a := range t.state.Accounts {
		if len(a.Tokens) == ledger.TokensKept {
			t.seen.listsFull++
		}
		if a.Failures > 0 && int64(a.Failures) >= t.state.Params[ledger.GiveUpAfter] {
			t.seen.waiting++
		}
	}
	t.log = append(t.log, b)
	return b.entries.Len()
}

// catchUp calls the script until it has all of the log, in calls of any length that may begin below wm.
func (t *twin) catchUp(ctx context.Context) {
	end := t.state.WM
	for t.wm < end || t.rng.IntN(6) == 0 {
		switch t.rng.IntN(60) {
		case 0, 1, 2, 3:
			t.stray(ctx)
		case 4:
			t.again(ctx)
		}
		c := &t.call
		c.Shard, c.TopicID = t.shard, topic
		c.From = t.wm + 1
		if back := t.wm - t.base; back > 0 && t.rng.IntN(3) == 0 {
			c.From -= t.rng.Int64N(back + 1)
		}
		if c.To = c.From - 1 + t.rng.Int64N(end-c.From+2); t.rng.IntN(2) == 0 {
			c.To = end
		}
		c.ShippedTo = []int64{-1, c.From - 1, t.base, t.wm + 5}[t.rng.IntN(4)]
		c.Blocks = c.Blocks[:0]
		for _, b := range t.log {
			if b.offset >= c.From && b.offset <= c.To {
				c.Blocks = append(c.Blocks, lua.BlockRef{Offset: b.offset, AppendMs: b.appendMs, Entries: &b.entries})
			}
		}
		t.check(t.shards.Apply(ctx, []*lua.Call{c}))
		t.compareReply()
	}
}

func (t *twin) compareReply() {
	c, r := &t.call, &t.call.Reply
	if r.Status != lua.OK {
		t.Fatalf("shard %d: from %d to %d: %s %s", t.shard, c.From, c.To, r.Status, r.Detail)
	}
	t.base = max(t.base, min(c.ShippedTo, t.wm))
	t.wm = max(t.wm, c.To)
	if r.WM != t.wm || r.Base != t.base {
		t.Fatalf("shard %d: from %d to %d: wm %d, base %d instead of %d, %d", t.shard, c.From, c.To, r.WM, r.Base, t.wm, t.base)
	}
	if len(r.Outcomes) != len(c.Blocks) {
		t.Fatalf("shard %d: outcomes of %d blocks for %d", t.shard, len(r.Outcomes), len(c.Blocks))
	}
	for i, o := range r.Outcomes {
		b := c.Blocks[i]
		if o.Offset != b.Offset || o.Count != b.Entries.Len() {
			t.Fatalf("shard %d: outcomes of %d (%d entries) for block %d (%d)", t.shard, o.Offset, o.Count, b.Offset, b.Entries.Len())
		}
		t.compareOutcomes(b, o.Bytes)
	}
}

func (t *twin) compareOutcomes(b lua.BlockRef, got []byte) {
	want := t.want[b.Offset]
	if bytes.Equal(got, want) {
		return
	}
	fold, _ := posting.DecodeOutcomes(nil, want, b.Entries.Len())
	script, err := posting.DecodeOutcomes(nil, got, b.Entries.Len())
	for i := range script {
		if script[i] != fold[i] {
			t.Fatalf("shard %d, block %d, entry %d, %s of account %d, amount %d, args %v:\nscript %+v\nfold   %+v", t.shard, b.Offset, i,
				b.Entries.Kind[i], b.Entries.Account[i], b.Entries.AmountUnits[i], b.Entries.Args(i), script[i], fold[i])
		}
	}
	t.Fatalf("shard %d, block %d: outcomes differ: %v", t.shard, b.Offset, err)
}

// compareState compares everything that Redis holds with the fold in Go.
func (t *twin) compareState(ctx context.Context) {
	dump, err := t.shards.Dump(ctx, t.shard)
	t.check(err)
	if difference := ledger.Equal(dump.State, t.state); difference != "" {
		t.Fatalf("shard %d at %d: script and fold: %s", t.shard, t.wm, difference)
	}
	kept := 0
	for _, b := range t.log {
		if b.offset <= t.base {
			continue
		}
		if kept >= len(dump.Journal) || dump.Journal[kept].Offset != b.offset || !bytes.Equal(dump.Journal[kept].Bytes, t.want[b.offset]) {
			t.Fatalf("shard %d: the journal lacks block %d above base %d", t.shard, b.offset, t.base)
		}
		kept++
	}
	if kept != len(dump.Journal) {
		t.Fatalf("shard %d: the journal holds %d blocks instead of %d", t.shard, len(dump.Journal), kept)
	}
	attention, err := t.shards.Attention(ctx, t.shard)
	t.check(err)
	var want []uint32
	for id := range t.state.Accounts {
		if t.state.Accounts[id].WantsAttention(t.state.Params[ledger.GiveUpAfter]) {
			want = append(want, id)
		}
	}
	if slices.Sort(want); !slices.Equal(attention, want) {
		t.Fatalf("shard %d: attention %v instead of %v", t.shard, attention, want)
	}
}

// clone copies a state by way of its image.
func clone(t testing.TB, s *ledger.Shard) *ledger.Shard {
	t.Helper()
	var a ledger.Assembler
	if err := (ledger.Image{State: s}).Write([16]byte{1}, 0, a.Add); err != nil {
		t.Fatal(err)
	}
	copied := a.Newest().State
	if difference := ledger.Equal(s, copied); difference != "" {
		t.Fatalf("the image differs: %s", difference)
	}
	return copied
}
