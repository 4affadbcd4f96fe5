package book

import (
	"fmt"
	"time"

	"github.com/tollgate/tollgate/rater/price"
)

// oracle decides about records by scanning lists, and shares no code with the Builder. It knows the rules of the
// protocol for whatever the generator of model_test.go makes.
type oracle struct {
	opened   bool
	frontier int64
	seen     map[string]bool
	next     uint32
	accounts map[uint32]*oracleAccount
	owners   map[string][]dated
	tariffs  map[string][]dated         // value: number of the version
	pending  map[string]map[uint32]bool // chunks by tariff/revision
	done     map[string]bool
	versions map[int]string // tariff/revision by number
	plans    map[string]string
	formats  map[string][]dated // value: the format's version
	zones    []string
	closed   map[string]string
	fold     int64
}

type oracleAccount struct {
	currency     string
	plans, zones []namedFrom
}

type dated struct {
	from  int64
	value int
}

type namedFrom struct {
	from int64
	name string
}

func newOracle() *oracle {
	return &oracle{frontier: -1 << 62, seen: map[string]bool{}, next: 1, accounts: map[uint32]*oracleAccount{}, owners: map[string][]dated{},
		tariffs: map[string][]dated{}, pending: map[string]map[uint32]bool{}, done: map[string]bool{}, versions: map[int]string{},
		plans: map[string]string{}, formats: map[string][]dated{}, zones: []string{"UTC"}, closed: map[string]string{}, fold: 1}
}

// inForce scans for the greatest time not after t, the last of equals.
func inForce(list []dated, t int64) (value int, ok bool) {
	var best int64
	for _, c := range list {
		if c.from <= t && (!ok || c.from >= best) {
			best, value, ok = c.from, c.value, true
		}
	}
	return value, ok
}

func inForceName(list []namedFrom, t int64) (name string) {
	best, ok := int64(0), false
	for _, c := range list {
		if c.from <= t && (!ok || c.from >= best) {
			best, name, ok = c.from, c.name, true
		}
	}
	return name
}

const oracleAlways = -1 << 63

func (o *oracle) when(wish time.Time) int64 {
	w := int64(oracleAlways)
	if !wish.IsZero() {
		w = wish.UnixMilli()
	}
	if o.opened {
		w = max(w, o.frontier+1)
	}
	return w
}

// apply gives what the Decision must be; effective only where the record is a dated change.
func (o *oracle) apply(appendMs int64, r Record) (accepted bool, effective int64, account uint32) {
	o.frontier = max(o.frontier, appendMs)
	if _, ok := r.(*Heartbeat); ok {
		return true, o.frontier, 0
	}
	if o.seen[r.header().ID] {
		return false, 0, 0
	}
	o.seen[r.header().ID] = true
	effective = o.frontier
	switch r := r.(type) {
	case *Open:
		accepted, o.opened = !o.opened, true
	case *OpenAccount:
		account, accepted = o.openAccount(r)
	case *ChangePlan:
		account = r.Account
		a := o.accounts[r.Account]
		if accepted = a != nil && o.plans[r.Plan] == a.currency && a.currency != ""; accepted {
			effective = o.when(r.From)
			a.plans = append(a.plans, namedFrom{effective, r.Plan})
		}
	case *ChangeZone:
		account = r.Account
		a := o.accounts[r.Account]
		if accepted = a != nil && a.zones[len(a.zones)-1].name != r.Zone; accepted {
			last := a.zones[len(a.zones)-1]
			effective = max(midnightAfter(last.name, o.frontier), last.from)
			a.zones = append(a.zones, namedFrom{effective, r.Zone})
			o.use(r.Zone)
		}
	case *AssignNumber:
		account, effective = r.Account, o.when(r.From)
		l := o.owners[r.Number]
		free := len(l) == 0 || l[len(l)-1].value == 0 && l[len(l)-1].from <= effective
		if accepted = free && o.accounts[r.Account] != nil; accepted {
			o.owners[r.Number] = append(l, dated{effective, int(r.Account)})
		}
	case *ReleaseNumber:
		l := o.owners[r.Number]
		accepted = len(l) > 0 && l[len(l)-1].value != 0 && (r.Account == 0 || l[len(l)-1].value == int(r.Account))
		if accepted {
			account, effective = uint32(l[len(l)-1].value), max(o.when(r.From), l[len(l)-1].from)
			o.owners[r.Number] = append(l, dated{effective, 0})
		}
	default:
		accepted, effective = o.applyRest(r)
	}
	if !accepted {
		return false, 0, 0
	}
	return true, effective, account
}

