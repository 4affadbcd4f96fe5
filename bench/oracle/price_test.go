package oracle

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// row makes a row of a voice tariff.
func row(t rapid.TB, rate string, perSeconds, initial, increment int64, connect, minimum string) *rateRow {
	t.Helper()
	r := &rateRow{perSeconds: perSeconds, initial: initial, increment: increment, segment: new(big.Rat)}
	r.rate, r.connect, r.minimum = decimal(t, rate), decimal(t, connect), decimal(t, minimum)
	return r
}

func decimal(t rapid.TB, text string) *big.Rat {
	t.Helper()
	amount, err := parseMoney(text)
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

// TestPricesComputedByHand holds the prices to what the decks of carriers say, worked out with pencil and paper.
func TestPricesComputedByHand(t *testing.T) {
	for _, c := range []struct {
		name     string
		row      *rateRow
		currency string
		seconds  uint32
		billed   uint32
		cost     string
	}{
		{"60/60, a second into the second minute: 2 × 0.0085", row(t, "0.0085", 60, 60, 60, "", ""), "USD", 61, 120, "0.01700000"},
		{"60/60, a full minute", row(t, "0.0085", 60, 60, 60, "", ""), "USD", 60, 60, "0.00850000"},
		{"60/60, a second is a minute", row(t, "0.0085", 60, 60, 60, "", ""), "USD", 1, 60, "0.00850000"},
		{"30/6: 30 and 6 × 6 is 66 s; 66/60 × 0.25 + 0.02", row(t, "0.25", 60, 30, 6, "0.02", ""), "USD", 61, 66, "0.29500000"},
		{"30/6, the first 30 s", row(t, "0.25", 60, 30, 6, "", ""), "USD", 12, 30, "0.12500000"},
		{"6/6, 13 s is 18 s; 18/60 × 0.0040", row(t, "0.0040", 60, 6, 6, "", ""), "USD", 13, 18, "0.00120000"},
		{"1/1, a third of a cent's hundredth: 1/60 × 0.01 = 0.000166…", row(t, "0.01", 60, 1, 1, "", ""), "USD", 1, 1, "0.00016667"},
		{"1/1, 2/60 × 0.01 = 0.000333…", row(t, "0.01", 60, 1, 1, "", ""), "USD", 2, 2, "0.00033333"},
		{"60/1, 61 s; 61/60 × 0.0980 = 0.0996333…", row(t, "0.0980", 60, 60, 1, "", ""), "USD", 61, 61, "0.09963333"},
		{"half a unit goes away from zero", row(t, "0.00000001", 2, 1, 1, "", ""), "USD", 1, 1, "0.00000001"},
		{"one and a half units are two", row(t, "0.00000001", 2, 1, 1, "", ""), "USD", 3, 3, "0.00000002"},
		{"less than half a unit is nothing", row(t, "0.00000001", 3, 1, 1, "", ""), "USD", 1, 1, "0.00000000"},
		{"fee and rate are rounded once, together: 0.4 + 0.4 units", row(t, "0.00000002", 5, 1, 1, "0.000000004", ""), "USD", 1, 1, "0.00000001"},
		{"the least charge: 6 × 0.0145/60 is below it", row(t, "0.0145", 60, 1, 1, "", "0.0150"), "USD", 6, 6, "0.01500000"},
		{"the least charge is no more than that: 90/60 × 0.0145", row(t, "0.0145", 60, 1, 1, "", "0.0150"), "USD", 90, 90, "0.02175000"},
		{"no answer, no fee", row(t, "0.25", 60, 30, 6, "0.02", "0.05"), "USD", 0, 0, "0.00000000"},
		{"yen: 7/60 = 0.1166…", row(t, "1", 60, 1, 1, "", ""), "JPY", 7, 7, "0.116667"},
		{"dinars: 7/60 × 0.1 = 0.01166…", row(t, "0.1", 60, 1, 1, "", ""), "KWD", 7, 7, "0.011666667"},
	} {
		cost, billed := c.row.charge(voiceIn, c.seconds)
		if got := formatUnits(toUnits(cost, c.currency), c.currency); got != c.cost || billed != c.billed {
			t.Errorf("%s: %d s cost %s for %d s, want %s for %d s", c.name, c.seconds, got, billed, c.cost, c.billed)
		}
	}
	message := &rateRow{segment: decimal(t, "0.0079")}
	if cost, segments := message.charge(messageOut, 3); formatUnits(toUnits(cost, "USD"), "USD") != "0.02370000" || segments != 3 {
		t.Errorf("3 segments cost %s", cost)
	}
}

// TestPriceCountsSteps holds the billed seconds to a count step by step, and the price to whole numbers: twice the price
// in units, times the seconds of the rate, lies within those seconds of twice the exact product.
func TestPriceCountsSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rateUnits := rapid.Int64Range(0, 1e9).Draw(t, "rate in units")
		feeUnits := rapid.Int64Range(0, 1e9).Draw(t, "fee in units")
		r := row(t, "0", rapid.Int64Range(1, 3600).Draw(t, "per seconds"), rapid.Int64Range(1, 120).Draw(t, "initial"),
			rapid.Int64Range(1, 120).Draw(t, "increment"), "0", "0")
		r.rate, r.connect = big.NewRat(rateUnits, 1e8), big.NewRat(feeUnits, 1e8)
		seconds := rapid.Uint32Range(1, 4000).Draw(t, "seconds")
		cost, billed := r.charge(voiceOut, seconds)
		counted := r.initial
		for counted < int64(seconds) {
			counted += r.increment
		}
		if int64(billed) != counted {
			t.Fatalf("%d s are billed as %d, counted %d", seconds, billed, counted)
		}
		units := toUnits(cost, "USD").Int64()
		exact := feeUnits*r.perSeconds + rateUnits*counted // in parts of a unit
		if off := 2*units*r.perSeconds - 2*exact; off > r.perSeconds || off <= -r.perSeconds {
			t.Fatalf("%d units for %d/%d", units, exact, r.perSeconds)
		}
		longer, _ := r.charge(voiceOut, seconds+1)
		if longer.Cmp(cost) < 0 {
			t.Fatalf("%d s cost more than %d s", seconds, seconds+1)
		}
	})
}

