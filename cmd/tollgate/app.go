package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/tollgate/tollgate/balance"
	"github.com/tollgate/tollgate/balance/audit"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/notify"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
	"github.com/tollgate/tollgate/sink"
	"github.com/tollgate/tollgate/sink/late"
)

// App is the whole of Tollgate wired together: the connections, the book, and the stages. This file is the only wiring.
type App struct {
	cfg      Config
	topics   topics
	logger   *slog.Logger
	registry *prometheus.Registry
	clock    stream.Clock

	kafka      *stream.Client
	shards     *lua.Shards
	clickhouse *sink.ClickHouse
	follower   *book.Follower
}

// OpenApp connects to nothing yet: every connection is made when it is first used.
func OpenApp(cfg Config) (*App, error) {
	handler, err := cfg.Log.handler()
	if err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, topics: topicsOf(cfg.Kafka.TopicPrefix), logger: slog.New(handler), registry: prometheus.NewRegistry(), clock: stream.SystemClock{}}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if a.kafka, err = openKafka(cfg.Kafka); err != nil {
		return nil, err
	}
	if a.shards, err = openRedis(cfg); err != nil {
		return nil, err
	}
	if a.clickhouse, err = openClickHouse(cfg.ClickHouse); err != nil {
		return nil, err
	}
	a.follower = a.newFollower()
	return a, nil
}

// Close ends all connections.
func (a *App) Close() error {
	a.kafka.Close()
	return errors.Join(a.shards.Close(), a.clickhouse.Close())
}

func (a *App) newFollower() *book.Follower {
	cfg := book.DefaultFollowConfig()
	cfg.Topic, cfg.ImagesTopic, cfg.DemandAppendTime = a.topics.book, a.topics.bookImages, a.cfg.Kafka.AppendTimeBit
	return book.NewFollower(book.FollowDeps{
		Reader: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Clock: a.clock, Logger: a.logger,
	}, cfg)
}

// Serve runs the configured stages until ctx ends, and then drains them. It returns the first failure that no retry can
// mend.
func (a *App) Serve(ctx context.Context) error {
	if err := a.checkLogs(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serveHTTP(ctx) })
	// No stage can do anything before the book is read.
	for err := a.follower.CatchUp(ctx); err != nil && ctx.Err() == nil; err = a.follower.CatchUp(ctx) {
		a.logger.Warn("cannot read the book, trying again", "error", err)
		a.clock.Sleep(ctx, time.Second)
	}
	group.Go(func() error { return a.follower.Run(ctx) })
	group.Go(func() error { return a.watchInstallation(ctx) })
	if a.belong() != nil { // no stage begins on the logs of another installation
		return group.Wait()
	}
	run := map[string]func(context.Context) error{
		"rate": a.rate, "debit": a.debit, "store": a.store, "audit": a.audit,
		"act": a.act, "recharge": a.recharge, "late": a.late,
	}
	for _, stage := range a.cfg.Stages {
		group.Go(func() error {
			if err := run[stage](ctx); err != nil {
				return fmt.Errorf("stage %s: %w", stage, err)
			}
			return nil
		})
	}
	if slices.Contains(a.cfg.Stages, "rate") {
		group.Go(func() error { return a.closeDays(ctx) })
	}
	a.logger.Info("tollgate serves", "installation", a.cfg.Installation, "stages", a.cfg.Stages, "http", a.cfg.HTTP.Listen)
	err := group.Wait()
	a.logger.Info("tollgate stopped")
	return err
}

// belong tells whether the book, as far as it is opened, is that of the configured installation. Under another name the
// charges of an open recharge would have other keys, and be made again.
func (a *App) belong() error {
	if b := a.follower.Book(); b.Opened() && b.Installation() != a.cfg.Installation {
		return refusedf("these logs belong to installation %q, the config says %q: set installation, or kafka.topic_prefix for logs of its own", b.Installation(), a.cfg.Installation)
	}
	return nil
}

// watchInstallation ends with an error when the book turns out to be another installation's, which it may only do by being
// opened; then with none, when ctx ends.
func (a *App) watchInstallation(ctx context.Context) error {
	for ctx.Err() == nil && !a.follower.Book().Opened() {
		a.clock.Sleep(ctx, time.Second)
	}
	return a.belong()
}

