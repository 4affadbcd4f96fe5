package lua_test

import (
	"math"
	"math/rand/v2"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// block is one block of a generated log.
type block struct {
	offset, appendMs int64
	entries          entry.Block
}

const hourMs = 3600 * 1000

// generator makes a log of `entries` that visits the corners of the fold. It looks at the state that the log leads to,
// so that card results hit open intents and balances come near their limits.
type generator struct {
	*rand.Rand
	state    *ledger.Shard
	offset   int64
	nowMs    int64
	sources  []entry.Source
	sent     [][]*block // by source
	at       []int64    // next carrier offset by source
	ids      []uint64   // used lately
	blockLen int
	// stubborn has the card of account 1 decline again and again, more often than its open list is long.
	stubborn bool
	declines int64 // of that card in the block at hand
}

func newGenerator(rng *rand.Rand, state *ledger.Shard) *generator {
	g := &generator{Rand: rng, state: state, offset: state.WM, nowMs: 1_790_000_000_000, blockLen: 60}
	for i := range 4 {
		g.sources = append(g.sources, entry.Source{TopicID: [16]byte{byte(i + 1), 7}, Partition: int32(i)})
	}
	g.sent, g.at = make([][]*block, 4), make([]int64, 4)
	return g
}

// next makes the next block: mostly new, sometimes one that was sent before or one that overlaps it.
func (g *generator) next() *block {
	g.offset += 1 + int64(max(0, g.IntN(12)-9))
	g.declines = 0
	switch g.IntN(40) {
	case 0:
		g.nowMs += int64(g.IntN(90)) * hourMs
	case 1:
		g.nowMs -= int64(g.IntN(10)) * 1000 // a broker's clock steps back
	default:
		g.nowMs += int64(g.IntN(3)) * int64(g.IntN(300_000))
	}
	b := &block{offset: g.offset, appendMs: max(0, g.nowMs)}
	source := g.IntN(len(g.sources) + 2)
	switch {
	case source >= len(g.sources):
		b.entries.Reset(entry.Source{}, entry.None)
		g.fill(&b.entries, func() entry.Position { return entry.Position{Offset: int64(g.IntN(3))} })
	case len(g.sent[source]) > 0 && g.IntN(8) == 0:
		again := g.sent[source][g.IntN(len(g.sent[source]))]
		b.entries = again.entries
	default:
		g.fromSource(b, source)
	}
	return b
}

// fromSource makes a block of a carrier's or the book's, which may begin below what was sent before.
func (g *generator) fromSource(b *block, source int) {
	seen, ok := g.state.Sources[g.sources[source]]
	if !ok {
		seen = entry.None
	}
	prev, at := seen, g.at[source]
	if g.IntN(10) == 0 {
		at = max(0, at-int64(g.IntN(40)))
	}
	if g.IntN(10) == 0 {
		prev = entry.None
	}
	b.entries.Reset(g.sources[source], prev)
	ix := uint32(0)
	g.fill(&b.entries, func() entry.Position {
		p := entry.Position{Offset: at, Ix: ix}
		if ix++; g.IntN(3) > 0 {
			at, ix = at+1+int64(g.IntN(2)), 0
		}
		if g.IntN(2000) == 0 {
			p.Offset = max(0, p.Offset-3) // a writer that is out of order
		}
		return p
	})
	g.at[source] = max(g.at[source], at+1)
	g.sent[source] = append(g.sent[source], b)
}

func (g *generator) fill(b *entry.Block, position func() entry.Position) {
	plain, count, wide := g.IntN(3) == 0, g.IntN(g.blockLen), false
	if wide = g.IntN(400) == 0; wide { // more than one command or one unpack can take
		count = g.IntN(8000)
	}
	for range count {
		var e entry.Entry
		g.entry(&e, plain)
		if wide && e.Kind == entry.Usage {
			e.Account = uint32(1 + g.IntN(9000))
		}
		e.Position = position()
		b.Add(&e)
	}
}

func (g *generator) entry(e *entry.Entry, plain bool) {
	e.Kind = entry.Usage
	if !plain && g.IntN(3) == 0 {
		e.Kind = entry.Kind(1 + g.IntN(15))
	}
	e.Account = uint32(1 + g.IntN(80))
	if g.IntN(200) == 0 {
		e.Account = []uint32{0, math.MaxUint32, 1000000007}[g.IntN(3)]
	}
	e.AmountUnits = -money.Amount(g.Int64N(50_000_000))
	e.EventMs = g.nowMs - g.Int64N(1+2*g.state.Params[ledger.WindowMs]/3)
	e.LocalDay = int32(g.nowMs/86_400_000) - int32(g.IntN(4))
	e.IDHash = g.id()
	if g.IntN(50) == 0 {
		e.AmountUnits = g.extreme()
	}
	if g.IntN(100) == 0 {
		e.EventMs = g.extremeMs()
	}
	g.arguments(e)
}

func (g *generator) id() uint64 {
	switch {
	case g.IntN(100) == 0:
		return 0
	case len(g.ids) > 0 && g.IntN(12) == 0:
		return g.ids[g.IntN(len(g.ids))]
	}
	id := g.Uint64()
	if g.ids = append(g.ids, id); len(g.ids) > 4000 {
		g.ids = g.ids[2000:]
	}
	return id
}

// extreme gives amounts at and beyond the limits.
func (g *generator) extreme() money.Amount {
	at := []money.Amount{0, money.Limit, -money.Limit, ledger.CreditLimit, ledger.SettingsLimit, -ledger.SettingsLimit,
		1 << 53, -1 << 53, math.MaxInt64, math.MinInt64, money.UnitsPerMinor}
	return at[g.IntN(len(at))] + money.Amount(g.IntN(3)-1)
}

func (g *generator) extremeMs() int64 {
	w := g.state.Params[ledger.WindowMs]
	at := []int64{g.nowMs - w, g.nowMs - w + ledger.LateMarginMs, g.nowMs - w/2, g.state.CoveredSinceMs + ledger.LateMarginMs,
		0, math.MaxInt64 - 1, math.MinInt64 + 1, g.nowMs}
	return at[g.IntN(len(at))] + int64(g.IntN(3)-1)
}

func (g *generator) arguments(e *entry.Entry) {
	switch e.Kind {
	case entry.Account, entry.Settings:
		threshold := g.Int64N(2_000_000_000)
		e.Args = [4]int64{int64(g.IntN(4)), threshold, threshold * int64(g.IntN(4))}
		if g.IntN(10) == 0 {
			e.Args[1] = -threshold
		}
		if g.IntN(40) == 0 {
			e.Args[g.IntN(3)] = int64(g.extreme())
		}
		e.AmountUnits = money.Amount(g.Int64N(3_000_000_000) - 500_000_000)
	case entry.Credit, entry.Adjustment:
		e.Args[entry.ArgBody] = int64(g.Uint64())
		if e.AmountUnits = money.Amount(g.Int64N(3_000_000_000) - 1_000_000_000); g.IntN(8) == 0 {
			e.AmountUnits = g.extreme()
		}
	case entry.Zone:
		e.Args[0] = int64(g.IntN(4))
		if g.IntN(20) == 0 {
			e.Args[0] = int64(g.extreme())
		}
	case entry.Close:
		e.Args = [4]int64{int64(g.IntN(4)), g.nowMs/86_400_000 - int64(g.IntN(3))}
		if g.IntN(20) == 0 {
			e.Args[0] = []int64{-1, math.MaxUint32, math.MaxUint32 + 1}[g.IntN(3)]
			e.Args[1] = []int64{0, -1, math.MaxInt32 - 1, math.MaxInt32, math.MaxInt64}[g.IntN(5)]
		}
	case entry.Param:
		e.Args = g.param()
	case entry.FoldVersion:
		e.Args[0] = int64(g.IntN(ledger.FoldVersion + 1))
	case entry.Release:
		e.Args[entry.ArgSeenMs] = g.nowMs - g.Int64N(1+g.state.Params[ledger.WindowMs]*3/4)
		if g.IntN(20) == 0 {
			e.Args[entry.ArgSeenMs] = g.extremeMs()
		}
	case entry.Payment, entry.PaymentFailed:
		g.cardResult(e)
	}
}

func (g *generator) param() [4]int64 {
	choices := [ledger.ParamCount][]int64{
		ledger.WindowMs:    {2 * hourMs, 5 * hourMs, 72 * hourMs, 12*hourMs + 1, -1, math.MaxInt64},
		ledger.GraceMs:     {0, 60_000, 600_000, hourMs, 1<<52 + 1},
		ledger.BackOffMs:   {0, hourMs, 24 * hourMs, -1},
		ledger.Attempts:    {0, 1, 2, 3, 255, 256},
		ledger.ResultsKept: {0, 1, 5, 40, 1000, 100_001},
		ledger.GiveUpAfter: {g.state.Params[ledger.GiveUpAfter], 256}, // attention is as of an account's last change
	}
	if g.stubborn {
		choices[ledger.Attempts] = []int64{255}
	}
	p := g.IntN(int(ledger.ParamCount))
	return [4]int64{int64(p), choices[p][g.IntN(len(choices[p]))]}
}

// cardResult makes the entry answer an attempt that some account has in its open list, if it finds one.
func (g *generator) cardResult(e *entry.Entry) {
	e.AmountUnits = money.Amount(g.Int64N(2_000_000_000))
	for range 30 {
		number := uint32(1 + g.IntN(80))
		a := g.state.Accounts[number]
		if a == nil || len(a.Tokens) == 0 {
			continue
		}
		t := a.Tokens[len(a.Tokens)-1-g.IntN(min(len(a.Tokens), 3))]
		e.Account, e.Args = number, [4]int64{t.Offset, int64(t.Ix), int64(t.Attempt), entry.FailureDeclined}
		break
	}
	if a := g.state.Accounts[1]; g.stubborn && a != nil && a.HasIntent && (e.Kind == entry.PaymentFailed || len(a.Tokens) < ledger.TokensKept) {
		e.Kind = entry.PaymentFailed
		e.Account, e.Args = 1, [4]int64{a.Intent.Offset, int64(a.Intent.Ix), int64(a.Intent.Attempt) + g.declines, entry.FailureDeclined}
		g.declines++
	}
	if g.IntN(12) == 0 {
		e.Args[g.IntN(3)] = int64(g.extreme())
	}
}
