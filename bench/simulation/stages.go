package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance"
	"github.com/tollgate/tollgate/balance/audit"
	"github.com/tollgate/tollgate/balance/notify"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
	"github.com/tollgate/tollgate/sink"
	"github.com/tollgate/tollgate/sink/late"
)

// Shared is what all worlds of a process may share, since it decides nothing: the metrics.
type Shared struct {
	rate     *rater.Metrics
	debit    *balance.Metrics
	store    *sink.Metrics
	late     *late.Metrics
	act      *notify.Metrics
	recharge *recharge.Metrics
	audit    *audit.Metrics
}

// NewShared makes it.
func NewShared() *Shared {
	r := prometheus.NewRegistry
	return &Shared{rater.NewMetrics(r()), balance.NewMetrics(r()), sink.NewMetrics(r()), late.NewMetrics(r()),
		notify.NewMetrics(r()), recharge.NewMetrics(r()), audit.NewMetrics(r(), stream.SystemClock{})}
}

// stage is a consumer group: its members' loops share the partitions of its topics out.
type stage struct {
	name       string
	topics     []string
	generation int32
	members    []*task
	doubled    bool  // of members that begin while faults last, two have all partitions: nobody is promised to be alone
	dueMs      int64 // when the group is shared out anew, because a member has gone; 0 if it is not
	loop       func(t *task) runner
}

// runner is a production loop.
type runner interface{ Run(context.Context) error }

// follower is a process's view of the book.
type follower struct {
	w     *world
	index int
	build build
	t     *task
	f     *book.Follower

	startedAt int64 // where the book ended when it was started
}

// Book gives the newest book that the process has read.
func (f *follower) Book() *book.Book { return f.f.Book() }

// Currency is that of the account, the zero Currency while the process does not know it.
func (f *follower) Currency(account uint32) money.Currency {
	if a := f.f.Book().Account(account); a != nil {
		return a.Currency
	}
	return money.Currency{}
}

// Day is the day in the account's zone at a time.
func (f *follower) Day(account uint32, ms int64) int32 {
	current := f.f.Book()
	if a := current.Account(account); a != nil {
		return current.LocalDay(a, ms, min(ms, current.FrontierMs()))
	}
	return current.Zone(0).Day(ms)
}

// follow starts a process's follower.
func (w *world) follow(f *follower) {
	f.startedAt = w.log("book", 0).end
	f.t = &task{name: fmt.Sprintf("book.%d", f.index), carrier: f}
	t := f.t
	t.w = w
	cfg := book.DefaultFollowConfig()
	cfg.MaxWait, cfg.HeartbeatEvery = time.Minute, w.heartbeat()
	cfg.RetryMin, cfg.RetryMax = 200*time.Millisecond, 20*time.Second
	cfg.ImagesTopic, cfg.ImageRecords = "book-images", w.bookImages/2+w.r.Int64N(w.bookImages)
	f.f = book.NewFollower(book.FollowDeps{
		Reader: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Clock: t, Logger: w.logger(t),
	}, cfg)
	w.start(t, f.f.Run)
}

func (w *world) heartbeat() time.Duration { return time.Duration(20+w.r.IntN(100)) * time.Second }

// makeStages declares the groups, as cmd/tollgate wires them.
func (w *world) makeStages() {
	add := func(name string, loop func(t *task) runner, topics ...string) {
		w.stages[name] = &stage{name: name, topics: topics, loop: loop}
	}
	add("rate", w.newRate, append([]string{"book"}, w.carrierTopics()...)...)
	add("debit", w.newDebit, "entries")
	add("store", w.newStore, "postings")
	add("late", w.newLate, "postings")
	add("act", w.newAct, "postings")
	add("audit", w.newAudit, "postings")
	add("recharge", w.newWorker, "entries")
	add("reconcile", w.newReconciler, "entries")
	w.stages["recharge"].doubled = w.r.IntN(2) == 0
	w.stages["debit"].doubled = w.r.IntN(4) == 0
	w.stages["audit"].doubled = w.r.IntN(2) == 0
}

func (w *world) newRate(t *task) runner {
	cfg := rater.DefaultConfig()
	cfg.Group, cfg.MaxWait, cfg.Linger, cfg.CommitEvery = "rate", 3*time.Minute, w.breath(), 5*time.Second
	cfg.EntriesPerBlock, cfg.EntriesPerRound = 1+w.r.IntN(8), 1+w.r.IntN(20)
	cfg.RetryMin, cfg.RetryMax = 15*time.Second, 30*time.Second
	return rater.NewLoop(rater.Deps{
		Reader: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Commits: kafka{t}, Books: w.books(t),
		Clock: t, Metrics: w.shared.rate, Logger: w.logger(t),
	}, cfg, t.ref, t.share)
}

// books gives a rate loop the book of its process.
func (w *world) books(t *task) rater.Books {
	if wrap := w.mutation.books; wrap != nil && len(t.share["book"]) == 0 {
		return wrap(t.carrier)
	}
	return t.carrier
}

