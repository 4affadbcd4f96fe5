// Package chaos breaks a whole Tollgate of real processes, and finds out whether a record was lost or charged twice. It
// starts Apache Kafka, Redis with a replica, ClickHouse and two `tollgate serve`, lets carriers write, and meanwhile kills,
// pauses, disconnects, empties and fills what it started, as a seed says. Then it heals everything, waits until all is
// through, and has others judge: the oracle, `tollgate verify`, the audit.
//
// It stands outside of the flow, where the operator, the carriers and bad luck are: it runs the built programs, and reads
// only what they show. It never decides itself what a record should have cost.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says how long, how much and with what.
type Config struct {
	// Seed decides the accounts, the traffic, the gateway's moods and the faults.
	Seed uint64
	// Duration is how long records and faults come. Starting before and healing after take a minute or two more.
	Duration time.Duration
	// Outage is how long ClickHouse is away in one piece.
	Outage time.Duration
	// Calm scales the pauses between two faults: 1 is as in the short form, 0.5 is half as long.
	Calm float64
	// RecordsPerSecond is what all carriers write together, through all faults.
	RecordsPerSecond int
	// Accounts and Shards give the size of the installation.
	Accounts, Shards int
	// HealWithin bounds how long it may take after the last fault until everything is through.
	HealWithin time.Duration
	// Tollgate and Oracle are the paths of the programs. Without an oracle, verify and the audit judge alone.
	Tollgate, Oracle string
	// DataDir keeps all data and logs; empty is a temporary folder.
	DataDir string
	// Say receives a line of progress now and then.
	Say func(line string)
}

// DefaultConfig is the short form: with starting before and healing after it takes three to four minutes.
func DefaultConfig() Config {
	return Config{Duration: 150 * time.Second, Outage: 25 * time.Second, Calm: 1, RecordsPerSecond: 8000, Accounts: 4000, Shards: 16, HealWithin: 15 * time.Minute}
}

// Run breaks things for the configured time and reports what came of it. The error is of a run that could not be carried
// out; differences are in the report.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	in, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	if err := in.awaitOpening(ctx); err != nil {
		return nil, err
	}
	if err := in.suffer(ctx); err != nil {
		return nil, err
	}
	if err := in.heal(ctx); err != nil {
		return nil, err
	}
	if err := in.judge(ctx); err != nil {
		return nil, err
	}
	return in.report, nil
}

// suffer lets records and faults come side by side until the time is over, and every record is in its topic.
func (in *installation) suffer(ctx context.Context) error {
	in.began = time.Now()
	group, ctx := errgroup.WithContext(ctx)
	timed, cancel := context.WithDeadline(ctx, in.began.Add(in.cfg.Duration))
	defer cancel()
	for _, f := range in.feeds {
		group.Go(func() error { return f.flow(ctx, in.cfg.RecordsPerSecond, in.cfg.Duration) })
	}
	for _, l := range in.lanes() {
		group.Go(func() error { return l.run(ctx, timed, in.report) })
	}
	group.Go(func() error { return in.cashier.run(timed) })
	group.Go(func() error { return in.watch(timed) })
	return group.Wait()
}

// watch says now and then how it goes, and notices a service that does not come up any more.
func (in *installation) watch(ctx context.Context) error {
	for said := in.began; pause(ctx, watchEvery); {
		for _, s := range in.services {
			s.scrape(ctx)
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			in.say("%4.0f s: %d records written, %s", time.Since(in.began).Seconds(), in.written(), in.report.line())
		}
	}
	return nil
}

// Pauses of those who watch.
const (
	watchEvery = time.Second
	sayEvery   = 10 * time.Second
)

// pause waits, and tells whether there is more to do: false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (in *installation) say(format string, args ...any) {
	if in.cfg.Say != nil {
		in.cfg.Say(fmt.Sprintf(format, args...))
	}
}
