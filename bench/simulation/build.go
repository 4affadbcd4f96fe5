package simulation

import (
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// build is a build of tollgate, by the newest version of the fold that it knows. The product has one version so far; here
// the newer build has another, so that raising it can be simulated: in version 2, the outcome of an entry that was not
// applied says nothing of the account's levels.
type build int64

const (
	olderBuild build = 1
	newerBuild build = 2
)

// Check tells whether the build may fold the block.
func (b build) Check(s *ledger.Shard, block *entry.Block) error { return s.CheckFor(int64(b), block) }

// Fold folds a block, with what the build knows of the shard's version.
func (b build) Fold(s *ledger.Shard, offset, appendMs int64, block *entry.Block, outcomes []posting.Outcome) []posting.Outcome {
	version := build(s.Version)
	outcomes = s.Fold(offset, appendMs, block, outcomes)
	for i := range outcomes {
		o := &outcomes[i]
		if block.Kind[i] == entry.FoldVersion && o.Result == posting.Applied {
			version = max(version, build(block.Args(i)[0]))
		}
		if notApplied(o.Result) && min(b, version) >= newerBuild {
			o.Flags = 0
		}
	}
	return outcomes
}

// notApplied tells whether a result is that of an entry which was not applied, whatever its account.
func notApplied(r posting.Result) bool {
	switch r {
	case posting.Repeated, posting.Duplicate, posting.Rejected, posting.Late, posting.Expired:
		return true
	}
	return false
}

// upgrade starts a process anew with the other build: mostly the newer one, now and then the older one again. What it did
// until then may go on for a while, in the build that it has.
func (w *world) upgrade(f *follower) {
	switch {
	case f.build == olderBuild:
		f.build = newerBuild
		w.count("newer build starts")
	case w.r.IntN(4) == 0:
		f.build = olderBuild
		w.count("build rolled back")
	default:
		return
	}
	for _, t := range w.tasks {
		if t.carrier == f && t != f.t && t.zombie == 0 && w.r.IntN(3) == 0 {
			w.linger(t)
		}
	}
	w.restart(f)
}

// allNewer tells whether every process has the newer build.
func (w *world) allNewer() bool {
	for _, f := range w.followers {
		if f.build != newerBuild {
			return false
		}
	}
	return true
}