// runner is a loop of a stage.
type runner interface{ Run(context.Context) error }

// stage is how the partitions of some topics are shared over the loops of a stage.
type stage struct {
	name    string
	topics  []string
	balance stream.Balance
	loops   int
	metrics interface{ Forget() } // of all its loops
	loop    func(g stream.Generation, share map[string][]int32) runner
}

// run is a member of the stage's group until ctx ends. Each generation has its own loops; a loop that fails ends its
// generation, and the next one begins after a pause.
func (a *App) run(ctx context.Context, s stage) error {
	group := stream.GroupConfig{ID: a.cfg.group(s.name), Topics: s.topics, Balance: s.balance, Session: a.cfg.Kafka.Session, Drain: a.cfg.DrainWithin, Log: a.logger.With("stage", s.name)}
	return a.kafka.RunGroup(ctx, group, func(ctx context.Context, g stream.Generation) error {
		loops, loopsCtx := errgroup.WithContext(ctx)
		for _, share := range split(g.Partitions, s.loops) {
			loop := s.loop(g, share)
			loops.Go(func() error { return loop.Run(loopsCtx) })
		}
		err := loops.Wait()
		s.metrics.Forget()
		if err != nil && ctx.Err() == nil {
			a.logger.Warn("a loop ended, the stage joins again", "stage", s.name, "error", err)
			return nil
		}
		if len(g.Partitions) == 0 {
			<-ctx.Done()
		}
		return nil
	})
}

// split shares the partitions over at most n loops, in turn.
func split(partitions map[string][]int32, n int) []map[string][]int32 {
	var shares []map[string][]int32
	turn := 0
	for _, topic := range sortedKeys(partitions) {
		for _, p := range partitions[topic] {
			if len(shares) < n {
				shares = append(shares, map[string][]int32{})
			}
			share := shares[turn%n]
			share[topic] = append(share[topic], p)
			turn++
		}
	}
	return shares
}

// rate reads the topics that have a format in the book, and the book itself. When a topic gets its first format, or is
// made, it joins anew.
func (a *App) rate(ctx context.Context) error {
	metrics := rater.NewMetrics(a.registry)
	for ctx.Err() == nil {
		topics := a.readable(ctx)
		turn, cancel := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for turn.Err() == nil && slices.Equal(topics, a.readable(turn)) {
				a.clock.Sleep(turn, time.Second)
			}
			cancel()
		}()
		err := a.run(turn, stage{name: "rate", metrics: metrics, topics: topics, balance: stream.BalanceEvenly, loops: a.cfg.Rate.Loops,
			loop: func(g stream.Generation, share map[string][]int32) runner {
				cfg := rater.DefaultConfig()
				cfg.BookTopic, cfg.EntriesTopic, cfg.Group, cfg.Linger = a.topics.book, a.topics.entries, a.cfg.group("rate"), a.cfg.Rate.Linger
				cfg.Drain, cfg.DemandAppendTime = a.cfg.drainLoops(), a.cfg.Kafka.AppendTimeBit
				return rater.NewLoop(rater.Deps{
					Reader: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Commits: a.kafka,
					Books: a.follower, Clock: a.clock, Metrics: metrics, Logger: a.logger,
				}, cfg, g.GenerationRef, share)
			}})
		cancel()
		<-watched
		if err != nil && ctx.Err() == nil {
			a.logger.Warn("rate: cannot read the sources, trying again", "topics", topics, "error", err)
			a.clock.Sleep(ctx, time.Second)
		}
	}
	return nil
}

