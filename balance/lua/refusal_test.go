package lua_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
)

// trouble is what can be wrong with a call or with the shard that it meets, in the order in which protocol rule 5 decides:
// of several at once, the first one is the answer.
type trouble int

const (
	empty        trouble = iota // the shard has no state
	torn                        // half a call has come back
	installation                // the shard is another installation's
	otherTopic                  // the shard is of another topic
	halted                      // the shard was halted by hand
	ahead                       // the call begins above wm + 1
	below                       // the call begins at base or below
	newerShard                  // the shard is at a fold version that the build lacks
	missing                     // a block follows a position that the shard has not seen
	newerEntries                // an entry is of a kind, a parameter or a fold version that the build lacks
	troubles                    // how many there are
)

var troubleNames = [troubles]string{"no state", "a torn state", "another installation", "another topic", "a halt", "a gap", "a trimmed journal",
	"a shard of a newer build", "a missing block", "entries of a newer build"}

// wrongs are the troubles of one call.
type wrongs [troubles]bool

func (w wrongs) String() string {
	var names []string
	for i, wrong := range w {
		if wrong {
			names = append(names, troubleNames[i])
		}
	}
	return strings.Join(names, ", ")
}

// another is added to a shard's number for one that has no state.
const another = 1 << 20

// stray sends a call with one or more troubles. The answer must be that of the first one, and nothing may be written.
func (t *twin) stray(ctx context.Context) {
	with := t.draw()
	c := &lua.Call{Shard: t.shard, TopicID: topic}
	t.aim(c, with)
	bad := t.spoil(c, with)
	shards := t.shards
	if with[installation] {
		shards = t.others
	}
	if with[empty] {
		c.Shard += another
	}
	if with[otherTopic] {
		c.TopicID[t.rng.IntN(len(c.TopicID))]++
	}
	defer t.afflict(ctx, with)()
	before := t.held(ctx)
	t.check(shards.Apply(ctx, []*lua.Call{c}))
	want := t.refusal(c, with, bad)
	want.Outcomes = c.Reply.Outcomes // of which there are none
	if !reflect.DeepEqual(c.Reply, want) || len(c.Reply.Outcomes) > 0 {
		t.Fatalf("shard %d at (%d, %d], with %v: the call from %d to %d has %+v\ninstead of %+v", t.shard, t.base, t.wm, with, c.From, c.To, c.Reply, want)
	}
	if !reflect.DeepEqual(t.held(ctx), before) {
		t.Fatalf("shard %d at (%d, %d], with %v: %s wrote something", t.shard, t.base, t.wm, with, c.Reply.Status)
	}
}

// draw draws one trouble or some that are possible.
func (t *twin) draw() (with wrongs) {
	for with == (wrongs{}) {
		with[t.rng.IntN(len(with))] = true
		for i := range with {
			with[i] = with[i] || t.rng.IntN(20) == 0
		}
		if with[below] = with[below] && t.base >= 0; with[below] {
			with[ahead] = false
		}
		if with[empty] {
			with[torn] = false
		}
	}
	return with
}

// aim fills in the call's range and the blocks of the log that lie in it.
func (t *twin) aim(c *lua.Call, with wrongs) {
	switch {
	case with[ahead]:
		c.From = t.wm + 2 + t.rng.Int64N(2)*t.rng.Int64N(5)
	case with[below]:
		c.From = t.base - t.rng.Int64N(2)*t.rng.Int64N(min(t.base+1, 40))
	default:
		c.From = t.wm + 1 - t.rng.Int64N(t.wm-t.base+1)
	}
	c.To = max(c.From-1, t.state.WM)
	c.ShippedTo = []int64{-1, t.base, t.wm, t.wm + 5}[t.rng.IntN(4)]
	c.Blocks = c.Blocks[:0]
	for _, b := range t.log {
		if b.offset >= c.From && b.offset <= c.To {
			c.Blocks = append(c.Blocks, lua.BlockRef{Offset: b.offset, AppendMs: b.appendMs, Entries: &b.entries})
		}
	}
}

