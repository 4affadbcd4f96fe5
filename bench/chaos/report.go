package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Report is what was done to Tollgate, and what came of it.
type Report struct {
	Seed    uint64  `json:"seed"`
	Minutes float64 `json:"minutes"` // of records and faults
	// HealSeconds is how long it took from the last fault until everything was through.
	HealSeconds float64 `json:"heal_seconds"`
	// JudgedSeconds is how long the oracle and verify took.
	JudgedSeconds float64 `json:"judged_seconds"`

	// Kills are kill -9 by process, Pauses are SIGSTOP by process.
	Kills  map[string]int `json:"kills"`
	Pauses map[string]int `json:"pauses"`
	// Failovers count each time that a replica which had been cut off for a while, or an old master, became the master.
	Failovers int `json:"failovers"`
	// Faults counts all faults by kind.
	Faults map[string]int `json:"faults"`
	// LeftOut are the faults that this machine cannot do.
	LeftOut []string `json:"left_out,omitempty"`
	// EndsByThemselves are ends of services that nobody had killed: mostly starts while Kafka was away.
	EndsByThemselves int `json:"ends_by_themselves"`

	// Records is how many records the carriers wrote, SentAgain how many batches of them they sent again without knowing
	// whether the first sending had arrived.
	Records   int64 `json:"records"`
	SentAgain int64 `json:"sent_again"`
	// Results counts the records by what became of them.
	Results map[string]int64 `json:"results"`
	// Captured is how many recharges the gateway captured.
	Captured int `json:"captured"`
	// TopUps are the payments by hand and corrections, TopUpsAgain how often one was given again for want of a clear answer.
	TopUps      int `json:"top_ups"`
	TopUpsAgain int `json:"top_ups_again"`

	// Oracle and Verify are what they found; Oracle is nil where there was none.
	Oracle *OracleReport `json:"oracle,omitempty"`
	Verify *VerifyReport `json:"verify"`
	// AuditDifferences is tollgate_audit_difference_total over all lives of all services.
	AuditDifferences int64 `json:"tollgate_audit_difference_total"`
	// TornTransactions counts halves of transactions that Redis itself has brought back from a file that was cut before: its
	// next start runs what it had dropped at the start after the cut.
	TornTransactions int `json:"torn_transactions"`
	// Impossible are lines of logs with BUG:, audit: DIFFERENCE, panic: or fatal error: in them.
	Impossible []string `json:"impossible,omitempty"`

	mu sync.Mutex
}

func newReport(cfg *Config) *Report {
	return &Report{Seed: cfg.Seed, Kills: map[string]int{}, Pauses: map[string]int{}, Faults: map[string]int{}, Results: map[string]int64{}}
}

func (r *Report) add(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
}

func (r *Report) killed(process string) { r.add(func() { r.Kills[process]++ }) }
func (r *Report) paused(process string) { r.add(func() { r.Pauses[process]++ }) }
func (r *Report) failedOver()           { r.add(func() { r.Failovers++ }) }
func (r *Report) count(fault string)    { r.add(func() { r.Faults[fault]++ }) }

func (r *Report) suffered(d time.Duration) { r.Minutes = d.Minutes() }
func (r *Report) healed(d time.Duration)   { r.HealSeconds = d.Seconds() }

// line is how it stands, in one line.
func (r *Report) line() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d kills, %d pauses, %d failovers, %d faults", sum(r.Kills), sum(r.Pauses), r.Failovers, sum(r.Faults))
}

// AllKills is the number of kills of all processes.
func (r *Report) AllKills() int { return sum(r.Kills) }

// Differences is how much anyone found that is not as it should be. Anything but 0 is a record lost or charged twice, or
// a proof that does not prove.
func (r *Report) Differences() int64 {
	n := r.AuditDifferences + int64(len(r.Impossible))
	if r.Oracle != nil {
		n += r.Oracle.Differences
	}
	if r.Verify != nil {
		n += r.Verify.Differences + int64(len(r.Verify.Notes))
	}
	return n + r.Unseen()
}

// Unseen is how many records the oracle did not see of those that the carriers wrote, or verify of those that the oracle saw.
func (r *Report) Unseen() (n int64) {
	if r.Oracle != nil {
		n += max(0, r.Records-r.Oracle.Records)
	}
	if r.Oracle != nil && r.Verify != nil {
		n += max(r.Oracle.Records-r.Verify.Records, r.Verify.Records-r.Oracle.Records)
	}
	return n
}

// Rows gives the report as lines of name and value, for a table.
func (r *Report) Rows() [][2]string {
	var rows [][2]string
	row := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	row("seed", "%d", r.Seed)
	row("minutes", "%.1f; healed after %.0f s, judged in %.0f s", r.Minutes, r.HealSeconds, r.JudgedSeconds)
	row("kills", "%d: %s", sum(r.Kills), list(r.Kills))
	row("pauses", "%d: %s", sum(r.Pauses), list(r.Pauses))
	row("failovers", "%d", r.Failovers)
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		row("  "+name, "%d", r.Faults[name])
	}
	for _, name := range r.LeftOut {
		row("left out", "%s", name)
	}
	row("ends that nobody caused", "%d", r.EndsByThemselves)
	row("records written", "%d; %d batches sent again", r.Records, r.SentAgain)
	for _, result := range slices.Sorted(maps.Keys(r.Results)) {
		row("  "+result, "%d", r.Results[result])
	}
	row("halves of transactions that redis brought back", "%d", r.TornTransactions)
	row("recharges captured", "%d", r.Captured)
	row("top-ups by hand", "%d; %d times given again", r.TopUps, r.TopUpsAgain)
	if o := r.Oracle; o != nil {
		row("oracle", "%d records, %d charged, %d accounts, %d captures: %d differences", o.Records, o.Charged, o.Accounts, o.Captures, o.Differences)
		rows = append(rows, examples(o.Examples)...)
	} else {
		row("oracle", "there is none")
	}
	if v := r.Verify; v != nil {
		row("verify", "%d entries, %d rows, %d records, %d accounts: %d differences", v.Entries, v.Rows, v.Records, v.Accounts, v.Differences)
		rows = append(append(rows, examples(v.Examples)...), examples(v.Notes)...)
	}
	row("records that the oracle or verify did not see", "%d", r.Unseen())
	row("tollgate_audit_difference_total", "%d", r.AuditDifferences)
	rows = append(rows, examples(r.Impossible)...)
	row("differences", "%d", r.Differences())
	return rows
}

func examples[T ~string | ~[]byte](texts []T) (rows [][2]string) {
	for _, text := range texts[:min(len(texts), 10)] {
		rows = append(rows, [2]string{"", string(text)})
	}
	return rows
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func list(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
