package recharge

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
	"pgregory.net/rapid"
)

// still is a shard that does not change by itself, and a log that takes everything.
type still struct {
	*handClock
	head     lua.Head
	accounts map[uint32]ledger.Account
	currency money.Currency
	gathered []entry.Entry
	log      []entry.Entry
	full     int // messages that fit
	base     int64
}

func newStill() *still {
	usd, _ := money.ParseCurrency("USD")
	return &still{
		handClock: newHandClock(), accounts: map[uint32]ledger.Account{}, currency: usd, full: 100,
		head: lua.Head{Initialized: true, Installation: "test", TopicID: worldTopic, WM: 1000, Base: 1000},
	}
}

// wants gives an account an open intent.
func (s *still) wants(account uint32, offset int64) {
	s.accounts[account] = ledger.Account{
		Open: true, HasIntent: true, Low: true, BalanceUnits: unit, ThresholdUnits: 10 * unit, RechargeToUnits: 20 * unit,
		Intent: ledger.Intent{Offset: offset, AmountUnits: 19 * unit, OpenedMs: s.now.UnixMilli()},
		Tokens: []ledger.Token{{Offset: offset}},
	}
}

func (s *still) Heads(_ context.Context, shards []int32, heads []lua.Head) error {
	for i := range shards {
		heads[i] = s.head
	}
	return nil
}

func (s *still) Params(context.Context, int32) ([ledger.ParamCount]int64, error) {
	return ledger.Defaults, nil
}

