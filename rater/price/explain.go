package price

import (
	"fmt"
	"strings"

	"github.com/tollgate/tollgate/rater/money"
)

// Explanation says how Compute arrives at a charge, for people and for `tollgate rate`. Amounts are exact decimals.
type Explanation struct {
	Service         string `json:"service"`
	DurationSeconds uint32 `json:"duration_seconds,omitempty"` // of a call
	BilledSeconds   uint32 `json:"billed_seconds,omitempty"`   // of a call
	Segments        uint32 `json:"segments,omitempty"`         // of a message
	Connect         string `json:"connect,omitempty"`          // the fee per call, if there is one
	Rate            string `json:"rate"`                       // of rate_seconds of a call, or of one segment
	RateSeconds     uint32 `json:"rate_seconds,omitempty"`     // of a call
	Minimum         string `json:"minimum,omitempty"`          // the least charge, if there is one
	Amount          string `json:"amount"`
	Currency        string `json:"currency"`
	// Text is the whole in one line: "15 s billed as 60 s (initial 60 s): 0.01/60 s × 60 s = 0.01".
	Text string `json:"text"`
}

// Explain computes the charge of a record and says how it comes about, in the currency of the row's tariff. It is not
// ok exactly when Compute is not.
func Explain(row *Row, durationSeconds, segments uint32, currency money.Currency) (Explanation, bool) {
	charge, ok := Compute(row, durationSeconds, segments)
	if !ok {
		return Explanation{}, false
	}
	e := Explanation{Service: row.Service.String(), Amount: currency.Format(charge.AmountUnits), Currency: currency.String()}
	if !row.Service.Voice() {
		e.Segments, e.Rate = charge.Billed, currency.Format(row.SegmentUnits)
		e.Text = fmt.Sprintf("%d segments × %s = %s", e.Segments, e.Rate, e.Amount)
		return e, true
	}
	e.DurationSeconds, e.BilledSeconds = durationSeconds, charge.Billed
	e.Rate, e.RateSeconds = currency.Format(row.RateUnits), row.RateSeconds
	if row.ConnectUnits != 0 {
		e.Connect = currency.Format(row.ConnectUnits)
	}
	if row.MinimumUnits != 0 {
		e.Minimum = currency.Format(row.MinimumUnits)
	}
	e.Text = e.callText(row, charge, currency)
	return e, true
}

func (e *Explanation) callText(row *Row, charge Charge, currency money.Currency) string {
	if e.DurationSeconds == 0 {
		return "0 s: nothing to bill"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d s billed as %d s (initial %d s", e.DurationSeconds, e.BilledSeconds, row.InitialSeconds)
	if e.DurationSeconds > row.InitialSeconds {
		fmt.Fprintf(&text, ", then steps of %d s", row.IncrementSeconds)
	}
	text.WriteString("): ")
	if e.Connect != "" {
		fmt.Fprintf(&text, "%s to connect + ", e.Connect)
	}
	// What Compute had before it applied the minimum: a lower minimum gives it back.
	bare := *row
	bare.MinimumUnits = 0
	timed, _ := Compute(&bare, e.DurationSeconds, 0)
	equals := "="
	if rounded(row, charge.Billed) {
		equals = "≈"
	}
	fmt.Fprintf(&text, "%s/%d s × %d s %s %s", e.Rate, e.RateSeconds, e.BilledSeconds, equals, currency.Format(timed.AmountUnits))
	if charge != timed {
		fmt.Fprintf(&text, ", raised to the minimum of %s", e.Amount)
	}
	return text.String()
}

// rounded tells whether RateUnits·billed/RateSeconds is not a whole number of units.
func rounded(row *Row, billed uint32) bool {
	rate, per := uint64(row.RateUnits), uint64(row.RateSeconds)
	return rate%per*uint64(billed)%per != 0
}
