package recharge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// world is a shard, its log and a gateway's book, with workers and reconcilers that are the code of production. One
// seed decides everything: who runs next, what fails, what gets lost, who dies. Each call of a fake gives the turn to
// the scheduler before and after its effect, so a process may die or be overtaken at any of them.
type world struct {
	*rand.Rand
	t         testing.TB
	now       time.Time
	faults    bool
	log       []logged
	redis     standing   // the current master
	past      []standing // what an older replica may still hold
	shipped   int64      // highest offset whose postings are in Kafka
	gateway   *Simulated
	network   []delayed
	processes []*process
	current   *process
	metrics   *Metrics
	cfg       Config
	mutant    string
	keys      int
	broken    map[string]bool
	counts    map[string]int
}

// logged is one block of the entries log.
type logged struct {
	block entry.Block
	ms    int64
}

// standing is what a master says: the state at WM, and the base.
type standing struct {
	state *ledger.Shard
	base  int64
}

// delayed is a message that arrives later.
type delayed struct {
	due     time.Time
	arrives func()
}

// process is a worker or a reconciler.
type process struct {
	resume  func() (struct{}, bool)
	kill    func()
	yield   func(struct{}) bool
	wakeAt  time.Time
	zombie  int // how rarely it gets a turn; 0 is normal
	dead    bool
	respawn func()
}

type killed struct{}

var (
	worldTopic = stream.TopicID{1}
	errLost    = errors.New("lost on the way")
	unit       = money.Amount(money.UnitsPerMinor)
)

const accounts = 5

func newWorld(t testing.TB, seed uint64, mutant string) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 99)), t: t, now: time.UnixMilli(1_790_000_000_000), faults: true, shipped: -1,
		redis: standing{ledger.New(), -1}, metrics: NewMetrics(prometheus.NewRegistry()), mutant: mutant,
		broken: map[string]bool{}, counts: map[string]int{},
	}
	script := Script{
		Seed: seed, DeclinePercent: 25, AuthenticatePercent: 8, TimeoutPercent: 8, LosePercent: 8, LatePercent: 10,
		LateDeclinePercent: 6, ReversePercent: 6, LateBy: time.Duration(20+w.IntN(300)) * time.Second, KeyLife: 200 * time.Second,
	}
	gateway, err := OpenSimulated(filepath.Join(t.TempDir(), fmt.Sprintf("book-%d", seed)), script, w)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = gateway
	w.cfg = DefaultConfig()
	w.cfg.Installation, w.cfg.Concurrent = "test", 1
	w.cfg.PollEvery, w.cfg.CallTimeout, w.cfg.ChargeWithin = time.Second, time.Minute, 60*time.Second
	w.cfg.AskAgainMin, w.cfg.AskAgainMax = time.Second, 10*time.Second
	w.cfg.AttemptPause = time.Duration(w.IntN(2)*w.IntN(60)) * time.Second
	w.cfg.FailuresToRest, w.cfg.RestFor = 1+w.IntN(8), 10*time.Second
	w.cfg.AccountsPerRead, w.cfg.JobsPerRound, w.cfg.ChargesBurst = 1+w.IntN(accounts), 1+w.IntN(4), 1+w.IntN(4)
	w.cfg.WakeEvery, w.cfg.WakeMargin = 20*time.Second, time.Second
	w.cfg.ReconcileEvery, w.cfg.ReconcileBack, w.cfg.ReconcileOverlap, w.cfg.ReconcileAfter = 60*time.Second, time.Hour, 300*time.Second, 20*time.Second
	w.cfg.ChargesPerRead = 1 + w.IntN(5)
	w.append(&entry.Entry{Kind: entry.Param, Args: [entry.ArgCount]int64{int64(ledger.GraceMs), 60_000}})
	w.append(&entry.Entry{Kind: entry.Param, Args: [entry.ArgCount]int64{int64(ledger.BackOffMs), 200_000}})
	for a := uint32(1); a <= accounts; a++ {
		e := entry.Entry{Kind: entry.Account, Account: a, AmountUnits: 60 * unit}
		e.Args[entry.ArgThreshold], e.Args[entry.ArgRechargeTo] = int64(40*unit), int64(100*unit)
		w.append(&e)
	}
	return w
}

func (w *world) append(e *entry.Entry) {
	b := entry.Block{}
	b.Reset(entry.Source{}, entry.None)
	b.Add(e)
	w.log = append(w.log, logged{b, w.now.UnixMilli()})
}

// fold gives the state after the first n blocks, and the outcome of each.
func (w *world) fold(n int) (*ledger.Shard, []posting.Outcome) {
	s := ledger.New()
	var all []posting.Outcome
	for offset := range w.log[:n] {
		all = append(all, w.apply(s, offset)...)
	}
	return s, all
}