func (w *world) breath() time.Duration { return time.Duration(w.r.IntN(3)*500) * time.Millisecond }

func (w *world) newDebit(t *task) runner {
	cfg := balance.DefaultConfig()
	cfg.MaxWait, cfg.Linger, cfg.EntriesPerCall = 90*time.Second, w.breath(), 1+w.r.IntN(12)
	cfg.ProbeEvery, cfg.BeyondEndAfter = 2*time.Minute, 20*time.Minute
	cfg.RetryMin, cfg.RetryMax = 200*time.Millisecond, 10*time.Second
	if w.mutation.noProbe {
		cfg.ProbeEvery = 1e6 * time.Hour
	}
	return balance.NewLoop(balance.Deps{
		Reader: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Shards: redis{t}, Images: w.images(t),
		Clock: t, Metrics: w.shared.debit, Logger: w.logger(t),
	}, cfg, t.share["entries"])
}

func (w *world) images(t *task) balance.Images {
	snapshots := audit.NewSnapshots(&reader{t: t}, kafka{t}, "snapshots")
	if w.mutation.earlyImage {
		return earlyImages{t, snapshots}
	}
	return snapshots
}

func (w *world) newStore(t *task) runner {
	cfg := sink.DefaultConfig()
	cfg.MaxRows, cfg.MaxAge, cfg.MaxWait = 1+w.r.IntN(40), time.Duration(1+w.r.IntN(30))*time.Second, 3*time.Minute
	cfg.CommitEvery, cfg.RetryMin, cfg.RetryMax = 4*time.Minute, 500*time.Millisecond, time.Minute
	return sink.NewLoop(sink.Deps{
		Reader: &reader{t: t}, Topics: kafka{t}, Commits: kafka{t}, Store: clickhouse{t}, Clock: t,
		Metrics: w.shared.store, Logger: w.logger(t),
	}, cfg, t.ref, t.share["postings"])
}

func (w *world) newLate(t *task) runner {
	cfg := late.DefaultConfig()
	cfg.Group, cfg.StoreGroup, cfg.MaxWait, cfg.DecideEvery, cfg.CommitEvery = "late", "store", 2*time.Minute, 20*time.Second, 4*time.Minute
	cfg.MaxLate, cfg.RecordsPerQuery, cfg.EntriesPerBlock = 4+w.r.IntN(8), 1+w.r.IntN(8), 1+w.r.IntN(4)
	cfg.RetryMin, cfg.RetryMax = 500*time.Millisecond, time.Minute
	return late.NewLoop(late.Deps{
		Reader: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Commits: kafka{t}, Ledger: clickhouse{t},
		Clock: t, Metrics: w.shared.late, Logger: w.logger(t),
	}, cfg, t.ref, t.share["postings"])
}

func (w *world) newAct(t *task) runner {
	cfg := notify.DefaultConfig()
	cfg.Installation, cfg.Group, cfg.MaxWait, cfg.CommitEvery = installation, "act", 3*time.Minute, 3*time.Minute
	cfg.BlocksPerRound, cfg.RetryMin, cfg.RetryMax = 1+w.r.IntN(20), 500*time.Millisecond, time.Minute
	return notify.NewLoop(notify.Deps{
		Reader: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Commits: kafka{t}, Currencies: t.carrier,
		Clock: t, Metrics: w.shared.act, Logger: w.logger(t),
	}, cfg, t.ref, t.share["postings"])
}

func (w *world) newAudit(t *task) runner {
	if w.mutation.fold != nil { // it would name the difference at once; here the oracle must find it
		return idle{t}
	}
	cfg := audit.DefaultConfig()
	cfg.MaxWait, cfg.ImageEntries, cfg.ImageEvery = 3*time.Minute, int64(4+w.r.IntN(40)), 30*time.Minute
	cfg.RetryMin, cfg.RetryMax = 20*time.Second, time.Minute
	return audit.NewLoop(audit.Deps{
		Postings: &reader{t: t}, Entries: &reader{t: t}, Writer: &writer{t: t}, Topics: kafka{t}, Snapshots: audit.NewSnapshots(&reader{t: t}, kafka{t}, "snapshots"),
		Fold: t.carrier.build, Clock: t, Metrics: w.shared.audit, Logger: w.logger(t),
	}, cfg, t.share["postings"])
}

func (w *world) rechargeConfig() recharge.Config {
	cfg := recharge.DefaultConfig()
	cfg.Installation, cfg.Concurrent = installation, 1
	cfg.PollEvery, cfg.AskAgainMin, cfg.AskAgainMax, cfg.AttemptPause = 2*time.Minute, 10*time.Second, 5*time.Minute, time.Minute
	cfg.ChargesPerSecond, cfg.FailuresToRest, cfg.RestFor = 1000, 5, time.Minute
	cfg.WakeMargin, cfg.WakeEvery = 2*time.Second, 5*time.Minute
	cfg.ReconcileEvery, cfg.ReconcileOverlap, cfg.ReconcileAfter = 20*time.Minute, 30*time.Minute, 10*time.Minute
	cfg.ChargeWithin, cfg.CallTimeout = time.Minute, 10*time.Second
	cfg.ReconcileBack = 30 * 24 * time.Hour
	cfg.RetryMin, cfg.RetryMax = 500*time.Millisecond, time.Minute
	if w.mutation.lateCharge {
		cfg.ChargeWithin = 999 * time.Hour
	}
	return cfg
}