func TestLongestPrefix(t *testing.T) {
	all, us, free, exchange := &rateRow{}, &rateRow{}, &rateRow{}, &rateRow{}
	v := version{rows: map[prefix]*rateRow{{voiceIn, ""}: all, {voiceIn, "1"}: us, {voiceIn, "1800"}: free, {voiceIn, "1212555"}: exchange}}
	for number, want := range map[uint64]*rateRow{18005550199: free, 12125550100: exchange, 12135550100: us, 4930555010: all, 0: all} {
		if v.row(voiceIn, number) != want {
			t.Errorf("%d has another row", number)
		}
		if v.row(voiceOut, number) != nil {
			t.Errorf("%d has a row of another service", number)
		}
	}
}

func TestVersionsOfATariff(t *testing.T) {
	tariff := tariff{versions: []version{{fromMs: 100}, {fromMs: 200}}}
	for ms, want := range map[int64]int64{100: 100, 199: 100, 200: 200, 1000: 200} {
		if v := tariff.at(ms); v == nil || v.fromMs != want {
			t.Errorf("at %d: %v, want the version from %d on", ms, v, want)
		}
	}
	if tariff.at(99) != nil {
		t.Error("there is a version before the first")
	}
}

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		text, currency string
		units          int64
	}{{"25.00", "USD", 2_500_000_000}, {"-0.00000001", "USD", -1}, {"12", "JPY", 12_000_000}, {"0.5", "KWD", 500_000_000}, {"", "EUR", 0}} {
		units, err := exactUnits(c.text, c.currency)
		if err != nil || units != c.units {
			t.Errorf("%q of %s are %d units, %v; want %d", c.text, c.currency, units, err, c.units)
		}
	}
	for _, text := range []string{"1e3", "1/3", "0x10", ".", "1.2.3", "0.000000001", "1 000", "+-1"} {
		if units, err := exactUnits(text, "USD"); err == nil {
			t.Errorf("%q is taken for %d units", text, units)
		}
	}
	if got := formatInt(-150_000_000, "USD"); got != "-1.50000000" {
		t.Errorf("-1.5 dollars are written %s", got)
	}
}
