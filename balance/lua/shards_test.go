package lua_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
)

// usage makes a block of so many charges of a source, that follows prev.
func usage(source entry.Source, prev, from int64, count int) *entry.Block {
	b := &entry.Block{}
	b.Reset(source, entry.Position{Offset: prev})
	for i := range count {
		at := from + int64(i)
		b.Add(&entry.Entry{Kind: entry.Usage, Account: uint32(1 + i%7), AmountUnits: -5, EventMs: 1_790_000_000_000, IDHash: uint64(at + 1),
			Position: entry.Position{Offset: at}})
	}
	return b
}

func callOf(shard int32, from int64, blocks ...*entry.Block) *lua.Call {
	c := &lua.Call{Shard: shard, TopicID: topic, From: from, To: from + int64(len(blocks)) - 1, ShippedTo: -1}
	for i, b := range blocks {
		c.Blocks = append(c.Blocks, lua.BlockRef{Offset: from + int64(i), AppendMs: 1_790_000_000_000, Entries: b})
	}
	return c
}

func apply(t *testing.T, s *lua.Shards, c *lua.Call) lua.Reply {
	t.Helper()
	if err := s.Apply(t.Context(), []*lua.Call{c}); err != nil {
		t.Fatal(err)
	}
	return c.Reply
}

// everything is all that a Redis holds under keys of a pattern, in a form that reflect.DeepEqual compares.
func everything(t *testing.T, client redis.UniversalClient, pattern string) map[string]any {
	t.Helper()
	ctx, all := t.Context(), map[string]any{}
	keys, err := client.Keys(ctx, pattern).Result()
	must(t, err)
	for _, key := range keys {
		var err error
		switch kind := client.Type(ctx, key).Val(); kind {
		case "hash":
			all[key], err = client.HGetAll(ctx, key).Result()
		case "set":
			all[key], err = client.SMembersMap(ctx, key).Result()
		case "list":
			all[key], err = client.LRange(ctx, key, 0, -1).Result()
		case "stream": // as it comes: its fields have all one name, of which go-redis would keep the last
			all[key], err = client.Do(ctx, "XRANGE", key, "-", "+").Result()
		default:
			t.Fatalf("key %s is a %s", key, kind)
		}
		must(t, err)
	}
	return all
}

// TestRefusalsWriteNothing holds the checks of protocol rule 5.
func TestRefusalsWriteNothing(t *testing.T) {
	client := dial(t)
	s := lua.New(client, lua.Config{Installation: "one"})
	source := entry.Source{Partition: 1}
	if r := apply(t, s, callOf(0, 0, usage(source, -1, 0, 3))); r.Status != lua.Uninit {
		t.Fatalf("a shard without state answered %v", r)
	}
	if err := s.Load(t.Context(), 0, topic, ledger.New()); err != nil {
		t.Fatal(err)
	}
	first := callOf(0, 0, usage(source, -1, 0, 3), usage(source, 2, 3, 3))
	if r := apply(t, s, first); r.Status != lua.OK || r.WM != 1 || r.Base != -1 || len(r.Outcomes) != 2 {
		t.Fatalf("the first call: %+v", r)
	}
	shipped := callOf(0, 2, usage(source, 5, 6, 3))
	shipped.ShippedTo = 0
	if r := apply(t, s, shipped); r.Status != lua.OK || r.WM != 2 || r.Base != 0 {
		t.Fatalf("the second call: %+v", r)
	}
	special := func(e entry.Entry) *entry.Block {
		b := usage(source, 8, 9, 2)
		e.Position.Offset = 11
		b.Add(&e)
		return b
	}
	otherTopic := callOf(0, 3, usage(source, 8, 9, 3))
	otherTopic.TopicID[0]++
	other := lua.New(client, lua.Config{Installation: "other"})
	for _, c := range []struct {
		name   string
		shards *lua.Shards
		call   *lua.Call
		want   lua.Status
		holds  string
	}{
		{"gap", s, callOf(0, 4, usage(source, 8, 9, 3)), lua.Gap, ""},
		{"trimmed", s, callOf(0, 0, usage(source, -1, 0, 3)), lua.Trimmed, ""},
		{"other topic", s, otherTopic, lua.Halt, "topic"},
		{"other installation", other, callOf(0, 3, usage(source, 8, 9, 3)), lua.Halt, "installation one"},
		{"missing block", s, callOf(0, 3, usage(source, 8, 9, 3), usage(source, 12, 13, 3)), lua.Halt, "BUG: a block of entries is missing"},
		{"fold version", s, callOf(0, 3, special(entry.Entry{Kind: entry.FoldVersion, Args: [4]int64{ledger.FoldVersion + 1}})), lua.Version, "fold version 2"},
		{"parameter", s, callOf(0, 3, special(entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.ParamCount)}})), lua.Version, "parameter 6"},
		{"negative parameter", s, callOf(0, 3, special(entry.Entry{Kind: entry.Param, Args: [4]int64{-1}})), lua.Version, "parameter -1"},
		{"kind", s, callOf(0, 3, special(entry.Entry{Kind: 16})), lua.Version, "kind 16"},
	} {
		before := everything(t, client, "*")
		if r := apply(t, c.shards, c.call); r.Status != c.want || !strings.Contains(r.Detail, c.holds) {
			t.Errorf("%s: %v %q", c.name, r.Status, r.Detail)
		} else if r.Status == lua.Gap && r.WM != 2 || r.Status == lua.Trimmed && r.Base != 0 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if !reflect.DeepEqual(everything(t, client, "*"), before) {
			t.Errorf("%s: something was written", c.name)
		}
	}
}

