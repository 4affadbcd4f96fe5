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
	const blocks, first, second = 40, 10, 20
	stack := local.ForTest(t, local.Redis)
	client := redis.NewUniversalClient(lua.Options(stack.RedisAddr))
	t.Cleanup(func() { client.Close() })
	shards := lua.New(client, lua.Config{Installation: "test"})
	var log []*entry.Block
	states := []*ledger.Shard{ledger.New()} // before each block
	for at := range int64(blocks) {
		b := usage(entry.Source{Partition: 1}, 20*at-1, 20*at, 20)
		log = append(log, b)
		next := clone(t, states[at])
		next.Fold(at, 1_790_000_000_000, b, nil)
		states = append(states, next)
	}
	restart := func(cutBytes int64) {
		t.Helper()
		must(t, stack.Redis.Kill())
		if cutBytes > 0 {
			_, err := stack.Redis.CutAOF(cutBytes)
			must(t, err)
		}
		must(t, stack.Redis.Restart(t.Context()))
	}
	torn := 0
	for i, cutBytes := range []int64{1, 7, 20, 40, 70, 150, 400, 1000, 2500, 5000, 9000} {
		shard := int32(i)
		must(t, shards.Load(t.Context(), shard, topic, states[0]))
		apply(t, shards, callOf(shard, 0, log[:first]...))
		apply(t, shards, callOf(shard, first, log[first:second]...))
		restart(cutBytes)
		if h := head(t, shards, shard); h.WM == first-1 {
			apply(t, shards, callOf(shard, first, log[first:first+3]...))
		}
		restart(0)
		h := head(t, shards, shard)
		if h.Torn {
			torn++
			if r := apply(t, shards, callOf(shard, h.WM+1, log[h.WM+1])); r.Status != lua.Uninit {
				t.Fatalf("%d bytes cut: a torn shard answered %s", cutBytes, r.Status)
			}
			must(t, shards.Wipe(t.Context(), shard, h.WM))
			must(t, shards.Load(t.Context(), shard, topic, states[0]))
			h.WM = -1
		}
		hold(t, shards, shard, cutBytes, states[h.WM+1])
		apply(t, shards, callOf(shard, h.WM+1, log[h.WM+1:]...))
		hold(t, shards, shard, cutBytes, states[blocks])
	}
	t.Logf("%d shards came back torn", torn)
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

// hold demands that a shard holds just this state.
func hold(t *testing.T, shards *lua.Shards, shard int32, cutBytes int64, want *ledger.Shard) {
	t.Helper()
	dump, err := shards.Dump(t.Context(), shard)
	must(t, err)
	if difference := ledger.Equal(dump.State, want); difference != "" {
		t.Errorf("shard %d, %d bytes cut, at %d: script and fold: %s", shard, cutBytes, want.WM, difference)
	}
}
