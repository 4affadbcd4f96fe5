package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// errUncounted is what a strike gives that did nothing, because what it was meant for was down already, or that has counted
// itself under another name.
var errUncounted = errors.New("nothing to count")

// fault is one kind of mischief.
type fault struct {
	// name is how the report counts it.
	name string
	// cards is how often it is in the deck of its lane.
	cards int
	// least and most bound how long it lasts.
	least, most time.Duration
	// strike does it, holds it for so long, and undoes it. It returns early when ctx ends, but never leaves it undone.
	strike func(ctx context.Context, d *rand.Rand, hold time.Duration) error
}

// lane deals the faults of what can only bear one at a time: a server, or the network. Lanes know nothing of each other,
// so their faults overlap as it comes.
type lane struct {
	name string
	// least and most bound the calm between two faults.
	least, most time.Duration
	faults      []fault
	dice        *rand.Rand
	deck        []int // indexes of faults that are still to come before the deck is shuffled anew
}

func newLane(cfg *Config, name string, least, most time.Duration, faults ...fault) *lane {
	salt := uint64(0)
	for _, c := range name {
		salt = salt*131 + uint64(c)
	}
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) * cfg.Calm) }
	return &lane{name: name, least: scaled(least), most: scaled(most), faults: faults, dice: rand.New(rand.NewPCG(cfg.Seed, salt))}
}

// next deals a fault: every card of the deck once before any comes again, so that short runs see every kind too.
func (l *lane) next() *fault {
	if len(l.deck) == 0 {
		for i := range l.faults {
			for range l.faults[i].cards {
				l.deck = append(l.deck, i)
			}
		}
		l.dice.Shuffle(len(l.deck), func(i, j int) { l.deck[i], l.deck[j] = l.deck[j], l.deck[i] })
	}
	i := l.deck[len(l.deck)-1]
	l.deck = l.deck[:len(l.deck)-1]
	return &l.faults[i]
}

// between draws a duration.
func between(d *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)+1))
}

// calm draws the pause before the next fault: mostly a short one, so that faults come into recovery from the one before,
// and now and then a long one, in which records flow. The mean is a quarter of the way from least to most.
func (l *lane) calm() time.Duration {
	u := l.dice.Float64()
	return l.least + time.Duration(u*u*u*float64(l.most-l.least))
}

// run strikes until timed ends. What was begun is undone under ctx, which lives longer.
func (l *lane) run(ctx, timed context.Context, report *Report) error {
	for pause(timed, l.calm()) {
		f := l.next()
		switch err := f.strike(ctx, l.dice, between(l.dice, f.least, f.most)); {
		case err == nil:
			report.count(f.name)
		case !errors.Is(err, errUncounted):
			return fmt.Errorf("%s, %s: %w", l.name, f.name, err)
		}
	}
	return nil
}
