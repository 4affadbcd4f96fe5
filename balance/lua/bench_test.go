package lua_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
)

// BenchmarkApply measures what one charged record costs: Redis's own CPU (us-redis/rec) and the whole time.
func BenchmarkApply(b *testing.B) {
	client := dial(b)
	const accounts = 100_000
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, accounts-1)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name     string
		draw     func() uint32
		rejected int // one in so many entries, 0 for none
	}{
		{"uniform", func() uint32 { return 1 + rng.Uint32N(accounts) }, 0},
		{"zipf", func() uint32 { return 1 + uint32(zipf.Uint64()) }, 0},
		{"uniform with rejects", func() uint32 { return 1 + rng.Uint32N(accounts) }, 100},
	} {
		for _, perCall := range []int{600, lua.MaxEntriesPerCall} {
			b.Run(fmt.Sprintf("%s/%d", c.name, perCall), func(b *testing.B) {
				client.FlushAll(b.Context())
				benchmarkApply(b, client, accounts, perCall, c.draw, c.rejected)
			})
		}
	}
}

func benchmarkApply(b *testing.B, client redis.UniversalClient, accounts, perCall int, draw func() uint32, rejected int) {
	ctx := b.Context()
	shards := lua.New(client, lua.Config{Installation: "bench"})
	state := ledger.New()
	for id := range uint32(accounts) {
		state.Accounts[id+1] = &ledger.Account{Open: true, Floor: ledger.NoDay, BalanceUnits: 1e15, ThresholdUnits: 1e9, RechargeToUnits: 2e9}
	}
	state.NowMs, state.GenerationStartMs = 1_790_000_000_000, 1_790_000_000_000
	if err := shards.Load(ctx, 0, topic, state); err != nil {
		b.Fatal(err)
	}
	var block entry.Block
	call := lua.Call{TopicID: topic, Blocks: []lua.BlockRef{{Entries: &block}}}
	id, position := uint64(0), int64(0)
	records := 0
	before := redisCPU(ctx, b, client)
	for offset := int64(0); b.Loop(); offset++ {
		block.Reset(entry.Source{Partition: 1}, entry.None)
		for range perCall {
			id, position = id+1, position+1
			e := entry.Entry{Kind: entry.Usage, Account: draw(), AmountUnits: -1_234_567, EventMs: 1_790_000_000_000,
				LocalDay: 20717, IDHash: id * 0x9e3779b97f4a7c15, Position: entry.Position{Offset: position}}
			if rejected > 0 && rng100(id, rejected) {
				e.Kind = entry.Rejected
			}
			block.Add(&e)
		}
		records += perCall
		call.From, call.To, call.ShippedTo = offset, offset, offset-2
		call.Blocks[0].Offset, call.Blocks[0].AppendMs = offset, 1_790_000_000_000
		if err := shards.Apply(ctx, []*lua.Call{&call}); err != nil || call.Reply.Status != lua.OK {
			b.Fatal(err, call.Reply.Status, call.Reply.Detail)
		}
	}
	b.ReportMetric((redisCPU(ctx, b, client)-before)*1e6/float64(records), "us-redis/rec")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(records), "us/rec")
}

func rng100(id uint64, oneIn int) bool { return id%uint64(oneIn) == 0 }

// redisCPU gives the seconds of CPU that the server has used.
func redisCPU(ctx context.Context, b *testing.B, client redis.UniversalClient) (seconds float64) {
	info, err := client.Info(ctx, "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			seconds += v
		}
	}
	return math.Max(seconds, 0)
}