func (w *world) apply(s *ledger.Shard, offset int) []posting.Outcome {
	l := &w.log[offset]
	if err := s.Check(&l.block); err != nil {
		w.t.Fatal(err)
	}
	return s.Fold(int64(offset), l.ms, &l.block, nil)
}

// violated notes that an invariant does not hold.
func (w *world) violated(invariant string, details ...any) {
	if !w.broken[invariant] && testing.Verbose() && w.mutant == "" {
		w.t.Logf("%s: %+v", invariant, details)
	}
	w.broken[invariant] = true
}

// turn gives the scheduler the turn.
func (w *world) turn() {
	p := w.current
	if !p.yield(struct{}{}) {
		panic(killed{})
	}
	w.current = p
}

// fails draws whether a call fails.
func (w *world) fails(oneIn int) bool { return w.faults && w.IntN(oneIn) == 0 }

// Now and Sleep are the clock.
func (w *world) Now() time.Time { return w.now }

func (w *world) Sleep(_ context.Context, d time.Duration) {
	w.current.wakeAt = w.now.Add(d)
	w.turn()
}

// TopicID and ListOffsets are the topics.
func (w *world) TopicID(context.Context, string) (stream.TopicID, error) {
	w.turn()
	return worldTopic, nil
}

func (w *world) ListOffsets(context.Context, string, []int32) ([]stream.Offsets, error) {
	return nil, errors.New("not asked for")
}

// Currency and Day are the book.
func (w *world) Currency(uint32) money.Currency {
	c, _ := money.ParseCurrency("USD")
	return c
}

func (w *world) Day(_ uint32, ms int64) int32 { return int32(ms / 86_400_000) }

// Heads, Params, Attention and Accounts are Redis.
func (w *world) Heads(_ context.Context, shards []int32, heads []lua.Head) error {
	w.turn()
	if w.fails(20) {
		return errLost
	}
	for i := range shards {
		heads[i] = lua.Head{Initialized: w.redis.state.WM >= 0, Installation: "test", TopicID: worldTopic, WM: w.redis.state.WM, Base: w.redis.base}
		if w.mutant == "base" {
			heads[i].Base = heads[i].WM
		}
	}
	w.turn()
	return nil
}

func (w *world) Params(context.Context, int32) ([ledger.ParamCount]int64, error) {
	return w.redis.state.Params, nil
}

