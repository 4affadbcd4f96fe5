package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tollgate/tollgate/deploy/local"
)

// pair is two Redis servers: a master that the services are led to, and a replica of it. Either may become the other.
type pair struct {
	servers     [2]*local.Server
	addresses   [2]string
	master      int
	clients     []*link // of the services to the master
	replication *link   // of the replica to the master
	report      *Report
}

const (
	syncWithin = 10 * time.Minute // for a replica to have all of its master's data
	syncPoll   = 50 * time.Millisecond
	aofLeast   = 20_000 // bytes that a cut takes off the append-only file, at least and at most: of some milliseconds
	aofMost    = 1_000_000
	lagLeast   = 100 * time.Millisecond // how long a replica that is promoted has received nothing
	lagMost    = 3 * time.Second
)

func (p *pair) current() *local.Server { return p.servers[p.master] }
func (p *pair) other() *local.Server   { return p.servers[1-p.master] }

// faults are what can befall them.
func (p *pair) faults() []fault {
	faults := []fault{
		{"redis killed", 4, 0, time.Second, p.kill},
		{"redis append-only file cut", 3, 0, 100 * time.Millisecond, p.cutAOF},
		{"redis replica killed", 1, 0, time.Second, p.killReplica},
		{"redis paused", 1, time.Second, 4 * time.Second, p.freeze},
		{"redis emptied", 1, 0, time.Second, p.empty},
		{"lagging replica promoted, master dead", 2, 0, 2 * time.Second, p.failOver},
		{"lagging replica promoted, two masters at once", 1, time.Second, 4 * time.Second, p.splitBrain},
		{"old master promoted again", 1, time.Second, 4 * time.Second, p.returnOld},
	}
	if p.servers[0].OwnDisk() && p.servers[1].OwnDisk() {
		faults = append(faults, fault{"redis disk full", 1, 2 * time.Second, 5 * time.Second, p.fillDisk})
	}
	return faults
}

// start starts a server again. One that refuses its own append-only file is started without it, as the runbook says.
func (p *pair) start(ctx context.Context, s *local.Server) error {
	err := s.Restart(ctx)
	if !local.BrokenAOF(err) {
		return err
	}
	p.report.count("redis refused its own file, and lost it")
	if err := s.DropAOF(); err != nil {
		return err
	}
	return s.Restart(ctx)
}

func (p *pair) kill(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	if err := p.current().Kill(); err != nil {
		return err
	}
	p.report.killed("redis")
	pause(ctx, hold)
	return p.start(ctx, p.current())
}

func (p *pair) killReplica(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	if err := p.other().Kill(); err != nil {
		return err
	}
	p.report.killed("redis replica")
	pause(ctx, hold)
	return p.start(ctx, p.other())
}

// cutAOF is a power loss: kill -9 alone loses nothing, since the operating system keeps what it was given.
func (p *pair) cutAOF(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	if err := p.current().Kill(); err != nil {
		return err
	}
	p.report.killed("redis")
	if _, err := p.current().CutAOF(aofLeast + d.Int64N(aofMost-aofLeast)); err != nil {
		return err
	}
	pause(ctx, hold)
	return p.start(ctx, p.current())
}

func (p *pair) freeze(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	p.report.paused("redis")
	if err := p.current().Pause(); err != nil {
		return err
	}
	pause(ctx, hold)
	return p.current().Resume()
}

// empty takes everything: by a command that the replica follows, or with the machine.
func (p *pair) empty(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	if d.IntN(2) == 0 {
		return p.current().Empty(ctx)
	}
	if err := p.current().Kill(); err != nil {
		return err
	}
	p.report.killed("redis")
	if err := p.current().DropAOF(); err != nil {
		return err
	}
	pause(ctx, hold)
	return p.start(ctx, p.current())
}

func (p *pair) fillDisk(ctx context.Context, _ *rand.Rand, hold time.Duration) error {
	if err := p.current().FillDisk(); err != nil {
		return err
	}
	pause(ctx, hold)
	return p.current().FreeDisk()
}

// failOver kills the master and promotes a replica that lags behind it.
func (p *pair) failOver(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	if err := p.lag(ctx, d); err != nil {
		return err
	}
	if err := p.current().Kill(); err != nil {
		return err
	}
	p.report.killed("redis")
	if err := p.promote(ctx, p.clients); err != nil {
		return err
	}
	pause(ctx, hold)
	if err := p.start(ctx, p.other()); err != nil {
		return err
	}
	return p.rejoin(ctx)
}

// splitBrain promotes a replica that lags, and for a while only one of the services knows: both masters are written to.
func (p *pair) splitBrain(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	if err := p.lag(ctx, d); err != nil {
		return err
	}
	first := d.IntN(len(p.clients))
	if err := p.promote(ctx, p.clients[first:first+1]); err != nil {
		return err
	}
	pause(ctx, hold)
	if err := p.lead(p.clients); err != nil {
		return err
	}
	return p.rejoin(ctx)
}

// returnOld promotes a replica that lags, and after a while the old master again, which nobody had told: all that was
// written in between is lost, and what is there is of long ago.
func (p *pair) returnOld(ctx context.Context, d *rand.Rand, hold time.Duration) error {
	if err := p.lag(ctx, d); err != nil {
		return err
	}
	if err := p.promote(ctx, p.clients); err != nil {
		return err
	}
	pause(ctx, hold)
	p.master = 1 - p.master
	p.report.failedOver()
	if err := p.lead(p.clients); err != nil {
		return err
	}
	return p.rejoin(ctx)
}

// lag waits until the replica has everything, and then lets it receive nothing for a while.
func (p *pair) lag(ctx context.Context, d *rand.Rand) error {
	if err := p.synced(ctx); err != nil {
		return err
	}
	p.replication.cut()
	pause(ctx, between(d, lagLeast, lagMost))
	return nil
}

// promote makes the replica the master, and leads the given services to it.
func (p *pair) promote(ctx context.Context, clients []*link) error {
	if err := p.other().Promote(ctx); err != nil {
		return err
	}
	p.master = 1 - p.master
	p.report.failedOver()
	return p.lead(clients)
}

func (p *pair) lead(clients []*link) error {
	for _, c := range clients {
		if err := c.lead(p.addresses[p.master]); err != nil {
			return err
		}
	}
	return nil
}

// rejoin makes the server that is no master a replica of the other.
func (p *pair) rejoin(ctx context.Context) error {
	if err := p.replication.lead(p.addresses[p.master]); err != nil {
		return err
	}
	return p.other().Follow(ctx, p.replication.address())
}

// synced waits until the replica has all that the master has.
func (p *pair) synced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	for {
		following, err := p.other().Following(ctx)
		if following {
			return nil
		}
		if !pause(ctx, syncPoll) {
			return fmt.Errorf("%s does not follow %s: not linked within %s, last error %w", p.other().Part, p.current().Part, syncWithin, err)
		}
	}
}