// TestHaltAndResume holds that a halted shard writes nothing until it is resumed, and that the reason is kept.
func TestHaltAndResume(t *testing.T) {
	client, ctx := dial(t), t.Context()
	s := lua.New(client, lua.Config{Installation: "one"})
	if err := s.Halt(ctx, 0, "why"); !errors.Is(err, lua.ErrUninitialized) {
		t.Fatalf("halting nothing: %v", err)
	}
	if err := s.Load(ctx, 0, topic, ledger.New()); err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"first cause", "second"} {
		if err := s.Halt(ctx, 0, reason); err != nil {
			t.Fatal(err)
		}
	}
	c := callOf(0, 0, usage(entry.Source{}, -1, 0, 3))
	if r := apply(t, s, c); r.Status != lua.Halt || r.Detail != "first cause" {
		t.Fatalf("a halted shard answered %+v", r)
	}
	heads := make([]lua.Head, 2)
	if err := s.Heads(ctx, []int32{0, 5}, heads); err != nil {
		t.Fatal(err)
	}
	want := lua.Head{Initialized: true, Installation: "one", TopicID: topic, WM: -1, Base: -1, Version: 1, Halted: "first cause"}
	if heads[0] != want || heads[1] != (lua.Head{}) {
		t.Fatalf("heads %+v", heads)
	}
	for range 2 { // the second finds nothing to do
		if err := s.Resume(ctx, 0, "ann", "looked into it", time.Unix(1_790_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	history, err := s.History(ctx, 0)
	if err != nil || !slices.Equal(history, []string{`["2026-09-21T14:13:20Z","ann","looked into it","first cause"]`}) {
		t.Fatalf("history %q, %v", history, err)
	}
	if r := apply(t, s, c); r.Status != lua.OK {
		t.Fatalf("a resumed shard answered %+v", r)
	}
}

// TestOneLoaderWins holds rule 11: any number of loaders, one flip, and nothing staged is left.
func TestOneLoaderWins(t *testing.T) {
	client, ctx := dial(t), t.Context()
	image := someState(40)
	var wait sync.WaitGroup
	failures := make([]error, 6)
	for i := range failures {
		wait.Go(func() {
			s := lua.New(client, lua.Config{Installation: "one", LoadChunkValues: 10 + i})
			failures[i] = s.Load(ctx, 3, topic, image)
		})
	}
	wait.Wait()
	won := 0
	for _, err := range failures {
		if err == nil {
			won++
		} else if !errors.Is(err, lua.ErrInitialized) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Fatalf("%d loaders won", won)
	}
	s := lua.New(client, lua.Config{Installation: "one"})
	dump, err := s.Dump(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	if difference := ledger.Equal(dump.State, image); difference != "" || dump.Head.Base != image.WM || len(dump.Journal) != 0 {
		t.Fatalf("loaded: %s; %+v", difference, dump.Head)
	}
	if head, accounts, err := s.Standing(ctx, 3); err != nil || head != dump.Head || !reflect.DeepEqual(accounts, dump.State.Accounts) {
		t.Fatalf("it stands at %+v with %d accounts, %v; the dump is of %+v", head, len(accounts), err, dump.Head)
	}
	if keys := client.Keys(ctx, "*load*").Val(); len(keys) != 0 {
		t.Fatalf("staged keys are left: %q", keys)
	}
	if err := s.Wipe(ctx, 3, image.WM-1); !errors.Is(err, lua.ErrChanged) {
		t.Fatalf("a wipe of another state: %v", err)
	}
	for range 2 {
		if err := s.Wipe(ctx, 3, image.WM); err != nil {
			t.Fatal(err)
		}
	}
	if keys := client.Keys(ctx, "*").Val(); len(keys) != 0 {
		t.Fatalf("keys are left after the wipe: %q", keys)
	}
}

// interrupted loses the staged keys of a loader when it sends a chosen chunk, as a failover would.
type interrupted struct {
	client redis.UniversalClient
	at     int
	sent   int
}

func (h *interrupted) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *interrupted) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return n
}
func (h *interrupted) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			if h.sent++; h.sent == h.at {
				for _, key := range h.client.Keys(ctx, "*load:*:chain").Val() {
					h.client.Del(ctx, key)
				}
			}
		}
		return next(ctx, cmd)
	}
}

