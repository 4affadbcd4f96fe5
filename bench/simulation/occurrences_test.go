package simulation

import (
	"slices"
	"testing"
)

// occurrences are what the simulation claims to meet, and from how many seeds on each must have occurred: a simulator that
// has gone blind to something would pass otherwise. In each of twelve windows of fewSeeds seeds, what is due from there on
// occurred twelve times or more; the others occurred more than ten times in what is due for them.
var occurrences = map[int][]string{
	fewSeeds: {
		"API key for another body", "API repeat", "API: answered", "API: key used before", "API: no answer in time", "GAP", "HALT by hand",
		"TRIMMED", "UNINIT", "UNINIT for half a call", "VERSION", "account applied", "account becomes low", "account becomes suspended",
		"account is funded again", "account is low", "account is restored", "account is suspended", "account repeated", "adjustment applied",
		"adjustment duplicate", "api", "append times step back", "batch cut short by the limits of a fetch", "book *book.ActivateTariff",
		"book *book.AddRows", "book *book.AssignNumber", "book *book.ChangePlan", "book *book.ChangeZone", "book *book.CloseDay",
		"book *book.OpenAccount", "book *book.RaiseFold", "book *book.ReleaseNumber", "book *book.Replay", "book *book.SetFormat",
		"book *book.SetParam", "book cut", "broker clock", "build changed", "build rolled back", "call lost", "call of a zombie",
		"call: its caller dies after it", "call: its caller dies before it", "carrier's copy", "carrier's topic is another one",
		"chain of chunks broken", "change", "change refused", "change sent again", "charge wants the customer",
		"charged on a later statement, its day is closed", "clickhouse flips", "close applied", "close repeated", "commit fenced",
		"corrupt batch", "crash", "credit applied", "credit duplicate", "credit expired", "credit refused", "decline captured later",
		"event told again", "failover while loading", "fold-version applied", "gateway flips", "half a call back", "half a call came back",
		"hours in which nobody does anything", "idempotency key hit", "insert while ClickHouse is away", "intent given up", "intent opened",
		"late batch arrives", "late charge request", "late gateway result", "late produce", "log cut", "logs cut",
		"look-up while the gateway is away", "member of the generation before dies", "member of the generation before ends",
		"newer build starts", "number applied", "number repeated", "old master is the master again", "old master promoted",
		"old master read-only", "operator restarts", "param applied", "param repeated", "partition without leader", "payment applied",
		"payment unmatched", "payment-failed applied", "payment-failed unmatched", "position outside of carrier-a",
		"position outside of carrier-b", "postings appended again", "process clock", "process crash", "process stopped", "rebalance",
		"redis failover", "redis lost", "redis refuses writes", "rejected rejected", "rejected repeated", "rejected: no-price",
		"rejected: too-far-ahead", "rejected: undecodable", "rejected: unknown-number", "release charged", "release duplicate", "release late",
		"replay asked for", "replay charged", "replay late", "reply lost", "row inserted again", "script of a zombie",
		"script on an old master", "scripts lost in a failover", "settings applied", "settings duplicate", "shard halted by hand",
		"shard loaded", "shard resumed by hand", "shard wiped", "stage stopped", "tariff without a chunk", "task sleeps", "time jumps",
		"topic made anew", "two loops over the same shards", "usage charged", "usage duplicate", "usage late", "usage repeated",
		"wake applied", "write refused", "zombie", "zone applied",
	},
	someSeeds: {
		"API: accepted, outcome not kept", "adjustment expired", "compressed logs", "fold-version repeated", "position outside of book",
		"position outside of entries", "position outside of postings", "replay duplicate", "replay repeated", "settings expired",
		"zone repeated",
	},
	manySeeds: {
		"position outside of book-images", "position outside of snapshots",
	},
}

const (
	fewSeeds  = 200 // what a plain run of the tests plays
	someSeeds = 2000
	manySeeds = 10_000
)

// missing lists what should have occurred in so many seeds, and did not.
func missing(seeds int, counts map[string]int) (names []string) {
	for from, kinds := range occurrences {
		for _, kind := range kinds {
			if seeds >= from && counts[kind] == 0 {
				names = append(names, kind)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Every kind of fault that can be left out must occur in a plain run, and nothing stands in the list twice.
func TestOccurrences(t *testing.T) {
	listed := map[string]bool{}
	for _, kinds := range occurrences {
		for _, kind := range kinds {
			if listed[kind] {
				t.Errorf("%q is listed twice", kind)
			}
			listed[kind] = true
		}
	}
	for _, kind := range Kinds {
		if !slices.Contains(occurrences[fewSeeds], kind) {
			t.Errorf("nothing demands that %q occurs", kind)
		}
	}
	if names := missing(fewSeeds, nil); len(names) != len(occurrences[fewSeeds]) || len(missing(fewSeeds-1, nil)) > 0 {
		t.Errorf("of nothing, only %q are missing", names)
	}
}
