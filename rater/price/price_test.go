package price

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/money"
)

func usd(t testing.TB) money.Currency {
	t.Helper()
	c, err := money.ParseCurrency("USD")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func amount(t testing.TB, text string) money.Amount {
	t.Helper()
	a, err := usd(t).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// perMinute is a voice row as rate decks state it: price per minute, initial/increment.
func perMinute(t testing.TB, rate string, initial, increment uint32) Row {
	return Row{Service: VoiceIn, RateUnits: amount(t, rate), RateSeconds: 60, InitialSeconds: initial, IncrementSeconds: increment}
}

// What carriers publish as examples of their own billing.
func TestPublishedExamples(t *testing.T) {
	cases := []struct {
		source             string
		rate               string
		initial, increment uint32
		duration, billed   uint32
		cost               string
	}{
		{"Telnyx 6/6, 11 s are charged as 2 × 6", "0.01", 6, 6, 11, 12, "0.002"},
		{"Telnyx 6/6, 61 s", "0.01", 6, 6, 61, 66, "0.011"},
		{"Telnyx 6/6 flat rate, 1 s", "0.01", 6, 6, 1, 6, "0.001"},
		{"Telnyx 6/6 flat rate, 7 s", "0.01", 6, 6, 7, 12, "0.002"},
		{"Telnyx 60/60, 11 s", "0.01", 60, 60, 11, 60, "0.01"},
		{"Telnyx 60/60, 96 s are charged as 2 × 60", "0.01", 60, 60, 96, 120, "0.02"},
		{"Telnyx on others' 60/60, 61 s", "0.01", 60, 60, 61, 120, "0.02"},
		{"Telnyx Gambia 60/1, 61 s", "0.6", 60, 1, 61, 61, "0.61"},
		{"Plivo 60/60, 10 s are one minute", "0.0085", 60, 60, 10, 60, "0.0085"},
		{"Plivo 60/60, 70 s are two minutes", "0.0085", 60, 60, 70, 120, "0.017"},
		{"Plivo Zentrunk 1/1, 10 s", "0.0065", 1, 1, 10, 10, "0.00108333"},
		{"Twilio, 1 min 18 s are two minutes", "0.0085", 60, 60, 78, 120, "0.017"},
		{"Twilio, 1 min 20 s are two minutes", "0.0085", 60, 60, 80, 120, "0.017"},
		{"Twilio, the call resource of the client's tests", "0.03", 60, 60, 15, 60, "0.03"},
		{"Voicent 30/6 at 2 cents, 45 s cost 1.6 cents", "0.02", 30, 6, 45, 48, "0.016"},
		{"Voicent 30/6 at 2 cents, 20 s cost 1 cent", "0.02", 30, 6, 20, 30, "0.01"},
		{"30/6, 10 s", "0.02", 30, 6, 10, 30, "0.01"},
		{"30/6, 31 s", "0.02", 30, 6, 31, 36, "0.012"},
		{"60/6, 65 s", "0.01", 60, 6, 65, 66, "0.011"},
		{"60/6, 67 s", "0.01", 60, 6, 67, 72, "0.012"},
		{"CarrierX, 10 s", "0.014", 60, 60, 10, 60, "0.014"},
		{"46labs, 35 minutes (the page itself misprints 0.04765)", "0.00137", 60, 60, 2100, 2100, "0.04795"},
		{"Vonage 1/1, 8 decimals", "0.0127", 1, 1, 2, 2, "0.00042333"},
	}
	for _, c := range cases {
		row := perMinute(t, c.rate, c.initial, c.increment)
		got, ok := Compute(&row, c.duration, 0)
		if want := (Charge{amount(t, c.cost), c.billed}); !ok || got != want {
			t.Errorf("%s: %+v, %v; want %+v", c.source, got, ok, want)
		}
	}
}

func TestMessages(t *testing.T) {
	row := Row{Service: MessageOut, SegmentUnits: amount(t, "0.0075")}
	for segments, cost := range map[uint32]string{0: "0", 1: "0.0075", 3: "0.0225", MaxSegments: "1.9125"} {
		if got, ok := Compute(&row, 999, segments); !ok || got != (Charge{amount(t, cost), segments}) {
			t.Errorf("%d segments: %+v, %v", segments, got, ok)
		}
	}
	if _, ok := Compute(&row, 0, MaxSegments+1); ok {
		t.Error("a message of too many segments was priced")
	}
}

func TestUnansweredCallsAreFree(t *testing.T) {
	row := perMinute(t, "0.01", 60, 60)
	row.ConnectUnits, row.MinimumUnits = amount(t, "0.05"), amount(t, "0.10")
	if got, ok := Compute(&row, 0, 7); !ok || got != (Charge{}) {
		t.Errorf("a call of 0 s costs %+v, %v", got, ok)
	}
}

func TestOutOfBounds(t *testing.T) {
	row := perMinute(t, "0.01", 60, 60)
	if _, ok := Compute(&row, MaxDurationSeconds, 0); !ok {
		t.Error("a call of the maximum duration was refused")
	}
	for _, d := range []uint32{MaxDurationSeconds + 1, math.MaxUint32} {
		if _, ok := Compute(&row, d, 0); ok {
			t.Errorf("a call of %d s was priced", d)
		}
	}
	row.RateUnits = money.Limit
	if _, ok := Compute(&row, 61, 0); ok {
		t.Error("a charge beyond the limit was given")
	}
	if got, ok := Compute(&row, 60, 0); !ok || got.AmountUnits != money.Limit {
		t.Error("a charge of just the limit was refused")
	}
	for _, bad := range []Row{{Service: VoiceIn}, {Service: VoiceIn, IncrementSeconds: 1}} {
		if _, ok := Compute(&bad, 1, 0); ok {
			t.Errorf("%+v was computed", bad)
		}
	}
}

func rows() *rapid.Generator[Row] {
	amounts := rapid.OneOf(rapid.Int64Range(0, 10), rapid.Int64Range(0, 100_000_000), rapid.Int64Range(0, int64(money.Limit)))
	lengths := rapid.OneOf(rapid.SampledFrom([]uint32{1, 6, 30, 60}), rapid.Uint32Range(1, MaxDurationSeconds))
	return rapid.Custom(func(t *rapid.T) Row {
		return Row{
			Service:        rapid.SampledFrom([]Service{VoiceIn, VoiceOut}).Draw(t, "service"),
			ConnectUnits:   money.Amount(amounts.Draw(t, "connect")),
			RateUnits:      money.Amount(amounts.Draw(t, "rate")),
			RateSeconds:    lengths.Draw(t, "per"),
			InitialSeconds: lengths.Draw(t, "initial"), IncrementSeconds: lengths.Draw(t, "increment"),
			MinimumUnits: money.Amount(amounts.Draw(t, "minimum")),
		}
	})
}

// exactly computes a call by counting increments one by one and by rationals: nothing of it is shared with Compute.
func exactly(row Row, duration uint32) (cost *big.Int, billed int64) {
	if duration == 0 {
		return new(big.Int), 0
	}
	for billed = int64(row.InitialSeconds); billed < int64(duration); {
		billed += int64(row.IncrementSeconds)
	}
	x := big.NewRat(int64(row.RateUnits), int64(row.RateSeconds))
	x.Mul(x, new(big.Rat).SetInt64(billed))
	x.Add(x, new(big.Rat).SetInt64(int64(row.ConnectUnits)))
	if minimum := new(big.Rat).SetInt64(int64(row.MinimumUnits)); x.Cmp(minimum) < 0 {
		x = minimum
	}
	x.Add(x, big.NewRat(1, 2))
	return new(big.Int).Div(x.Num(), x.Denom()), billed
}

func TestComputeIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, duration := rows().Draw(t, "row"), rapid.Uint32Range(0, MaxDurationSeconds).Draw(t, "duration")
		if err := row.Validate(); err != nil {
			t.Fatal(err)
		}
		cost, billed := exactly(row, duration)
		fits := cost.Cmp(big.NewInt(int64(money.Limit))) <= 0
		got, ok := Compute(&row, duration, 0)
		if ok != fits || ok && (int64(got.AmountUnits) != cost.Int64() || int64(got.Billed) != billed) {
			t.Fatalf("%d s cost %+v, %v; want %v for %d s", duration, got, ok, cost, billed)
		}
	})
}

func TestLongerCallsNeverCostLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rows().Draw(t, "row")
		shorter := rapid.Uint32Range(0, MaxDurationSeconds).Draw(t, "shorter")
		longer := rapid.Uint32Range(shorter, MaxDurationSeconds).Draw(t, "longer")
		a, aOK := Compute(&row, shorter, 0)
		b, bOK := Compute(&row, longer, 0)
		if bOK && !aOK || aOK && bOK && (a.AmountUnits > b.AmountUnits || a.Billed > b.Billed) || a.AmountUnits < 0 {
			t.Fatalf("%d s: %+v, %v; %d s: %+v, %v", shorter, a, aOK, longer, b, bOK)
		}
		if aOK && a.Billed < shorter {
			t.Fatalf("%d s are billed as only %d s", shorter, a.Billed)
		}
	})
}

func TestValidate(t *testing.T) {
	good := Row{Service: VoiceIn, Prefix: 1415, PrefixDigits: 4, RateUnits: 1, RateSeconds: 60, InitialSeconds: 6, IncrementSeconds: 6}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(r *Row){
		"unknown service":     func(r *Row) { r.Service = 9 },
		"leading zero":        func(r *Row) { r.PrefixDigits = 5 },
		"prefix without size": func(r *Row) { r.PrefixDigits = 0 },
		"prefix too long":     func(r *Row) { r.Prefix, r.PrefixDigits = 1e15, 16 },
		"no rate seconds":     func(r *Row) { r.RateSeconds = 0 },
		"no initial":          func(r *Row) { r.InitialSeconds = 0 },
		"no increment":        func(r *Row) { r.IncrementSeconds = 0 },
		"increment of a week": func(r *Row) { r.IncrementSeconds = 7 * 86_400 },
		"negative fee":        func(r *Row) { r.ConnectUnits = -1 },
		"negative minimum":    func(r *Row) { r.MinimumUnits = -1 },
		"rate beyond limit":   func(r *Row) { r.RateUnits = money.Limit + 1 },
		"segments of a call":  func(r *Row) { r.SegmentUnits = 1 },
		"timed message":       func(r *Row) { r.Service = MessageIn },
		"negative segment":    func(r *Row) { *r = Row{Service: MessageIn, SegmentUnits: -1} },
	}
	for name, spoil := range bad {
		row := good
		if spoil(&row); row.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, row)
		}
	}
}

