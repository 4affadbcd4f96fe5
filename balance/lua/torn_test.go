package lua_test

import (
	"strings"
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
// say that it is torn: after every cut on such a server, and never on any other.
func TestTornTransactions(t *testing.T) {
	stack := local.ForTest(t, local.Redis)
	client := redis.NewUniversalClient(lua.Options(stack.RedisAddr))
	t.Cleanup(func() { client.Close() })
	halvesComeBack := bringsHalvesBack(t, stack.Redis, client)
	torn, cuts := 0, 0
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
				cuts++
				if (&tear{T: t, server: stack.Redis, client: client, shards: shards, shard: int32(shard), cutBytes: cutBytes}).run(c.everyMs) {
					torn++
				}
			}
		})
	}
	want := 0
	if halvesComeBack {
		want = cuts
	}
	if t.Logf("%d of %d shards came back torn", torn, cuts); torn != want {
		t.Errorf("%d of %d shards came back torn instead of %d", torn, cuts, want)
	}
}

// bringsHalvesBack tells whether the server is one that keeps the MULTI of a transaction that it has dropped. Redis 7.0 is.
func bringsHalvesBack(t *testing.T, server *local.Server, client redis.UniversalClient) (back bool) {
	t.Helper()
	write := func(key string) {
		_, err := client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
			pipe.Set(t.Context(), key+" 1", "", 0)
			return pipe.Set(t.Context(), key+" 2", "", 0).Err()
		})
		must(t, err)
	}
	found := func() bool { return client.Exists(t.Context(), "half 1").Val() > 0 }
	syncAlways(t, client)
	write("half")
	restartCut(t, server, client, 1)
	if found() {
		t.Fatal("a transaction without its end was read back at the first start")
	}
	write("later")
	restartCut(t, server, client, 0)
	back = found()
	info, err := client.Info(t.Context(), "server").Result()
	must(t, err)
	if !back && strings.Contains(info, "redis_version:7.0.") {
		t.Errorf("Redis 7.0 does not bring half a transaction back: the cuts show nothing")
	}
	must(t, client.FlushAll(t.Context()).Err())
	return back
}

// syncAlways has Redis write each call to its file before it answers, so that a cut meets the last one.
func syncAlways(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	must(t, client.ConfigSet(t.Context(), "appendfsync", "always").Err())
}

// restartCut kills Redis, cuts the end of its file off, and starts it.
func restartCut(t *testing.T, server *local.Server, client redis.UniversalClient, cutBytes int64) {
	t.Helper()
	must(t, server.Kill())
	if cutBytes > 0 {
		_, err := server.CutAOF(cutBytes)
		must(t, err)
	}
	must(t, server.Restart(t.Context()))
	syncAlways(t, client)
}

// tear is what befalls one shard.
type tear struct {
	*testing.T
	server   *local.Server
	client   redis.UniversalClient
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
	restartCut(t.T, t.server, t.client, t.cutBytes)
	if h := head(t.T, t.shards, t.shard); h.WM == first-1 {
		t.apply(first, first+3)
	}
	restartCut(t.T, t.server, t.client, 0)
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