func (s *still) Attention(context.Context, int32) (numbers []uint32, err error) {
	for n, a := range s.accounts {
		if a.WantsAttention(ledger.Defaults[ledger.GiveUpAfter]) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *still) Accounts(_ context.Context, _ int32, numbers []uint32) (found []lua.Found, err error) {
	for _, n := range numbers {
		if a, ok := s.accounts[n]; ok {
			found = append(found, lua.Found{ID: n, State: a})
		}
	}
	return found, nil
}

func (s *still) TopicID(context.Context, string) (stream.TopicID, error) { return worldTopic, nil }

func (s *still) ListOffsets(context.Context, string, []int32) ([]stream.Offsets, error) {
	return nil, nil
}

func (s *still) Currency(uint32) money.Currency { return s.currency }

func (s *still) Day(_ uint32, ms int64) int32 { return int32(ms / 86_400_000) }

func (s *still) Reset() { s.gathered, s.base = nil, -1 }

func (s *still) Append(_ string, _ int32, _, value []byte) error {
	if len(s.gathered) == s.full {
		return stream.ErrBatchFull
	}
	var b entry.Block
	var e entry.Entry
	if err := b.Decode(value); err != nil {
		return err
	}
	b.Get(0, &e)
	s.gathered = append(s.gathered, e)
	return nil
}

func (s *still) Send(context.Context) error {
	s.base = 1001 + int64(len(s.log))
	s.log = append(s.log, s.gathered...)
	return nil
}

func (s *still) Result(int) stream.Produced { return stream.Produced{BaseOffset: s.base} }

// kinds gives the kinds of the entries in the log.
func (s *still) kinds() (names []string) {
	for i := range s.log {
		names = append(names, s.log[i].Kind.String())
	}
	return names
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Installation = "test"
	return cfg
}

func (s *still) worker(t *testing.T, cfg Config, gateway Gateway) *Worker {
	t.Helper()
	w, err := NewWorker(Deps{Shards: s, Gateway: gateway, Writer: s, Topics: s, Book: s, Clock: s,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, cfg, []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (s *still) gateway(t *testing.T, rules ...Rule) *Simulated {
	return openBook(t, filepath.Join(t.TempDir(), "book"), Script{Rules: rules}, s.handClock)
}

func rounds(t *testing.T, w *Worker, n int) {
	t.Helper()
	for range n {
		if err := w.round(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// A result is appended once, and not again before the shard has applied it.
func TestWorkerStatesResultOnce(t *testing.T) {
	s := newStill()
	s.wants(1, 10)
	s.wants(2, 11)
	s.wants(3, 12)
	w := s.worker(t, testConfig(), s.gateway(t, Rule{Account: 2, Behavior: Decline}, Rule{Account: 3, Behavior: Authenticate}))
	rounds(t, w, 3)
	s.now = s.now.Add(testConfig().AskAgainMax)
	rounds(t, w, 3)
	if got := strings.Join(s.kinds(), " "); got != "payment payment-failed payment-failed" {
		t.Fatal(got)
	}
	paid := s.log[0]
	if paid.Account != 1 || paid.AmountUnits != 19*unit || paid.Args != [entry.ArgCount]int64{10, 0, 0, 0} || !strings.HasPrefix(string(paid.ID), "sim_") || paid.IDHash != 0 {
		t.Errorf("%+v", paid)
	}
	if s.log[1].Args[entry.ArgFailure] != entry.FailureDeclined || s.log[2].Args[entry.ArgFailure] != entry.FailureAuthentication {
		t.Errorf("%+v", s.log[1:])
	}
	s.now = s.now.Add(testConfig().AskAgainMax)
	s.head.WM = 1003 // applied, and yet the intents are open: state it again, for the fold to say no again
	rounds(t, w, 1)
	if len(s.log) != 6 {
		t.Errorf("%v", s.kinds())
	}
}

// In doubt, nothing that costs is done.
func TestWorkerInDoubt(t *testing.T) {
	for name, doubt := range map[string]func(*still, *Config){
		"intent not in postings yet": func(s *still, _ *Config) { s.head.Base = 9 },
		"shard without state":        func(s *still, _ *Config) { s.head = lua.Head{} },
		"shard halted":               func(s *still, _ *Config) { s.head.Halted = "by hand" },
		"topic made anew":            func(s *still, _ *Config) { s.head.TopicID[5]++ },
		"another installation":       func(s *still, _ *Config) { s.head.Installation = "other" },
		"account not in the book":    func(s *still, _ *Config) { s.currency = money.Currency{} },
		"paused":                     func(_ *still, c *Config) { c.Paused = true },
	} {
		s, cfg := newStill(), testConfig()
		s.wants(1, 10)
		doubt(s, &cfg)
		g := s.gateway(t)
		rounds(t, s.worker(t, cfg, g), 3)
		if len(g.attempts) != 0 || len(s.log) != 0 {
			t.Errorf("%s: %d charges, %v", name, len(g.attempts), s.kinds())
		}
	}
}

// The kill switch holds charges, not the results of those made before.
func TestPausedStillStatesResults(t *testing.T) {
	s, cfg := newStill(), testConfig()
	s.wants(1, 10)
	g := s.gateway(t)
	r := request(1, 10, 0)
	r.Intent.Shard, r.Intent.Ix = 0, 0
	if _, err := g.Charge(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	cfg.Paused = true
	rounds(t, s.worker(t, cfg, g), 2)
	if got := strings.Join(s.kinds(), " "); got != "payment" {
		t.Error(got)
	}
}

// slow is a gateway that answers only when so many calls are under way at once.
type slow struct {
	Gateway
	barrier  chan struct{}
	underWay atomic.Int32
	at       int32
	once     sync.Once
}

func (g *slow) Attempts(ctx context.Context, account uint32, intent Intent) ([]Charge, error) {
	if account == 1 { // this one never answers
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if g.underWay.Add(1) == g.at {
		g.once.Do(func() { close(g.barrier) })
	}
	select {
	case <-g.barrier:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return g.Gateway.Attempts(ctx, account, intent)
}

// Calls run at once, and one that hangs is given up, without holding up the others for good.
func TestConcurrentCalls(t *testing.T) {
	s, cfg := newStill(), testConfig()
	for n := range uint32(8) {
		s.wants(n+1, 10+int64(n))
	}
	cfg.Concurrent, cfg.CallTimeout = 8, 2*time.Second
	rounds(t, s.worker(t, cfg, &slow{Gateway: s.gateway(t), barrier: make(chan struct{}), at: 7}), 1)
	if len(s.log) != 7 {
		t.Errorf("%d results of 7", len(s.log))
	}
}

// broken is a gateway that gives no answer.
type broken struct {
	Gateway
	calls int
}

func (g *broken) Attempts(context.Context, uint32, Intent) ([]Charge, error) {
	g.calls++
	return nil, ErrNoAnswer
}

// A gateway that fails is left alone, then tried with one call at a time.
func TestGatewayLeftAlone(t *testing.T) {
	s, cfg := newStill(), testConfig()
	for n := range uint32(50) {
		s.wants(n+1, 10+int64(n))
	}
	cfg.Concurrent, cfg.FailuresToRest = 1, 5
	g := &broken{Gateway: s.gateway(t)}
	w := s.worker(t, cfg, g)
	rounds(t, w, 1)
	first := g.calls
	rounds(t, w, 5)
	if g.calls != first {
		t.Errorf("%d calls during the rest", g.calls-first)
	}
	s.now = s.now.Add(cfg.RestFor)
	rounds(t, w, 5)
	if g.calls != first+1 {
		t.Errorf("%d calls after the rest, want 1", g.calls-first)
	}
	w.Gateway = g.Gateway
	s.now = s.now.Add(cfg.RestFor)
	rounds(t, w, 1)
	s.now = s.now.Add(cfg.AskAgainMax)
	rounds(t, w, 3)
	if len(s.log) != 50 {
		t.Errorf("%d results of 50", len(s.log))
	}
}

// Charges are sent no faster than allowed; those held are sent later.
func TestVelocity(t *testing.T) {
	s, cfg := newStill(), testConfig()
	for n := range uint32(30) {
		s.wants(n+1, 10+int64(n))
	}
	cfg.ChargesPerSecond, cfg.ChargesBurst, cfg.AskAgainMax = 2, 4, time.Second
	g := s.gateway(t)
	w := s.worker(t, cfg, g)
	for second := range 20 {
		rounds(t, w, 2)
		if n := len(g.attempts); n > 4+2*second {
			t.Fatalf("%d charges after %d s", n, second)
		}
		s.now = s.now.Add(time.Second)
	}
	if len(g.attempts) != 30 {
		t.Errorf("%d charges", len(g.attempts))
	}
}

// Between two attempts of one intent the pause is kept, by the gateway's own record.
func TestAttemptPause(t *testing.T) {
	s, cfg := newStill(), testConfig()
	s.wants(1, 10)
	g := s.gateway(t, Rule{Account: 1, FirstAttempts: 1, Behavior: Decline})
	rounds(t, s.worker(t, cfg, g), 1)
	a := s.accounts[1]
	a.Intent.Attempt = 1
	s.accounts[1] = a
	s.head.WM = 2000
	w := s.worker(t, cfg, g) // a new one knows nothing
	s.now = s.now.Add(cfg.AttemptPause - time.Millisecond)
	rounds(t, w, 2)
	if len(g.attempts) != 1 {
		t.Fatal("charged again too soon")
	}
	s.now = s.now.Add(time.Millisecond)
	rounds(t, w, 1)
	if got := strings.Join(s.kinds(), " "); got != "payment-failed payment" {
		t.Error(got)
	}
}

// Accounts are woken after their grace or back-off, not before and not too often.
func TestWake(t *testing.T) {
	s, cfg := newStill(), testConfig()
	s.head.Base = 0 // nothing may be charged
	s.wants(1, 10)
	inGrace := s.accounts[1]
	inGrace.BalanceUnits = -unit
	s.accounts[1] = inGrace
	s.accounts[2] = ledger.Account{Open: true, ThresholdUnits: 10 * unit, RechargeToUnits: 20 * unit, DeclinedMs: s.now.UnixMilli(), Failures: 1}
	s.accounts[3] = ledger.Account{Open: true, ThresholdUnits: 10 * unit, RechargeToUnits: 20 * unit, DeclinedMs: s.now.UnixMilli(), Failures: 5}
	w := s.worker(t, cfg, s.gateway(t))
	rounds(t, w, 1)
	s.now = s.now.Add(time.Duration(ledger.Defaults[ledger.GraceMs])*time.Millisecond + cfg.WakeMargin)
	rounds(t, w, 1)
	if len(s.log) != 0 {
		t.Fatal("woken too early")
	}
	s.now = s.now.Add(time.Second)
	rounds(t, w, 5)
	if len(s.log) != 1 || s.log[0].Kind != entry.Wake || s.log[0].Account != 1 {
		t.Fatalf("%+v", s.log)
	}
	s.now = s.now.Add(cfg.WakeEvery)
	rounds(t, w, 5)
	if len(s.log) != 2 {
		t.Errorf("%+v", s.log)
	}
	s.now = s.now.Add(time.Duration(ledger.Defaults[ledger.BackOffMs]) * time.Millisecond)
	rounds(t, w, 1)
	if len(s.log) != 4 || s.log[3].Account != 2 {
		t.Errorf("%+v", s.log)
	}
}

// What does not fit into the writer is appended in the next round.
func TestWriterFull(t *testing.T) {
	s, cfg := newStill(), testConfig()
	for n := range uint32(5) {
		s.wants(n+1, 10+int64(n))
	}
	s.full = 2
	w := s.worker(t, cfg, s.gateway(t))
	for range 5 {
		_ = w.round(context.Background())
		s.now = s.now.Add(cfg.AskAgainMax)
	}
	if len(s.log) != 5 {
		t.Errorf("%v", s.kinds())
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no installation":           func(c *Config) { c.Installation = "" },
		"charges later than keys":   func(c *Config) { c.ChargeWithin = 24 * time.Hour },
		"no time for calls":         func(c *Config) { c.CallTimeout = 0 },
		"no concurrency":            func(c *Config) { c.Concurrent = 0 },
		"reports that do not touch": func(c *Config) { c.ReconcileOverlap = c.ReconcileAfter },
	} {
		cfg := testConfig()
		spoil(&cfg)
		if cfg.check(24*time.Hour) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := testConfig()
	if err := cfg.check(24 * time.Hour); err != nil {
		t.Error(err)
	}
}

// In every span of time, a bucket lets through no more than its burst and its rate.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSecond, burst := rapid.Float64Range(0.1, 100).Draw(t, "rate"), rapid.IntRange(1, 20).Draw(t, "burst")
		b := newBucket(perSecond, burst)
		now := time.UnixMilli(1_790_000_000_000)
		var taken []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(-5, 500).Draw(t, "ms")) * time.Millisecond)
			if b.take(now) {
				taken = append(taken, now)
			}
		}
		newest := time.Time{}
		for i := range taken {
			newest = later(newest, taken[i])
			for j := range taken[:i+1] {
				span := newest.Sub(taken[j]).Seconds() + 0.01 // the clock may have stepped back
				if n := float64(i - j + 1); n > float64(burst)+perSecond*span+1e-6 {
					t.Fatalf("%v charges in %v s", n, span)
				}
			}
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
