package chaos

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tollgate/tollgate/deploy/local"
)

// outageAfter is the part of the run after which the outage of ClickHouse begins.
const outageAfter = 0.3

// zombieLeast is how long a process is paused at least: longer than the session, so that the other takes over meanwhile.
const zombieLeast = session + time.Second

// lanes are all that goes wrong.
func (in *installation) lanes() []*lane {
	r := in.report
	kafka, clickhouse := server{in.stack.Kafka, r}, server{in.stack.ClickHouse, r}
	away := &outage{server: clickhouse, from: in.began.Add(time.Duration(outageAfter * float64(in.cfg.Duration))),
		hold: in.cfg.Outage}
	return []*lane{
		newLane(&in.cfg, "tollgate", 300*time.Millisecond, 12*time.Second,
			fault{"tollgate killed", 8, 0, 2 * time.Second, in.killService},
			fault{"tollgate killed, both", 1, 0, time.Second, in.killServices},
			fault{"tollgate paused past its session, then a zombie", 2, zombieLeast, zombieLeast + 4*time.Second, in.freezeService}),
		newLane(&in.cfg, "redis", 300*time.Millisecond, 6*time.Second, in.pair.faults()...),
		newLane(&in.cfg, "kafka", 15*time.Second, time.Minute,
			fault{"kafka killed", 2, 0, 2 * time.Second, kafka.kill},
			fault{"kafka paused", 1, 2 * time.Second, 9 * time.Second, kafka.freeze}),
		newLane(&in.cfg, "clickhouse", 500*time.Millisecond, 10*time.Second,
			fault{"clickhouse killed", 3, 0, 3 * time.Second, away.or(clickhouse.kill)},
			fault{"clickhouse paused", 1, time.Second, 8 * time.Second, away.or(clickhouse.freeze)}),
		newLane(&in.cfg, "network", 500*time.Millisecond, 15*time.Second,
			fault{"connections cut", 3, 0, 3 * time.Second, in.cutLink},
			fault{"replies lost", 4, 300 * time.Millisecond, 3 * time.Second, in.loseReplies},
			fault{"requests lost", 2, 300 * time.Millisecond, 3 * time.Second, in.loseRequests},
			fault{"replies torn", 2, 300 * time.Millisecond, 3 * time.Second, in.tearReplies}),
	}
}

// server is a server that is killed and paused, and comes back as it was.
type server struct {
	*local.Server
	report *Report
}

func (s server) kill(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	if err := s.Kill(); err != nil {
		return err
	}
	s.report.killed(s.Part.String())
	pause(ctx, hold)
	return s.Restart(ctx)
}

func (s server) freeze(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	if err := s.Pause(); err != nil {
		return err
	}
	s.report.paused(s.Part.String())
	pause(ctx, hold)
	return s.Resume()
}

// outage takes ClickHouse away for long, once: the first fault of its lane after the time has come.
type outage struct {
	server
	from time.Time
	hold time.Duration
	over bool
}

// or does another fault, unless it is time for the outage.
func (o *outage) or(other func(context.Context, *rand.Rand, time.Duration) error) func(context.Context, *rand.Rand, time.Duration) error {
	return func(ctx context.Context, d *rand.Rand, hold time.Duration) error {
		if o.over || time.Now().Before(o.from) {
			return other(ctx, d, hold)
		}
		o.over = true
		o.report.count("clickhouse away for " + o.hold.Round(time.Second).String())
		return cmp.Or(o.kill(ctx, d, o.hold), errUncounted)
	}
}

// killService is kill -9 of one of the services; it stays down for a while.
func (in *installation) killService(_ context.Context, d *rand.Rand, hold time.Duration) error {
	return in.kill(in.services[d.IntN(len(in.services))], hold)
}

// killServices is a power cut: kill -9 of all services at once.
func (in *installation) killServices(_ context.Context, _ *rand.Rand, hold time.Duration) error {
	done := errUncounted
	for _, s := range in.services {
		switch err := in.kill(s, hold); {
		case err == nil:
			done = nil
		case !errors.Is(err, errUncounted):
			return err
		}
	}
	return done
}

func (in *installation) kill(s *service, down time.Duration) error {
	if err := s.kill(down); err != nil {
		return err
	}
	in.report.killed(s.name)
	return nil
}

func (in *installation) freezeService(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	s := in.services[d.IntN(len(in.services))]
	return s.freeze(ctx, hold, in.report)
}

// aLink draws one of the links between a client and a server.
func (in *installation) aLink(d *rand.Rand) *link { return in.links[d.IntN(len(in.links))] }

func (in *installation) cutLink(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	l := in.aLink(d)
	l.cut()
	pause(ctx, hold)
	return l.mend()
}

// loseReplies has requests arrive and be carried out, while nobody learns of it: after a while the connection ends.
func (in *installation) loseReplies(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	return in.aLink(d).spoil(ctx, "timeout", "downstream", "timeout", 100+d.Int64N(500), hold)
}

func (in *installation) loseRequests(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	return in.aLink(d).spoil(ctx, "timeout", "upstream", "timeout", 100+d.Int64N(500), hold)
}

// tearReplies ends each connection in the middle of a reply.
func (in *installation) tearReplies(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	return in.aLink(d).spoil(ctx, "limit_data", "downstream", "bytes", 10+d.Int64N(20_000), hold)
}
