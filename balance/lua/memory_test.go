package lua_test

import (
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
)

// TestNoMemoryWritesNothing takes Redis its memory away, and gives it back by and by: as long as there is too little, calls
// fail and leave everything as it was, refusals and reads are answered, and no image is loaded; the first call that finds
// enough is done whole, with the outcomes of the fold.
func TestNoMemoryWritesNothing(t *testing.T) {
	client, ctx := dial(t), t.Context()
	seed := number("TOLLGATE_SEED", rand.Uint64())
	t.Logf("TOLLGATE_SEED=%d", seed)
	var seen coverage
	tw := newTwin(t, client, seed, 0, &seen)
	tw.gen.blockLen = 400
	must(t, tw.shards.Load(ctx, tw.shard, topic, tw.state))
	tw.extend()
	tw.catchUp(ctx)
	limit := func(bytes int) { must(t, client.ConfigSet(ctx, "maxmemory", strconv.Itoa(bytes)).Err()) }
	must(t, client.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
	failed := 0
	for range 8 {
		for range 30 {
			tw.extend()
		}
		c := &tw.call
		c.Shard, c.TopicID = tw.shard, topic
		tw.aim(c, wrongs{})
		before, failures := everything(t, client, "*"), 0
		for bytes := 1; ; bytes = usedMemory(tw) + 1024<<failures {
			limit(bytes)
			err := tw.shards.Apply(ctx, []*lua.Call{c})
			if err == nil {
				break
			}
			if failures++; !strings.Contains(err.Error(), "OOM") || failures > 20 {
				t.Fatalf("with %d bytes: %v", bytes, err)
			}
			if !reflect.DeepEqual(everything(t, client, "*"), before) {
				t.Fatalf("with %d bytes, a call failed with %v and wrote something", bytes, err)
			}
		}
		if failures == 0 {
			t.Fatal("a call was done with one byte of memory")
		}
		failed += failures
		limit(0)
		tw.compareReply()
		tw.compareState(ctx)
	}
	t.Logf("%d calls failed", failed)
	limit(1)
	gap := callOf(tw.shard, tw.wm+2)
	if r := apply(t, tw.shards, gap); r.Status != lua.Gap || r.WM != tw.wm || head(t, tw.shards, tw.shard).WM != tw.wm {
		t.Errorf("without memory, a call above wm + 1 has %+v", r)
	}
	before := everything(t, client, "*")
	if err := tw.shards.Load(ctx, 1, topic, ledger.New()); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("without memory, a load gives %v", err)
	}
	if !reflect.DeepEqual(everything(t, client, "*"), before) {
		t.Error("without memory, a load wrote something")
	}
	limit(0)
	must(t, tw.shards.Load(ctx, 1, topic, ledger.New()))
}

// usedMemory is what maxmemory is compared with.
func usedMemory(t *twin) int {
	info, err := t.client.Info(t.Context(), "memory").Result()
	t.check(err)
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, "used_memory:"); ok {
			bytes, err := strconv.Atoi(strings.TrimSpace(text))
			t.check(err)
			return bytes
		}
	}
	t.Fatal("redis does not say how much memory it uses")
	return 0
}
