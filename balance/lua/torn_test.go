package lua_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/entry"
)

// TestTornTransactions cuts the append-only file in the middle of a call and restarts Redis twice. The first start drops
// the half call, but servers that cut their file off behind its last whole command keep its open MULTI: at the second
// start the half comes back, together with what was written since. A shard must either hold the state of its offset, or
// say that it is torn.
func TestTornTransactions(t *testing.T) {
	stack := local.ForTest(t, local.Redis)
	client := redis.NewUniversalClient(lua.Options(stack.RedisAddr))
	t.Cleanup(func() { client.Close() })
	torn := 0
	for _, c := range []struct {
		name    string
		everyMs int64 // from one block to the next
	}{
		{"one generation of ids", 0},
		{"the call that is cut begins a generation", 5 * 3600 * 1000}, // in its sixth block
	} {
		t.Run(c.name, func(t *testing.T) {
			shards := lua.New(client, lua.Config{Installation: "test", Prefix: c.name + ":"})
			for shard, cutBytes := range []int64{1, 7, 20, 40, 70, 150, 400, 1000, 2500, 5000, 9000} {
				if (&tear{T: t, server: stack.Redis, shards: shards, shard: int32(shard), cutBytes: cutBytes}).run(c.everyMs) {
					torn++
				}
			}
		})
	}
	t.Logf("%d shards came back torn", torn)
}

// tear is what befalls one shard.
type tear struct {
	*testing.T
	server   *local.Server
	shards   *lua.Shards
	shard    int32
	cutBytes int64
	log      []lua.BlockRef
	states   []*ledger.Shard // before each block
}

// run tells whether the shard came back torn.
func (t *tear) run(everyMs int64) (torn bool) {
	t.Helper()
	const blocks, first, second = 40, 10, 20
	t.states = []*ledger.Shard{ledger.New()}
	for at := range int64(blocks) {
		b := usage(entry.Source{Partition: 1}, 20*at-1, 20*at, 20)
		appendMs := 1_790_000_000_000 + at*everyMs
		for i := range b.EventMs {
			b.EventMs[i] = appendMs
		}
		t.log = append(t.log, lua.BlockRef{Offset: at, AppendMs: appendMs, Entries: b})
		next := clone(t, t.states[at])
		next.Fold(at, appendMs, b, nil)
		t.states = append(t.states, next)
	}
	must(t.T, t.shards.Load(t.Context(), t.shard, topic, t.states[0]))
	t.apply(0, first)
	t.apply(first, second)
	t.restart(t.cutBytes)
	if h := head(t.T, t.shards, t.shard); h.WM == first-1 {
		t.apply(first, first+3)
	}
	t.restart(0)
	h := head(t.T, t.shards, t.shard)
	if h.Torn {
		if r := t.call(h.WM+1, h.WM+2); r.Status != lua.Uninit {
			t.Fatalf("%d bytes cut: a torn shard answered %s", t.cutBytes, r.Status)
		}
		must(t.T, t.shards.Wipe(t.Context(), t.shard, h.WM))
		must(t.T, t.shards.Load(t.Context(), t.shard, topic, t.states[0]))
		h = head(t.T, t.shards, t.shard)
		torn = true
	}
	t.hold(h.WM + 1)
	for at := h.WM + 1; at < blocks; at++ {
		t.apply(at, at+1)
	}
	t.hold(blocks)
	return torn
}

func (t *tear) restart(cutBytes int64) {
	t.Helper()
	must(t.T, t.server.Kill())
	if cutBytes > 0 {
		_, err := t.server.CutAOF(cutBytes)
		must(t.T, err)
	}
	must(t.T, t.server.Restart(t.Context()))
}

// call has the shard apply the blocks from one on, up to another.
func (t *tear) call(from, until int64) lua.Reply {
	t.Helper()
	c := &lua.Call{Shard: t.shard, TopicID: topic, From: from, To: until - 1, ShippedTo: -1, Blocks: t.log[from:until]}
	return apply(t.T, t.shards, c)
}

func (t *tear) apply(from, until int64) {
	t.Helper()
	if r := t.call(from, until); r.Status != lua.OK {
		t.Fatalf("%d bytes cut: blocks %d to %d: %s %s", t.cutBytes, from, until-1, r.Status, r.Detail)
	}
}

// hold demands that the shard holds just the state before a block.
func (t *tear) hold(block int64) {
	t.Helper()
	dump, err := t.shards.Dump(t.Context(), t.shard)
	must(t.T, err)
	if difference := ledger.Equal(dump.State, t.states[block]); difference != "" {
		t.Errorf("shard %d, %d bytes cut, before block %d: script and fold: %s", t.shard, t.cutBytes, block, difference)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func head(t *testing.T, shards *lua.Shards, shard int32) lua.Head {
	t.Helper()
	heads := make([]lua.Head, 1)
	must(t, shards.Heads(t.Context(), []int32{shard}, heads))
	return heads[0]
}