func TestExplain(t *testing.T) {
	cents := func(r Row, connect, minimum string) Row {
		r.ConnectUnits, r.MinimumUnits = amount(t, connect), amount(t, minimum)
		return r
	}
	cases := []struct {
		row                Row
		duration, segments uint32
		text               string
	}{
		{perMinute(t, "0.01", 60, 60), 15, 0, "15 s billed as 60 s (initial 60 s): 0.01/60 s × 60 s = 0.01"},
		{perMinute(t, "0.0085", 30, 6), 45, 0, "45 s billed as 48 s (initial 30 s, then steps of 6 s): 0.0085/60 s × 48 s = 0.0068"},
		{perMinute(t, "0.0065", 1, 1), 10, 0, "10 s billed as 10 s (initial 1 s, then steps of 1 s): 0.0065/60 s × 10 s ≈ 0.00108333"},
		{cents(perMinute(t, "0.01", 60, 60), "0.05", "0.10"), 61, 0,
			"61 s billed as 120 s (initial 60 s, then steps of 60 s): 0.05 to connect + 0.01/60 s × 120 s = 0.07, raised to the minimum of 0.10"},
		{cents(perMinute(t, "0.01", 60, 60), "0.05", "0.10"), 0, 0, "0 s: nothing to bill"},
		{Row{Service: MessageOut, SegmentUnits: amount(t, "0.0075")}, 0, 2, "2 segments × 0.0075 = 0.015"},
	}
	for _, c := range cases {
		got, ok := Explain(&c.row, c.duration, c.segments, usd(t))
		if !ok || got.Text != c.text {
			t.Errorf("%q, %v; want %q", got.Text, ok, c.text)
		}
	}
	row := perMinute(t, "0.01", 60, 60)
	if _, ok := Explain(&row, MaxDurationSeconds+1, 0, usd(t)); ok {
		t.Error("a charge that there is not was explained")
	}
}

func TestExplanationAgreesWithCharge(t *testing.T) {
	currency := usd(t)
	rapid.Check(t, func(t *rapid.T) {
		row, duration := rows().Draw(t, "row"), rapid.Uint32Range(0, MaxDurationSeconds).Draw(t, "duration")
		charge, ok := Compute(&row, duration, 0)
		e, explained := Explain(&row, duration, 0, currency)
		if ok != explained {
			t.Fatalf("computed %v, explained %v", ok, explained)
		}
		if !ok {
			return
		}
		if a, err := currency.Parse(e.Amount); err != nil || a != charge.AmountUnits || e.BilledSeconds != charge.Billed {
			t.Fatalf("%+v explains %+v", e, charge)
		}
		if duration > 0 && !strings.HasSuffix(e.Text, " "+e.Amount) {
			t.Fatalf("%q does not end with %s", e.Text, e.Amount)
		}
	})
}

func TestServiceNames(t *testing.T) {
	for s := VoiceIn; s <= MessageOut; s++ {
		if back, err := ParseService(s.String()); err != nil || back != s {
			t.Errorf("ParseService(%q) = %v, %v", s, back, err)
		}
	}
	for _, name := range []string{"", "voice", "service-9"} {
		if s, err := ParseService(name); err == nil {
			t.Errorf("ParseService(%q) = %v", name, s)
		}
	}
}

func TestComputeDoesNotAllocate(t *testing.T) {
	row := perMinute(t, "0.0085", 30, 6)
	if n := testing.AllocsPerRun(100, func() { Compute(&row, 77, 0) }); n != 0 {
		t.Errorf("Compute allocates %v times", n)
	}
}

func BenchmarkCompute(b *testing.B) {
	row := perMinute(b, "0.0085", 30, 6)
	b.ReportAllocs()
	duration := uint32(0)
	for b.Loop() {
		duration = (duration + 7) % 600
		Compute(&row, duration, 0)
	}
}