func (w *world) Attention(context.Context, int32) ([]uint32, error) {
	var numbers []uint32
	for n, a := range w.redis.state.Accounts {
		if a.WantsAttention(w.redis.state.Params[ledger.GiveUpAfter]) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	w.turn()
	return numbers, nil
}

func (w *world) Accounts(_ context.Context, _ int32, numbers []uint32) (found []lua.Found, err error) {
	if w.fails(20) {
		return nil, errLost
	}
	for _, n := range numbers {
		if a := w.redis.state.Accounts[n]; a != nil {
			c := *a
			c.Tokens = slices.Clone(a.Tokens)
			found = append(found, lua.Found{ID: n, State: c})
		}
	}
	w.turn()
	return found, nil
}

// courier is a process' way to the gateway.
type courier struct{ *world }

func (c courier) KeyLife() time.Duration {
	if c.mutant == "deadline" {
		return 1000 * time.Hour
	}
	return c.gateway.KeyLife()
}

func (c courier) Attempts(ctx context.Context, account uint32, intent Intent) ([]Charge, error) {
	c.turn()
	if c.fails(15) {
		return nil, errLost
	}
	list, err := c.gateway.Attempts(ctx, account, intent)
	if c.mutant == "look-up" {
		list = nil
	}
	c.turn()
	if c.fails(15) {
		return nil, errLost
	}
	return list, err
}

// Charge takes no turn before the request is on its way: how long it may take from the last look at the clock is bounded,
// in the protocol as here.
func (c courier) Charge(ctx context.Context, r Request) (Charge, error) {
	c.keys++
	switch c.mutant {
	case "key":
		r.IdempotencyKey = fmt.Sprint(r.IdempotencyKey, c.keys)
	case "amount":
		r.AmountUnits = (100*unit - c.redis.state.Accounts[r.Account].BalanceUnits)
	}
	if c.fails(8) { // it arrives later, or never
		if c.IntN(2) == 0 {
			c.network = append(c.network, delayed{c.now.Add(time.Duration(c.IntN(40)) * time.Second), func() { _, _ = c.arrive(ctx, r) }})
			c.counts["late requests"]++
		}
		return Charge{}, errLost
	}
	charge, err := c.arrive(ctx, r)
	c.turn()
	if c.fails(8) {
		c.counts["lost answers"]++
		charge, err = Charge{}, errLost
	}
	if err != nil && c.mutant == "definitive" {
		charge, err = Charge{Intent: r.Intent, Attempt: r.Attempt, Account: r.Account, Status: Declined}, nil
	}
	return charge, err
}

// arrive is a request that reaches the gateway: its intent must be in Kafka.
func (c courier) arrive(ctx context.Context, r Request) (Charge, error) {
	c.counts["requests"]++
	if r.Intent.Offset > c.shipped {
		c.violated("charged before the intent is in Kafka", r)
	}
	_, outcomes := c.fold(int(r.Intent.Offset) + 1)
	if o := outcomes[r.Intent.Offset]; o.Flags&posting.OpenedIntent == 0 || o.IntentUnits != r.AmountUnits {
		c.violated("charged what no entry decided", r, o)
	}
	return c.gateway.Charge(ctx, r)
}

func (c courier) Captured(ctx context.Context, since time.Time) iter.Seq2[Charge, error] {
	return func(yield func(Charge, error) bool) {
		c.turn()
		for charge, err := range c.gateway.Captured(ctx, since) {
			if c.fails(30) {
				err = errLost
			}
			if !yield(charge, err) || err != nil {
				return
			}
		}
	}
}

// pen is a process' way to the log.
type pen struct {
	*world
	values [][]byte
	base   int64
}

func (p *pen) Reset() { p.values, p.base = nil, -1 }

func (p *pen) Append(_ string, _ int32, _, value []byte) error {
	if len(p.values) > 3 {
		return stream.ErrBatchFull
	}
	p.values = append(p.values, slices.Clone(value))
	return nil
}

func (p *pen) Send(context.Context) error {
	p.turn()
	values := p.values
	arrives := func() {
		for _, v := range values {
			l := logged{ms: p.now.UnixMilli()}
			if err := l.block.Decode(v); err != nil {
				p.t.Fatal(err)
			}
			p.checkResult(&l.block)
			p.log = append(p.log, l)
		}
	}
	switch {
	case p.fails(15):
		return errLost
	case p.fails(15):
		p.network = append(p.network, delayed{p.now.Add(time.Duration(p.IntN(400)) * time.Second), arrives})
		return errLost
	}
	base := int64(len(p.log))
	arrives()
	if p.fails(15) {
		return stream.ErrUnknownOutcome
	}
	p.base = base
	p.turn()
	return nil
}

func (p *pen) Result(int) stream.Produced { return stream.Produced{BaseOffset: p.base} }

// checkResult holds an entry against the gateway's book: only money that was captured is a payment, and only a refusal
// that the gateway stated is a failure.
func (w *world) checkResult(b *entry.Block) {
	var e entry.Entry
	b.Get(0, &e)
	if e.Kind == entry.Wake {
		return
	}
	for i := range w.gateway.attempts {
		a := &w.gateway.attempts[i]
		if a.Offset != e.Args[entry.ArgIntentOffset] || int64(a.Attempt) != e.Args[entry.ArgAttempt] || a.Account != e.Account {
			continue
		}
		c := a.charge(w.now)
		if e.Kind == entry.Payment && c.Status == Succeeded && c.AmountUnits == e.AmountUnits {
			return
		}
		if e.Kind == entry.PaymentFailed && (refused(c.Status) || refused(a.Status)) { // it may be captured since
			return
		}
	}
	w.violated("stated what the gateway does not say", e)
}

func refused(s Status) bool { return s == Declined || s == NeedsAuthentication }

// spawn starts a process; kill is a kill -9 at the call that it is in.
func (w *world) spawn(run func(context.Context) error) {
	p := &process{}
	p.respawn = func() { w.spawn(run) }
	p.resume, p.kill = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		defer func() {
			if r := recover(); r != nil && r != (killed{}) {
				panic(r)
			}
		}()
		w.current = p
		if err := run(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	w.processes = append(w.processes, p)
}

func (w *world) deps() Deps {
	return Deps{Shards: w, Gateway: courier{w}, Writer: &pen{world: w}, Topics: w, Book: w, Clock: w, Metrics: w.metrics, Logger: slog.New(slog.DiscardHandler)}
}

func (w *world) spawnWorker() {
	w.spawn(func(ctx context.Context) error {
		worker, err := NewWorker(w.deps(), w.cfg, []int32{0})
		if err != nil {
			return err
		}
		return worker.Run(ctx)
	})
}

func (w *world) spawnReconciler() {
	if w.mutant == "reconciler" {
		return
	}
	w.spawn(func(ctx context.Context) error {
		r, err := NewReconciler(w.deps(), w.cfg, []int32{0})
		if err != nil {
			return err
		}
		return r.Run(ctx)
	})
}
