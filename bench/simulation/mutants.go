package simulation

import (
	"context"
	"errors"

	"github.com/tollgate/tollgate/balance/audit"
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// Mutant is one mechanism taken away: the simulation must notice.
type Mutant struct {
	// What says what is taken away.
	What     string
	mutation mutation
}

// mutation is how a mutant changes the fakes, or what lies between them and the loops. The zero mutation changes nothing.
type mutation struct {
	anyBody, answerEarly, tornUnseen, noGap, anyVersion, noJournal, trimEarly, trimLie, torn, startAtWM, noProbe, noWipe, noChain, earlyImage bool
	committedByName, trackServed, noLookUp, lateCharge, noReconciler, blindLookUp, insertUnheard                                              bool

	fold   func(*world, foldStep) []byte
	write  func(t *task, topic string, value []byte) []byte
	send   func(context.Context, *writer) (done bool, err error)
	charge func(*world, *recharge.Request)
	books  func(*follower) rater.Books
	decide func(*operators, []book.Record) []book.Record
}

// foldStep is one block that a mutant folds.
type foldStep struct {
	state                    *ledger.Shard
	offset, appendMs, lastMs int64
	block                    *entry.Block
	shard                    int32
	by                       build
}

// refuses gives what a script says that was to fold a block.
func (m *mutation) refuses(err error) error {
	if errors.Is(err, ledger.ErrVersion) && m.anyVersion || errors.Is(err, ledger.ErrMissing) && m.fold != nil {
		return nil
	}
	return err
}

// shipped is the offset up to which a call trims the journal.
func (m *mutation) shipped(c *lua.Call, s *redisState) int64 {
	switch {
	case m.trimEarly:
		return s.wm
	case m.trimLie:
		return c.To
	}
	return c.ShippedTo
}

// earlyImages finds images that are ahead of the postings.
type earlyImages struct {
	t         *task
	snapshots *audit.Snapshots
}

// Newest gives the state at the end of the log.
func (e earlyImages) Newest(ctx context.Context, shard int32) (*ledger.Shard, error) {
	state, err := e.snapshots.Newest(ctx, shard)
	if err != nil || state == nil {
		return state, err
	}
	return e.t.w.truth(shard, e.t.w.log("entries", shard).end-1).state, nil
}