// spoil puts a block that must not be folded behind those of the log, and gives what the fold in Go says of it.
func (t *twin) spoil(c *lua.Call, with wrongs) error {
	if !with[missing] && !with[newerEntries] {
		return nil
	}
	var b entry.Block
	source := t.gen.sources[t.rng.IntN(len(t.gen.sources))]
	seen, ok := t.state.Sources[source]
	if !ok {
		seen = entry.None
	}
	b.Reset(source, seen)
	if with[missing] {
		b.Prev = []entry.Position{{Offset: seen.Offset, Ix: seen.Ix + 1}, {Offset: seen.Offset + 1}, {Offset: seen.Offset + 1000, Ix: 3}}[t.rng.IntN(3)]
	}
	bad, count := -1, 1+t.rng.IntN(700)
	if with[newerEntries] {
		bad = t.rng.IntN(count)
	}
	at := max(0, seen.Offset-int64(t.rng.IntN(3)))
	for i := range count {
		var e entry.Entry
		if t.gen.entry(&e, t.rng.IntN(2) == 0); i == bad || bad >= 0 && t.rng.IntN(300) == 0 {
			t.unknown(&e)
		}
		e.Position = entry.Position{Offset: at + int64(i)}
		b.Add(&e)
	}
	c.To++
	c.Blocks = append(c.Blocks, lua.BlockRef{Offset: c.To, AppendMs: max(0, t.gen.nowMs), Entries: &b})
	err := t.state.Check(&b)
	if err == nil {
		t.Fatalf("shard %d: the fold takes a block with %v", t.shard, with)
	}
	return err
}

// unknown makes the entry one that a newer build may know.
func (t *twin) unknown(e *entry.Entry) {
	switch t.rng.IntN(3) {
	case 0:
		e.Kind = []entry.Kind{0, entry.Settings + 1, 128, 255}[t.rng.IntN(4)]
	case 1:
		e.Kind = entry.Param
		e.Args[entry.ArgParam] = []int64{int64(ledger.ParamCount), -1, 1 << 31, math.MinInt64}[t.rng.IntN(4)]
	case 2:
		e.Kind = entry.FoldVersion
		e.Args[0] = []int64{ledger.FoldVersion + 1, 77, 1 << 31, math.MaxInt64 - 1023}[t.rng.IntN(4)]
	}
}