// sources are the topics that the book has a format for, and the book itself. Tollgate's own logs are none, whatever the
// book says: what is rejected from them would be written to them again.
func (a *App) sources() []string {
	topics := []string{a.topics.book}
	for f := range a.follower.Book().Formats() {
		if !a.topics.own(f.Topic) {
			topics = append(topics, f.Topic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// readable are the sources that Kafka has. A topic that only the book knows is nothing to read yet, and no reason to stop.
func (a *App) readable(ctx context.Context) []string {
	return slices.DeleteFunc(a.sources(), func(topic string) bool {
		_, err := a.kafka.TopicID(ctx, topic)
		return errors.Is(err, stream.ErrUnknownTopic)
	})
}

func (a *App) debit(ctx context.Context) error {
	metrics := balance.NewMetrics(a.registry)
	return a.run(ctx, stage{name: "debit", metrics: metrics, topics: []string{a.topics.entries}, loops: a.cfg.Debit.Loops,
		loop: func(_ stream.Generation, share map[string][]int32) runner {
			cfg := balance.DefaultConfig()
			cfg.EntriesTopic, cfg.PostingsTopic = a.topics.entries, a.topics.postings
			cfg.Linger, cfg.EntriesPerCall, cfg.Drain = a.cfg.Debit.Linger, a.cfg.Debit.EntriesPerCall, a.cfg.drainLoops()
			return balance.NewLoop(balance.Deps{
				Reader: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Shards: a.shards,
				Images: a.snapshots(), Clock: a.clock, Metrics: metrics, Logger: a.logger,
			}, cfg, share[a.topics.entries])
		}})
}

func (a *App) store(ctx context.Context) error {
	metrics := sink.NewMetrics(a.registry)
	return a.run(ctx, stage{name: "store", metrics: metrics, topics: []string{a.topics.postings}, loops: a.cfg.Store.Loops,
		loop: func(g stream.Generation, share map[string][]int32) runner {
			cfg := sink.DefaultConfig()
			cfg.PostingsTopic, cfg.Group = a.topics.postings, a.cfg.group("store")
			cfg.MaxRows, cfg.MaxAge = a.cfg.Store.RowsPerInsert, a.cfg.Store.InsertEvery
			return sink.NewLoop(sink.Deps{
				Reader: a.kafka.NewFetcher(), Topics: a.kafka, Commits: a.kafka, Store: a.clickhouse,
				Clock: a.clock, Metrics: metrics, Logger: a.logger,
			}, cfg, g.GenerationRef, share[a.topics.postings])
		}})
}

func (a *App) audit(ctx context.Context) error {
	metrics := audit.NewMetrics(a.registry, a.clock)
	return a.run(ctx, stage{name: "audit", metrics: metrics, topics: []string{a.topics.postings}, loops: a.cfg.Audit.Loops,
		loop: func(_ stream.Generation, share map[string][]int32) runner {
			cfg := audit.DefaultConfig()
			cfg.EntriesTopic, cfg.PostingsTopic, cfg.SnapshotsTopic = a.topics.entries, a.topics.postings, a.topics.snapshots
			cfg.ImageEntries, cfg.ImageEvery = a.cfg.Audit.ImageEntries, a.cfg.Audit.ImageEvery
			return audit.NewLoop(audit.Deps{
				Postings: a.kafka.NewFetcher(), Entries: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Snapshots: a.snapshots(),
				Clock: a.clock, Metrics: metrics, Logger: a.logger,
			}, cfg, share[a.topics.postings])
		}})
}

func (a *App) snapshots() *audit.Snapshots {
	return audit.NewSnapshots(a.kafka.NewFetcher(), a.kafka, a.topics.snapshots)
}

// act tells the outside what happened to accounts.
func (a *App) act(ctx context.Context) error {
	metrics := notify.NewMetrics(a.registry)
	return a.run(ctx, stage{name: "act", metrics: metrics, topics: []string{a.topics.postings}, loops: 1,
		loop: func(g stream.Generation, share map[string][]int32) runner {
			cfg := notify.DefaultConfig()
			cfg.Installation, cfg.Group = a.cfg.Installation, a.cfg.group("act")
			cfg.PostingsTopic, cfg.EventsTopic, cfg.DeadLettersTopic = a.topics.postings, a.topics.events, a.topics.deadLetters
			return notify.NewLoop(notify.Deps{
				Reader: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Commits: a.kafka,
				Currencies: accountBook{a.follower}, Clock: a.clock, Metrics: metrics, Logger: a.logger,
			}, cfg, g.GenerationRef, share[a.topics.postings])
		}})
}

// recharge settles the recharges that the shards have decided, through the configured gateway.
func (a *App) recharge(ctx context.Context) error {
	gateway, err := a.cfg.Recharge.open(a.clock)
	if err != nil {
		return err
	}
	if gateway == nil { // none is configured: intents stay open, nobody is charged
		<-ctx.Done()
		return nil
	}
	metrics := recharge.NewMetrics(a.registry)
	cfg := recharge.DefaultConfig()
	cfg.Installation, cfg.EntriesTopic, cfg.Paused = a.cfg.Installation, a.topics.entries, a.cfg.Recharge.Paused
	cfg.PollEvery, cfg.Concurrent, cfg.AttemptPause = a.cfg.Recharge.PollEvery, a.cfg.Recharge.Concurrent, a.cfg.Recharge.AttemptPause
	deps := func() recharge.Deps {
		return recharge.Deps{Shards: a.shards, Gateway: gateway, Writer: a.kafka.NewProducer(), Topics: a.kafka,
			Book: accountBook{a.follower}, Clock: a.clock, Metrics: metrics, Logger: a.logger}
	}
	return a.run(ctx, stage{name: "recharge", metrics: metrics, topics: []string{a.topics.entries}, loops: 1,
		loop: func(_ stream.Generation, share map[string][]int32) runner {
			return runners{
				must(recharge.NewWorker(deps(), cfg, share[a.topics.entries])),
				must(recharge.NewReconciler(deps(), cfg, share[a.topics.entries])),
			}
		}})
}

// late decides the records that came after the window of duplicates.
func (a *App) late(ctx context.Context) error {
	metrics := late.NewMetrics(a.registry)
	return a.run(ctx, stage{name: "late", metrics: metrics, topics: []string{a.topics.postings}, loops: 1,
		loop: func(g stream.Generation, share map[string][]int32) runner {
			cfg := late.DefaultConfig()
			cfg.PostingsTopic, cfg.EntriesTopic = a.topics.postings, a.topics.entries
			cfg.Group, cfg.StoreGroup = a.cfg.group("late"), a.cfg.group("store")
			return late.NewLoop(late.Deps{
				Reader: a.kafka.NewFetcher(), Writer: a.kafka.NewProducer(), Topics: a.kafka, Commits: a.kafka,
				Ledger: late.NewClickHouse(a.clickhouse.Conn(), lookUpTimeout), Clock: a.clock, Metrics: metrics, Logger: a.logger,
			}, cfg, g.GenerationRef, share[a.topics.postings])
		}})
}

// lookUpTimeout bounds one look-up of late records in ClickHouse.
const lookUpTimeout = time.Minute

// runners are loops that run side by side; the first failure ends all.
type runners []runner

// Run runs all of them until they have ended.
func (r runners) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range r {
		group.Go(func() error { return one.Run(ctx) })
	}
	return group.Wait()
}

// failed is a runner that could not be made.
type failed struct{ err error }

// Run gives the reason.
func (f failed) Run(context.Context) error { return f.err }

// must turns a runner that could not be made into one that says so.
func must[R runner](r R, err error) runner {
	if err != nil {
		return failed{err}
	}
	return r
}

// accountBook is the book as the act and recharge stages see it.
type accountBook struct{ follower *book.Follower }

// Currency is that of the account, the zero Currency if the book does not have it yet.
func (b accountBook) Currency(account uint32) money.Currency {
	if a := b.follower.Book().Account(account); a != nil {
		return a.Currency
	}
	return money.Currency{}
}

// Day is the day in the account's zone at a time, in days since 1970-01-01; that of UTC for an unknown account.
func (b accountBook) Day(account uint32, ms int64) int32 {
	current := b.follower.Book()
	if a := current.Account(account); a != nil {
		return current.LocalDay(a, ms, min(ms, current.FrontierMs()))
	}
	return current.Zone(0).Day(ms)
}

// closeDays has the days that are over closed, in every zone that an account is in. Anyone may; the book takes the first.
func (a *App) closeDays(ctx context.Context) error {
	c := closer{books: a.follower, writer: a.kafka.NewProducer(), topic: a.topics.book, after: a.cfg.Closing.AfterMidnight, clock: a.clock, logger: a.logger}
	return c.Run(ctx)
}
