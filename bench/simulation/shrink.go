package simulation

import "slices"

// Kinds are the kinds of faults and doings that Options.Without can leave out.
var Kinds = []string{
	"crash", "call lost", "reply lost", "late produce", "zombie", "partition without leader", "redis failover", "failover while loading", "old master promoted",
	"redis lost", "half a call back", "rebalance", "clickhouse flips", "gateway flips", "process crash", "build changed", "broker clock", "process clock", "logs cut",
	"topic made anew", "redis refuses writes", "shard halted by hand", "corrupt batch", "operator restarts", "task sleeps", "process stopped", "stage stopped", "time jumps", "carrier's copy", "api", "change",
}

// Shrink finds options under which the seed still violates the same invariant, with fewer kinds of faults and fewer
// messages. What is left out was drawn all the same, so that the rest stays as it was for as long as possible.
func Shrink(o Options, shared *Shared) (Options, Result) {
	best := Run(o, shared)
	if len(best.Violations) == 0 {
		return o, best
	}
	invariant := best.Violations[0].Invariant
	try := func(smaller Options) bool {
		r := Run(smaller, shared)
		if !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Invariant == invariant }) {
			return false
		}
		o, best = smaller, r
		return true
	}
	for _, kind := range Kinds {
		smaller := o
		smaller.Without = append(slices.Clone(o.Without), kind)
		try(smaller)
	}
	for cut := best.Messages / 2; cut > 0; cut /= 2 {
		smaller := o
		if smaller.Records = best.Messages - cut; smaller.Records < 1 || !try(smaller) {
			continue
		}
	}
	return o, best
}
