package oracle

import (
	"fmt"
	"sync"
)

// Difference is one thing that is not as it must be.
type Difference struct {
	// Kind says what is wrong in a word or two, such as "amount" or "missing-row".
	Kind string `json:"kind"`
	// Where names the record (topic[partition], offset, index), the account, or the entry.
	Where string `json:"where"`
	// Expected is what the oracle computed, Found is what was there.
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// String is the difference in one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s, %s: expected %s, found %s", d.Where, d.Kind, d.Expected, d.Found)
}

// Report is what the oracle found.
type Report struct {
	Messages int64 `json:"messages"`
	Records  int64 `json:"records"`
	// Charged counts records that were charged, Released those among them that had been late; Duplicates are copies.
	Charged    int64 `json:"charged"`
	Released   int64 `json:"released"`
	Duplicates int64 `json:"duplicates"`
	// Late counts records that came after the window of duplicates, whatever became of them then.
	Late             int64            `json:"late"`
	Rejected         int64            `json:"rejected"`
	RejectedByReason map[string]int64 `json:"rejectedByReason"`
	Accounts         int64            `json:"accounts"`
	Captures         int64            `json:"captures"`
	Credits          int64            `json:"credits"`
	// The sums by currency are decimal strings.
	ChargedAmount  map[string]string `json:"chargedAmount"`
	CapturedAmount map[string]string `json:"capturedAmount"`
	CreditedAmount map[string]string `json:"creditedAmount"`

	Differences       int64            `json:"differences"`
	DifferencesByKind map[string]int64 `json:"differencesByKind"`
	Examples          []Difference     `json:"examples"`
	Seconds           float64          `json:"seconds"`
}

// mostExamples bounds the examples of a report; each kind has some.
const (
	mostExamples        = 50
	mostExamplesPerKind = 5
)

// findings gathers differences from several workers.
type findings struct {
	mu     sync.Mutex
	report *Report
}

// add counts a difference, and keeps it if it can serve as an example. Where is written down only then.
func (f *findings) add(kind string, where any, expected, found string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.report
	r.Differences++
	r.DifferencesByKind[kind]++
	if r.DifferencesByKind[kind] <= mostExamplesPerKind && len(r.Examples) < mostExamples {
		r.Examples = append(r.Examples, Difference{kind, fmt.Sprint(where), expected, found})
	}
}

// wantsExample tells whether a difference of the kind would become an example: looking for its place may cost.
func (f *findings) wantsExample(kind string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report.DifferencesByKind[kind] < mostExamplesPerKind
}

// differ adds a difference where two values are not equal.
func differ[T comparable](f *findings, kind string, where any, expected, found T) {
	if expected != found {
		f.add(kind, where, fmt.Sprint(expected), fmt.Sprint(found))
	}
}