func (w *world) rechargeDeps(t *task) recharge.Deps {
	return recharge.Deps{Shards: redis{t}, Gateway: gateway{t}, Writer: &writer{t: t}, Topics: kafka{t}, Book: t.carrier,
		Clock: t, Metrics: w.shared.recharge, Logger: w.logger(t)}
}

func (w *world) newWorker(t *task) runner {
	worker, err := recharge.NewWorker(w.rechargeDeps(t), w.rechargeConfig(), t.share["entries"])
	if err != nil {
		panic(err)
	}
	return worker
}

func (w *world) newReconciler(t *task) runner {
	if w.mutation.noReconciler {
		return idle{t}
	}
	reconciler, err := recharge.NewReconciler(w.rechargeDeps(t), w.rechargeConfig(), t.share["entries"])
	if err != nil {
		panic(err)
	}
	return reconciler
}

// idle is a loop that does nothing.
type idle struct{ t *task }

// Run waits until ctx ends.
func (i idle) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		i.t.Sleep(ctx, time.Hour)
	}
	return nil
}

// rebalance shares a stage's partitions out anew. Members of the generation before end in order, die, or go on for a
// long time as if nothing had happened.
func (w *world) rebalance(s *stage) {
	s.generation++
	s.dueMs = 0
	for _, t := range s.members {
		w.replace(t)
	}
	s.members = s.members[:0]
	loops := 1 + w.r.IntN(2)
	if loops > 1 && s.doubled && w.faults {
		w.count("two loops over the same shards")
	}
	shares := make([]map[string][]int32, loops)
	for _, name := range s.topics {
		for _, p := range w.topics[name].partitions {
			own := w.r.IntN(loops)
			for i := range shares {
				if i != own && !(s.doubled && w.faults) {
					continue
				}
				if shares[i] == nil {
					shares[i] = map[string][]int32{}
				}
				shares[i][name] = append(shares[i][name], p.key.partition)
			}
		}
	}
	for i, share := range shares {
		if share == nil {
			continue
		}
		t := &task{
			w: w, name: fmt.Sprintf("%s.%d.%d", s.name, s.generation, i), stage: s, share: share,
			ref:     stream.GenerationRef{ID: s.generation, Member: fmt.Sprint(i)},
			carrier: w.followers[w.r.IntN(len(w.followers))],
		}
		if w.mutation.trackServed {
			t.served = map[logKey]int64{}
		}
		s.members = append(s.members, t)
		w.start(t, s.loop(t).Run)
	}
}

// replace ends a member whose generation is over, somehow.
func (w *world) replace(t *task) {
	if t.ended {
		return
	}
	if !w.faults {
		t.cancel()
		t.wakeMs = w.nowMs
		return
	}
	switch x := w.r.IntN(10); {
	case x < 3:
		w.count("member of the generation before ends")
		t.cancel()
		t.wakeMs = w.nowMs
	case x < 5:
		w.count("member of the generation before dies")
		t.dies, t.wakeMs = true, w.nowMs
	default:
		w.linger(t)
	}
}

// linger makes a zombie of a task: it goes on for a long time as if nothing had happened.
func (w *world) linger(t *task) {
	if !w.happens("zombie") {
		t.dies, t.wakeMs = true, w.nowMs
		return
	}
	t.zombie = w.step + 100 + w.r.IntN(1000)
	if w.r.IntN(3) == 0 {
		t.zombie += w.r.IntN(9000)
	}
}

// succeed sees to it that somebody does the work of a task that has ended.
func (w *world) succeed(t *task) {
	if t.stage == nil {
		if t.carrier != nil && t.carrier.t == t {
			w.restart(t.carrier)
		}
		return
	}
	if t.ref.ID == t.stage.generation && t.stage.dueMs == 0 {
		t.stage.dueMs = w.nowMs + 1 + w.r.Int64N(20_000)
		w.actMs = min(w.actMs, t.stage.dueMs)
	}
}

// restart starts a process anew: its follower, and its loops but for those that go on as zombies for a while.
func (w *world) restart(f *follower) {
	for _, t := range w.tasks {
		if t.carrier == f && t != f.t && (t.zombie == 0 || w.r.IntN(2) == 0) {
			t.dies, t.wakeMs = true, w.nowMs
		}
	}
	if !f.t.ended {
		f.t.dies, f.t.wakeMs = true, w.nowMs
		return // succeed comes here again
	}
	w.follow(f)
}
