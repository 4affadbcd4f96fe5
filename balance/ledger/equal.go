package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/tollgate/tollgate/rater/entry"
)

// Equal compares two states and names the first difference in the order of their keys, "" if there is none. It is for
// tests, for the simulator and for verify.
func Equal(a, b *Shard) (difference string) {
	type scalar struct {
		name string
		a, b any
	}
	for _, v := range []scalar{
		{"version", a.Version, b.Version}, {"params", a.Params, b.Params}, {"wm", a.WM, b.WM}, {"now", a.NowMs, b.NowMs},
		{"generation", a.Generation, b.Generation}, {"generation start", a.GenerationStartMs, b.GenerationStartMs},
		{"covered since", a.CoveredSinceMs, b.CoveredSinceMs},
	} {
		if v.a != v.b {
			return fmt.Sprintf("%s: %v and %v", v.name, v.a, v.b)
		}
	}
	ids := func(x, y uint64) int { return cmp.Compare(x, y) }
	return cmp.Or(
		differ("source", a.Sources, b.Sources, compareSources),
		differ("closed day of zone", a.Closed, b.Closed, cmp.Compare[uint32]),
		differ("account", accountValues(a), accountValues(b), cmp.Compare[uint32]),
		differ("result", a.Results, b.Results, ids),
		differLists("order of results", a.ResultOrder, b.ResultOrder),
		differ("current id", members(&a.Current), members(&b.Current), ids),
		differ("previous id", members(&a.Previous), members(&b.Previous), ids),
	)
}

// members gives a set as a map.
func members(s *IDs) map[uint64]struct{} {
	ids := make(map[uint64]struct{}, s.Len())
	for id := range s.All() {
		ids[id] = struct{}{}
	}
	return ids
}

// accountValues gives the accounts by value; an empty list of tokens is none.
func accountValues(s *Shard) map[uint32]Account {
	values := make(map[uint32]Account, len(s.Accounts))
	for number, a := range s.Accounts {
		v := *a
		if len(v.Tokens) == 0 {
			v.Tokens = nil
		}
		values[number] = v
	}
	return values
}

func differ[K comparable, V any](what string, a, b map[K]V, compare func(K, K) int) string {
	if len(a) == len(b) && reflect.DeepEqual(a, b) {
		return ""
	}
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.SortedFunc(maps.Keys(keys), compare) {
		x, inA := a[k]
		y, inB := b[k]
		switch {
		case !inB:
			return fmt.Sprintf("%s %v: %+v and nothing", what, name(k), x)
		case !inA:
			return fmt.Sprintf("%s %v: nothing and %+v", what, name(k), y)
		case !reflect.DeepEqual(x, y):
			return fmt.Sprintf("%s %v: %+v and %+v", what, name(k), x, y)
		}
	}
	return ""
}

func differLists(what string, a, b []uint64) string {
	if slices.Equal(a, b) {
		return ""
	}
	return fmt.Sprintf("%s: %x and %x", what, a, b)
}

// name shows a key as logs and tables do.
func name(key any) any {
	switch k := key.(type) {
	case entry.Source:
		return fmt.Sprintf("%x/%d", k.TopicID, k.Partition)
	case uint64:
		return fmt.Sprintf("%x", k)
	}
	return key
}
