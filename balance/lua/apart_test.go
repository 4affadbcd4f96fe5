package lua_test

import (
	"regexp"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
)

// TestDamagedShardStandsAlone damages the keys of a shard in a real Redis: the calls and heads of the others in the same
// pipeline are answered all the same. Only where nobody answers is there an error.
func TestDamagedShardStandsAlone(t *testing.T) {
	client, ctx := dial(t), t.Context()
	s := lua.New(client, lua.Config{Installation: "one"})
	for shard := range int32(3) {
		must(t, s.Load(ctx, shard, topic, ledger.New()))
	}
	source := entry.Source{Partition: 1}
	call := func() []*lua.Call {
		var calls []*lua.Call
		for shard := range int32(3) {
			calls = append(calls, callOf(shard, 0, usage(source, -1, 0, 3)))
		}
		return calls
	}

	must(t, client.Del(ctx, lua.DefaultPrefix+"{1}:accounts").Err())
	must(t, client.Set(ctx, lua.DefaultPrefix+"{1}:accounts", "damaged", 0).Err())
	calls := call()
	must(t, s.Apply(ctx, calls))
	for i, c := range calls {
		if damaged := i == 1; damaged != (c.Err != nil) || !damaged && c.Reply.Status != lua.OK {
			t.Errorf("shard %d: %v, %+v", i, c.Err, c.Reply)
		}
	}

	must(t, client.HSet(ctx, lua.DefaultPrefix+"{2}:head", "topic", "no id").Err())
	must(t, client.Del(ctx, lua.DefaultPrefix+"{1}:head").Err())
	must(t, client.Set(ctx, lua.DefaultPrefix+"{1}:head", "damaged", 0).Err())
	heads := make([]lua.Head, 3)
	must(t, s.Heads(ctx, []int32{0, 1, 2}, heads))
	if heads[0].Err != nil || heads[0].WM != 0 || heads[1].Err == nil || heads[2].Err == nil || heads[2].Initialized {
		t.Errorf("heads %+v", heads)
	}
	if err := s.Heads(ctx, []int32{1, 2}, heads[1:]); err == nil {
		t.Error("no head can be read, and there is no error")
	}
	if calls = call(); s.Apply(ctx, calls[1:2]) == nil {
		t.Error("no call is answered, and there is no error")
	}
}

// TestNobodyAnswers has no server, or one that wants a password: nothing may be taken for an answer, least of all that a shard
// has no state. The error says why.
func TestNobodyAnswers(t *testing.T) {
	client, ctx := dial(t), t.Context()
	must(t, lua.New(client, lua.Config{Installation: "one"}).Load(ctx, 0, topic, ledger.New()))
	must(t, client.ConfigSet(ctx, "requirepass", "right").Err())
	defer client.ConfigSet(ctx, "requirepass", "")
	address := client.(*redis.Client).Options().Addr
	for _, c := range []struct{ address, password, why string }{
		{"127.0.0.1:1", "", "connection refused"},
		{address, "wrong", "WRONGPASS"},
		{address, "", "NOAUTH|unauthenticated"}, // the latter of a request that is large
	} {
		options := lua.Options(c.address)
		options.Password = c.password
		stranger := redis.NewUniversalClient(options)
		defer stranger.Close()
		s, heads := lua.New(stranger, lua.Config{Installation: "one"}), make([]lua.Head, 2)
		says := func(what string, err error) {
			t.Helper()
			if err == nil || !regexp.MustCompile(c.why).MatchString(err.Error()) {
				t.Errorf("%s at %s with password %q: %v, want %s", what, c.address, c.password, err, c.why)
			}
		}
		says("heads", s.Heads(ctx, []int32{0, 1}, heads))
		if heads[0].Err == nil || heads[1].Err == nil {
			t.Errorf("heads of nobody: %+v", heads)
		}
		_, _, kept, err := s.Result(ctx, 0, 5)
		if says("result", err); kept {
			t.Error("nobody keeps a result")
		}
		call := callOf(0, 0, usage(entry.Source{Partition: 1}, -1, 0, 3))
		says("apply", s.Apply(ctx, []*lua.Call{call}))
	}
}