// afflict makes the shard what the troubles say, and gives what makes it well again.
func (t *twin) afflict(ctx context.Context, with wrongs) (heal func()) {
	head := t.stem() + "head"
	change := func(field, value string) (back func()) {
		was, err := t.client.HGet(ctx, head, field).Result()
		t.check(t.client.HSet(ctx, head, field, value).Err())
		if errors.Is(err, redis.Nil) {
			return func() { t.check(t.client.HDel(ctx, head, field).Err()) }
		}
		t.check(err)
		return func() { t.check(t.client.HSet(ctx, head, field, was).Err()) }
	}
	var heals []func()
	if with[torn] {
		heals = append(heals, change("begun", strconv.Itoa(math.MaxInt32)))
	}
	if with[newerShard] {
		heals = append(heals, change("version", strconv.Itoa(ledger.FoldVersion+1)))
	}
	if with[halted] {
		heals = append(heals, change("halted", "for a look"))
	}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

// refusal is what protocol rule 5 and the fold in Go answer, and counts it.
func (t *twin) refusal(c *lua.Call, with wrongs, bad error) lua.Reply {
	first := trouble(0)
	for !with[first] {
		first++
	}
	t.seen.refusals[first]++
	switch first {
	case empty, torn:
		return lua.Reply{Status: lua.Uninit}
	case installation:
		return lua.Reply{Status: lua.Halt, Detail: "the shard belongs to installation test"}
	case otherTopic:
		return lua.Reply{Status: lua.Halt, Detail: "the shard belongs to another topic: " + hex.EncodeToString(topic[:])}
	case halted:
		return lua.Reply{Status: lua.Halt, Detail: "for a look"}
	case ahead:
		return lua.Reply{Status: lua.Gap, WM: t.wm}
	case below:
		return lua.Reply{Status: lua.Trimmed, Base: t.base}
	case newerShard:
		newer := *t.state
		newer.Version = ledger.FoldVersion + 1
		bad = newer.Check(&entry.Block{})
	}
	if errors.Is(bad, ledger.ErrMissing) { // the script says where, too
		if strings.HasPrefix(c.Reply.Detail, ledger.ErrMissing.Error()+": the one at offset "+strconv.FormatInt(c.To, 10)+" follows ") {
			return lua.Reply{Status: lua.Halt, Detail: c.Reply.Detail}
		}
		return lua.Reply{Status: lua.Halt, Detail: bad.Error()}
	}
	return lua.Reply{Status: lua.Version, Detail: strings.TrimPrefix(bad.Error(), ledger.ErrVersion.Error()+": ")}
}

// again asks for outcomes that the journal holds, with blocks that hold something else by now: the answer is the journal's,
// and nothing changes but the count of calls.
func (t *twin) again(ctx context.Context) {
	if t.wm == t.base {
		return
	}
	c := &lua.Call{Shard: t.shard, TopicID: topic, From: t.wm - t.rng.Int64N(t.wm-t.base), ShippedTo: t.rng.Int64N(t.base+2) - 1}
	c.To = c.From + t.rng.Int64N(t.wm-c.From+1)
	var want []*block
	for _, b := range t.log {
		if b.offset >= c.From && b.offset <= c.To {
			want = append(want, b)
			c.Blocks = append(c.Blocks, lua.BlockRef{Offset: b.offset, AppendMs: b.appendMs + 1, Entries: &t.log[t.rng.IntN(len(t.log))].entries})
		}
	}
	if t.rng.IntN(2) == 0 {
		c.Blocks = nil
	}
	before := t.held(ctx)
	t.check(t.shards.Apply(ctx, []*lua.Call{c}))
	r := c.Reply
	if r.Status != lua.OK || r.WM != t.wm || r.Base != t.base || len(r.Outcomes) != len(want) {
		t.Fatalf("shard %d at (%d, %d]: asked again from %d to %d: %s, (%d, %d] with %d blocks instead of %d", t.shard, t.base, t.wm, c.From, c.To,
			r.Status, r.Base, r.WM, len(r.Outcomes), len(want))
	}
	for i, o := range r.Outcomes {
		if b := want[i]; o.Offset != b.offset || o.Count != b.entries.Len() || string(o.Bytes) != string(t.want[b.offset]) {
			t.Fatalf("shard %d at (%d, %d]: asked again, block %d has other outcomes", t.shard, t.base, t.wm, b.offset)
		}
	}
	after := t.held(ctx)
	for _, all := range []map[string]any{before, after} {
		head := all[t.stem()+"head"].(map[string]string)
		delete(head, "begun")
		delete(head, "ended")
	}
	if !reflect.DeepEqual(after, before) {
		t.Fatalf("shard %d at (%d, %d]: asked again from %d to %d, it changed", t.shard, t.base, t.wm, c.From, c.To)
	}
	t.seen.repeats++
}

func (t *twin) stem() string { return fmt.Sprintf("%s{%d}:", lua.DefaultPrefix, t.shard) }

// held is all that Redis holds of the shard, and of the number beside it that has no state.
func (t *twin) held(ctx context.Context) map[string]any {
	all := everything(t.T, t.client, t.stem()+"*")
	maps.Copy(all, everything(t.T, t.client, fmt.Sprintf("%s{%d}:*", lua.DefaultPrefix, t.shard+another)))
	return all
}