func (o *oracle) openAccount(r *OpenAccount) (uint32, bool) {
	account := r.Account
	for account == 0 {
		if o.accounts[o.next] == nil {
			account = o.next
		} else {
			o.next++
		}
	}
	if o.accounts[account] != nil || o.plans[r.Plan] == "" || o.plans[r.Plan] != r.Currency {
		return 0, false
	}
	o.accounts[account] = &oracleAccount{r.Currency, []namedFrom{{oracleAlways, r.Plan}}, []namedFrom{{oracleAlways, r.Zone}}}
	o.use(r.Zone)
	return account, true
}

func (o *oracle) use(zone string) {
	for _, z := range o.zones {
		if z == zone {
			return
		}
	}
	o.zones = append(o.zones, zone)
}

func (o *oracle) applyRest(r Record) (accepted bool, effective int64) {
	effective = o.frontier
	switch r := r.(type) {
	case *AddPlan:
		accepted = o.plans[r.Plan] == "" && len(o.tariffs[r.Tariff]) > 0 && r.Tariff[:3] == r.Currency
		if accepted {
			o.plans[r.Plan] = r.Currency
		}
	case *AddRows:
		key := r.Tariff + "/" + r.Revision
		if accepted = !o.pending[key][r.Chunk] && !o.done[key]; accepted {
			if o.pending[key] == nil {
				o.pending[key] = map[uint32]bool{}
			}
			o.pending[key][r.Chunk] = true
		}
	case *ActivateTariff:
		key := r.Tariff + "/" + r.Revision
		accepted = len(o.pending[key]) == int(r.Chunks)
		for c := range r.Chunks {
			accepted = accepted && o.pending[key][c]
		}
		if accepted = accepted && !o.done[key]; accepted {
			o.done[key] = true
			effective = o.when(r.From)
			o.versions[len(o.versions)+1] = key
			o.tariffs[r.Tariff] = append(o.tariffs[r.Tariff], dated{effective, len(o.versions)})
		}
	case *SetFormat:
		accepted, effective = true, o.when(r.From)
		o.formats[r.Topic] = append(o.formats[r.Topic], dated{effective, int(r.FormatVersion)})
	case *CloseDay:
		known := false
		for _, z := range o.zones {
			known = known || z == r.Zone
		}
		if accepted = known && r.Day > o.closed[r.Zone] && r.Day < dayText(r.Zone, o.frontier); accepted {
			o.closed[r.Zone] = r.Day
		}
	case *SetParam:
		accepted = true
	case *RaiseFold:
		if accepted = r.FoldVersion > o.fold; accepted {
			o.fold = r.FoldVersion
		}
	}
	return accepted, effective
}

// row gives the price row that the account's service has at t, as "tariff/revision", by the generator's habit of one
// row per service and chunk whose prefix is the chunk's number.
func (o *oracle) row(account uint32, service price.Service, digits string, t int64, plans map[string]string) (version int, row int, ok bool) {
	tariff := plans[inForceName(o.accounts[account].plans, t)]
	version, ok = inForce(o.tariffs[tariff], t)
	if !ok || service != price.VoiceIn {
		return version, 0, false
	}
	for chunk := range o.pending[o.versions[version]] { // chunk 0 has no prefix, chunk n has the prefix n
		if prefix := fmt.Sprint(chunk); chunk > 0 && len(digits) > 0 && digits[:1] == prefix {
			return version, int(chunk), true
		}
	}
	return version, 0, true
}

func dayText(zone string, ms int64) string {
	location, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	return time.UnixMilli(ms).In(location).Format(time.DateOnly)
}

// midnightAfter steps through time by the minute; the zones of the generator change offset at whole minutes.
func midnightAfter(zone string, ms int64) int64 {
	today := dayText(zone, ms)
	minute := ms - ms%60_000
	for minute <= ms || dayText(zone, minute) <= today {
		minute += 60_000
	}
	return minute
}
