package oracle

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// newFindings makes findings of nothing.
func newFindings() *findings {
	return &findings{report: &Report{DifferencesByKind: map[string]int64{}, RejectedByReason: map[string]int64{}}}
}

// kinds are what was found, in a line.
func (f *findings) kinds() string {
	return strings.Join(slices.Sorted(maps.Keys(f.report.DifferencesByKind)), " ")
}

// equalPair is a record that must be charged, and its row.
func equalPair() (expected, ratedRow) {
	owner := &account{number: 7, currency: "USD", zone: time.UTC}
	at := time.Date(2026, 11, 24, 23, 59, 0, 0, time.UTC).UnixMilli()
	e := expected{service: voiceIn, number: 14155550100, eventMs: at, duration: 61, idHash: xxhash.Sum64String("id"), peerHash: xxhash.Sum64String("peer"),
		account: owner, units: 1_700_000, billed: 120, localDay: dayOf(at, time.UTC)}
	return e, ratedRow{account: 7, number: e.number, service: 1, idHash: e.idHash, peerHash: e.peerHash, eventMs: at, localDay: e.localDay, statement: e.localDay,
		duration: 61, billed: 120, amount: -1_700_000, result: resultCharged, appendMs: at + 90_000}
}

// TestEveryColumnIsCompared changes one column of a row after the other.
func TestEveryColumnIsCompared(t *testing.T) {
	for want, spoil := range map[string]func(*ratedRow){
		"":                        func(*ratedRow) {},
		"account":                 func(r *ratedRow) { r.account++ },
		"number":                  func(r *ratedRow) { r.number++ },
		"service":                 func(r *ratedRow) { r.service++ },
		"record-id":               func(r *ratedRow) { r.idHash++ },
		"peer":                    func(r *ratedRow) { r.peerHash++ },
		"event-time":              func(r *ratedRow) { r.eventMs++ },
		"local-day":               func(r *ratedRow) { r.localDay-- },
		"duration":                func(r *ratedRow) { r.duration-- },
		"billed":                  func(r *ratedRow) { r.billed-- },
		"amount":                  func(r *ratedRow) { r.amount++ },
		"unapplied-amount":        func(r *ratedRow) { r.unapplied = r.amount },
		"statement-day":           func(r *ratedRow) { r.statement += 2 },
		"amount unapplied-amount": func(r *ratedRow) { r.result = resultDuplicate },
	} {
		e, r := equalPair()
		spoil(&r)
		f := newFindings()
		if f.compare("here", &e, &r); f.kinds() != want {
			t.Errorf("found %q, want %q", f.kinds(), want)
		}
	}
}

// TestStatementDays has a row that came after midnight: it may be shown on its own day, or on the one on which it came.
func TestStatementDays(t *testing.T) {
	for days, want := range map[int32]string{-1: "statement-day", 0: "", 1: "", 2: "statement-day"} {
		e, r := equalPair()
		r.statement += days
		f := newFindings()
		if f.compare("here", &e, &r); f.kinds() != want {
			t.Errorf("%d days after its own: found %q, want %q", days, f.kinds(), want)
		}
	}
}

// TestTheWindow has a record at the edge of the window of duplicates, which a parameter of its shard makes shorter.
func TestTheWindow(t *testing.T) {
	const hourMs = 3_600_000
	edge, _ := newPlace(1, 50, 0)
	for _, c := range []struct {
		name   string
		offset int64 // of the entry
		ageMs  int64
		result int8
		want   string
	}{
		{"young", 100, hourMs, resultCharged, ""},
		{"at the edge", 100, 2*hourMs - lateMarginMs, resultCharged, ""},
		{"beyond it", 100, 2*hourMs - lateMarginMs + 1, resultCharged, "window"},
		{"late", 100, 2*hourMs - lateMarginMs + 1, resultLate, ""},
		{"young and late", 100, hourMs, resultLate, "window"},
		{"a duplicate, at any age", 100, 100 * hourMs, resultDuplicate, ""},
		{"before the parameter", 49, 3 * hourMs, resultCharged, ""},
		{"before the parameter, and late", 49, 3 * hourMs, resultLate, "window"},
	} {
		e, r := equalPair()
		r.place, _ = newPlace(1, c.offset, 0)
		r.appendMs, r.result, r.statement = e.eventMs+c.ageMs, c.result, e.localDay
		if c.result != resultCharged {
			r.amount, r.unapplied = 0, r.amount
		}
		w := &worker{oracle: &oracle{findings: *newFindings(), windows: map[uint16][]windowChange{1: {{edge, 2 * hourMs}}}}}
		w.start()
		w.slice = []expected{e}
		if w.rated(&partition{}, &r); w.findings.kinds() != c.want {
			t.Errorf("%s: found %q, want %q", c.name, w.findings.kinds(), c.want)
		}
	}
}

// TestDeadLetters changes what a dead letter says.
func TestDeadLetters(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(*expected, *deadRow)
	}{
		{"", func(*expected, *deadRow) {}},
		{"reason", func(_ *expected, r *deadRow) { r.reason++ }},
		{"raw", func(_ *expected, r *deadRow) { r.rawHash++ }},
		{"number", func(_ *expected, r *deadRow) { r.number++ }},
		{"event-time", func(_ *expected, r *deadRow) { r.eventMs++ }},
		{"record-id", func(_ *expected, r *deadRow) { r.idHash++ }},
		{"account", func(_ *expected, r *deadRow) { r.account++ }},
		{"refused", func(e *expected, _ *deadRow) { e.refuse = rated }},
		{"extra-row", func(_ *expected, r *deadRow) { r.ix++ }},
	} {
		e, _ := equalPair()
		e.refuse, e.rawHash = noPrice, 5
		r := deadRow{reason: int8(noPrice), rawHash: 5, account: 7, number: e.number, idHash: e.idHash, eventMs: e.eventMs, place: 1}
		c.spoil(&e, &r)
		w := &worker{oracle: &oracle{findings: *newFindings()}}
		w.start()
		w.slice = []expected{e}
		if w.dead(&partition{}, &r); w.findings.kinds() != c.want {
			t.Errorf("found %q, want %q", w.findings.kinds(), c.want)
		}
	}
}