// TestBrokenChainLoadsNothing holds that a loader whose chunks got lost on the way cannot make a shard of the rest.
func TestBrokenChainLoadsNothing(t *testing.T) {
	client, ctx := dial(t), t.Context()
	breaking := redis.NewUniversalClient(lua.Options(client.(*redis.Client).Options().Addr))
	t.Cleanup(func() { breaking.Close() })
	s := lua.New(breaking, lua.Config{Installation: "one", LoadChunkValues: 10})
	if err := s.Load(ctx, 9, topic, someState(5)); err != nil { // so that all scripts are there
		t.Fatal(err)
	}
	breaking.AddHook(&interrupted{client: client, at: 4})
	if err := s.Load(ctx, 0, topic, someState(40)); err == nil || !strings.Contains(err.Error(), "BROKEN") {
		t.Fatalf("a broken chain: %v", err)
	}
	heads := make([]lua.Head, 1)
	if err := s.Heads(ctx, []int32{0}, heads); err != nil || heads[0].Initialized {
		t.Fatalf("a broken chain left %+v, %v", heads[0], err)
	}
	if err := s.Load(ctx, 0, topic, someState(40)); err != nil {
		t.Fatal(err)
	}
	if keys := client.Keys(ctx, "*load*").Val(); len(keys) != 0 {
		t.Fatalf("staged keys are left: %q", keys)
	}
}

