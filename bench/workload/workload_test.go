package workload

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

func mustNew(t testing.TB, c Config) *Workload {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNumbersAreUniqueAndWellFormed(t *testing.T) {
	c := Default(7, 20_000)
	c.NumbersPerAccount = 10
	w := mustNew(t, c)
	seen := map[uint64]bool{}
	plans := map[uint32]string{}
	for a := range w.Accounts() {
		plans[a.Number] = a.Plan
	}
	tollFree := 0
	for n := range w.Numbers() {
		if seen[n.E164] {
			t.Fatalf("number %d is rented out twice", n.E164)
		}
		seen[n.E164] = true
		if isNANP(n.E164) == (plans[n.Account] == europe) {
			t.Fatalf("number %d of account %d does not fit plan %s", n.E164, n.Account, plans[n.Account])
		}
		if digits := len(strconv.FormatUint(n.E164, 10)); digits < 11 || digits > 13 {
			t.Fatalf("number %d has %d digits", n.E164, digits)
		}
		area, exchange := uint16(n.E164/10_000_000%1000), n.E164/10_000%1000
		if isNANP(n.E164) && (exchange < 200 || exchange%100 == 11) {
			t.Fatalf("number %d has exchange %d", n.E164, exchange)
		}
		if isNANP(n.E164) && slices.Contains(tollFreeCodes[:], area) {
			tollFree++
		}
	}
	if len(seen) != 200_000 {
		t.Fatalf("%d numbers, want 200000", len(seen))
	}
	near(t, "toll-free share", float64(tollFree)/200_000, 0.9*0.15, 0.01)
	d := newDice(1, 1)
	for range 100_000 {
		if n := w.unownedNumber(&d); seen[n] || !isNANP(n) {
			t.Fatalf("number %d is not unknown", n)
		}
	}
}

func TestAreaCodesAreDistinct(t *testing.T) {
	all := append(areaCodes[:], tollFreeCodes[:]...)
	slices.Sort(all)
	if len(slices.Compact(all)) != len(areaCodes)+len(tollFreeCodes) {
		t.Fatal("an area code is listed twice")
	}
}

func TestAccounts(t *testing.T) {
	w := mustNew(t, Default(7, 10_000))
	next, byHand, poor, share := FirstAccount, 0, 0, 0.0
	plans := map[string]int{}
	for a := range w.Accounts() {
		if a.Number != next {
			t.Fatalf("account %d, want %d", a.Number, next)
		}
		next++
		if _, err := time.LoadLocation(a.Zone); err != nil {
			t.Fatal(err)
		}
		if a.OpeningBalance.IsNegative() || a.Threshold.IsNegative() || a.Threshold.GreaterThan(a.RechargeTo) && !a.RechargeTo.IsZero() {
			t.Fatalf("account %+v", a)
		}
		if a.RechargeTo.IsZero() {
			byHand++
		}
		if a.OpeningBalance.LessThan(a.Threshold.Mul(decimal.RequireFromString("1.06"))) {
			poor++
		}
		plans[a.Plan]++
		share += a.TrafficShare
	}
	if next != FirstAccount+10_000 {
		t.Fatalf("%d accounts", next-FirstAccount)
	}
	near(t, "share without recharge", float64(byHand)/10_000, 0.2, 0.02)
	near(t, "share near the threshold", float64(poor)/10_000, 0.15, 0.02)
	near(t, "traffic shares", share, 1, 1e-6)
	near(t, "share of plan standard", float64(plans[standard])/10_000, 0.6, 0.02)
	near(t, "share of plan volume", float64(plans[volume])/10_000, 0.3, 0.02)
}

func TestWhaleShareHolds(t *testing.T) {
	for _, accounts := range []int{1, 2, 1000} {
		c := Default(3, accounts)
		c.WhaleShare = 0.08
		w := mustNew(t, c)
		want := 0.08
		if accounts == 1 {
			want = 1
		}
		drawn, d := 0, newDice(5, 5)
		for range 100_000 {
			if w.busy.draw(&d) == 0 {
				drawn++
			}
		}
		near(t, "whale's share", float64(drawn)/100_000, want, 0.005)
	}
}

// The sampler's columns must give back the weights that it was made of, to the last bit but rounding.
func TestSamplerKeepsWeights(t *testing.T) {
	for _, zipf := range []float64{0, 0.8, 1.1, 3} {
		c := Default(11, 5000)
		c.Zipf = zipf
		w := mustNew(t, c)
		got := make([]float64, len(w.weights))
		for i, column := range w.busy.columns {
			own := (float64(column.own) + 1) / (1 << 32)
			got[i] += own
			got[column.alias] += 1 - own
		}
		for i := range got {
			if math.Abs(got[i]-w.weights[i]) > 1e-4 {
				t.Fatalf("Zipf %v: account %d is drawn with weight %v, want %v", zipf, i, got[i], w.weights[i])
			}
		}
	}
}

func TestTariffs(t *testing.T) {
	c := Default(1, 10)
	c.DeckRows = 20_000
	w := mustNew(t, c)
	if len(w.Tariffs()) != 3 {
		t.Fatalf("%d tariffs", len(w.Tariffs()))
	}
	for i, tariff := range w.Tariffs() {
		if plan := w.Plans()[i]; plan.Tariff != tariff.Name || plan.Currency != tariff.Currency {
			t.Fatalf("plan %+v does not fit tariff %s in %s", plan, tariff.Name, tariff.Currency)
		}
		seen := map[string]bool{}
		for _, r := range tariff.Rows {
			if key := r.Service.String() + r.Prefix; seen[key] {
				t.Fatalf("tariff %s has two rows for %s", tariff.Name, key)
			} else {
				seen[key] = true
			}
			timed := r.InitialSeconds > 0 && r.IncrementSeconds > 0 && r.PerMinute.IsPositive() && r.PerSegment.IsZero()
			counted := r.InitialSeconds == 0 && r.PerMinute.IsZero() && r.Connect.IsZero() && r.Minimum.IsZero() && r.PerSegment.IsPositive()
			if r.Service.voice() != timed || r.Service.voice() == counted {
				t.Fatalf("tariff %s has row %+v", tariff.Name, r)
			}
		}
		if len(tariff.Rows) < 20_020 {
			t.Fatalf("tariff %s has %d rows", tariff.Name, len(tariff.Rows))
		}
	}
}

// rowOf finds the row with the longest prefix by looking at all of them.
func (t *Tariff) rowOf(service Service, number uint64) *Row {
	var best *Row
	for i := range t.Rows {
		r := &t.Rows[i]
		if r.Service == service && strings.HasPrefix(strconv.FormatUint(number, 10), r.Prefix) &&
			(best == nil || len(r.Prefix) > len(best.Prefix)) {
			best = r
		}
	}
	return best
}

// Exactly the records of kind NoPrice lack a row, on every plan.
func TestEveryPricedRecordHasARow(t *testing.T) {
	c := Default(9, 500)
	c.NoPriceShare = 0.01
	w := mustNew(t, c)
	plans := map[uint32]string{}
	for a := range w.Accounts() {
		plans[a.Number] = a.Plan
	}
	g := w.Generator(0)
	buffer := make([]byte, 0, 1024)
	for range 50_000 {
		_, info := g.Append(buffer, noonMs)
		if info.Account == 0 {
			continue
		}
		tariff := &w.tariffs[slices.Index([]string{standard, volume, europe}, plans[info.Account])]
		number := info.Number
		if !info.Service.inbound() {
			number = info.Peer
		}
		if row := tariff.rowOf(info.Service, number); (row == nil) != (info.Kind == NoPrice) {
			t.Fatalf("record %+v has row %+v in tariff %s", info, row, tariff.Name)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no accounts":        func(c *Config) { c.Accounts = 0 },
		"too many numbers":   func(c *Config) { c.Accounts, c.NumbersPerAccount = 1<<40, 1<<40 },
		"negative Zipf":      func(c *Config) { c.Zipf = -1 },
		"share above 1":      func(c *Config) { c.MessageShare = 1.1 },
		"share not a number": func(c *Config) { c.LateDayShare = math.NaN() },
		"refusals above 1":   func(c *Config) { c.MalformedShare, c.NoPriceShare = 0.6, 0.6 },
		"unknown format":     func(c *Config) { c.Format = 9 },
		"no reach":           func(c *Config) { c.DuplicateReach = 0 },
		"negative balance":   func(c *Config) { c.TypicalBalanceCents = -1 },
		"too many deck rows": func(c *Config) { c.DeckRows = exchangeCount + 1 },
	} {
		c := Default(1, 10)
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMomentOfDay(t *testing.T) {
	midnightMs := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC).UnixMilli()
	last := MomentOfDay(midnightMs, 0)
	if last != midnightMs || MomentOfDay(midnightMs, 1) != midnightMs+24*hourMs {
		t.Fatal("a day does not begin or end at midnight")
	}
	byHour := [24]int{}
	for i := range 100_000 {
		at := MomentOfDay(midnightMs, (float64(i)+0.5)/100_000)
		if at < last {
			t.Fatal("time goes back")
		}
		last = at
		byHour[(at-midnightMs)/hourMs]++
	}
	near(t, "share of the eleventh hour", float64(byHour[10])/100_000, 0.0893, 0.001)
	near(t, "share of the fifth hour", float64(byHour[4])/100_000, 0.0004, 0.0001)
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v ± %v", what, got, want, tolerance)
	}
}