// TestReadsOfOneShard holds what verify, the API and the recharge worker read.
func TestReadsOfOneShard(t *testing.T) {
	client, ctx := dial(t), t.Context()
	s := lua.New(client, lua.Config{Installation: "one", Prefix: "p:"})
	image := someState(2500)
	if err := s.Load(ctx, 1, topic, image); err != nil {
		t.Fatal(err)
	}
	found, err := s.Accounts(ctx, 1, []uint32{1, 999_999, 2})
	if err != nil || len(found) != 2 || found[0].ID != 1 || found[0].State.BalanceUnits != image.Accounts[1].BalanceUnits || found[1].ID != 2 {
		t.Fatalf("accounts %+v, %v", found, err)
	}
	seen := map[uint32]bool{}
	if err := s.AllAccounts(ctx, 1, func(f lua.Found) error { seen[f.ID] = true; return nil }); err != nil || len(seen) != len(image.Accounts) {
		t.Fatalf("%d accounts, %v", len(seen), err)
	}
	stop := fmt.Errorf("enough")
	if err := s.AllAccounts(ctx, 1, func(lua.Found) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("a reader that stops: %v", err)
	}
	for id, want := range image.Results {
		if wm, got, ok, err := s.Result(ctx, 1, id); wm != image.WM || got != want || !ok || err != nil {
			t.Fatalf("result %x: %+v, %v, %v, at %d", id, got, ok, err, wm)
		}
	}
	if wm, _, ok, err := s.Result(ctx, 1, 12345); wm != image.WM || ok || err != nil {
		t.Fatalf("a result that is not kept: %v, %v, at %d", ok, err, wm)
	}
	if wm, _, ok, err := s.Result(ctx, 7, 12345); wm != -1 || ok || err != nil {
		t.Fatalf("a result of nothing: %v, %v, at %d", ok, err, wm)
	}
	// Half a call that Redis brought back is no state: whatever it keeps, the shard has applied nothing.
	must(t, client.HSet(ctx, "p:{1}:head", "begun", "half").Err())
	for id := range image.Results {
		if wm, _, ok, err := s.Result(ctx, 1, id); wm != -1 || ok || err != nil {
			t.Fatalf("a result of half a call: %v, %v, at %d", ok, err, wm)
		}
	}
	must(t, client.HDel(ctx, "p:{1}:head", "begun").Err())
	if _, err := s.Dump(ctx, 7); !errors.Is(err, lua.ErrUninitialized) {
		t.Fatalf("dump of nothing: %v", err)
	}
	if _, _, err := s.Standing(ctx, 7); !errors.Is(err, lua.ErrUninitialized) {
		t.Fatalf("nothing stands somewhere: %v", err)
	}
}

// TestBadCallsAreRefused holds that a call that makes no sense never reaches Redis.
func TestBadCallsAreRefused(t *testing.T) {
	s := lua.New(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), lua.Config{})
	for _, c := range []*lua.Call{
		{From: -1}, {From: 5, To: 3}, {From: 0, To: 1 << 53},
		{From: 1, To: 2, Blocks: []lua.BlockRef{{Offset: 0, Entries: &entry.Block{}}}},
		{From: 1, To: 2, Blocks: []lua.BlockRef{{Offset: 3, Entries: &entry.Block{}}}},
		{From: 1, To: 2, Blocks: []lua.BlockRef{{Offset: 1, AppendMs: -1, Entries: &entry.Block{}}}},
	} {
		if err := s.Apply(t.Context(), []*lua.Call{c}); err == nil || !strings.HasPrefix(err.Error(), "BUG:") {
			t.Errorf("call %+v: %v", c, err)
		}
	}
}

// TestApplyDoesNotAllocatePerRecord holds that the client's work for a record allocates nothing once it is warm.
func TestApplyDoesNotAllocatePerRecord(t *testing.T) {
	s := lua.New(dial(t), lua.Config{Installation: "one"})
	if err := s.Load(t.Context(), 0, topic, ledger.New()); err != nil {
		t.Fatal(err)
	}
	c := callOf(0, 0, usage(entry.Source{Partition: 1}, -1, 0, 5000))
	apply(t, s, c)
	again := testing.AllocsPerRun(20, func() { apply(t, s, c) }) // answered from the journal
	if again > 200 {
		t.Errorf("a call of 5000 entries allocates %.0f times", again)
	}
}

// someState makes a state by folding generated blocks.
func someState(blocks int) *ledger.Shard {
	state := ledger.New()
	g := newGenerator(rand.New(rand.NewPCG(1, 2)), state)
	for range min(blocks, 300) {
		b := g.next()
		state.Fold(b.offset, b.appendMs, &b.entries, nil)
	}
	for id := range blocks {
		state.Accounts[uint32(1_000_000+id)] = &ledger.Account{Floor: ledger.NoDay, BalanceUnits: 1}
	}
	return state
}
