// Package bench plays the seeded workload through a real Tollgate: it writes the workload's book file, and produces its
// carrier records to Kafka. The demo, the end-to-end tests and the benchmark share it.
//
// It stands outside of the flow, where the operator and the carriers are. It never looks inside Tollgate; what came of
// the records is for verify to say.
package bench

import (
	"bufio"
	"fmt"
	"io"

	"github.com/shopspring/decimal"

	"github.com/tollgate/tollgate/bench/workload"
)

// Topic is a carrier topic of the workload.
type Topic struct {
	Name   string
	Format workload.Format
	// Source is the name within which the record ids are unique.
	Source string
}

// WriteBook writes the book file of the workload's installation: tariffs, plans, formats of the topics, accounts with
// their numbers.
func WriteBook(to io.Writer, load *workload.Workload, topics []Topic) error {
	w := bufio.NewWriter(to)
	fmt.Fprintln(w, "# The book of the demo: what `tollgate import` loads, and `tollgate rate --book` prices by.")
	fmt.Fprintln(w, "tariffs:")
	for _, t := range load.Tariffs() {
		fmt.Fprintf(w, "  - tariff: %s\n    revision: first\n    currency: %s\n    rows:\n", t.Name, t.Currency)
		for _, r := range t.Rows {
			writeRow(w, r)
		}
	}
	fmt.Fprintln(w, "plans:")
	for _, p := range load.Plans() {
		fmt.Fprintf(w, "  - {plan: %s, currency: %s, tariff: %s}\n", p.Name, p.Currency, p.Tariff)
	}
	fmt.Fprintln(w, "formats:")
	for _, t := range topics {
		fmt.Fprintf(w, "  - {topic: %s, format: %s, version: 1, source: %s}\n", t.Name, t.Format, t.Source)
	}
	writeAccounts(w, load)
	return w.Flush()
}

func writeRow(w io.Writer, r workload.Row) {
	fmt.Fprintf(w, "      - {service: %s", r.Service)
	if r.Prefix != "" {
		fmt.Fprintf(w, ", prefix: %s", r.Prefix)
	}
	optional := func(name string, amount decimal.Decimal) {
		if !amount.IsZero() {
			fmt.Fprintf(w, ", %s: %s", name, amount)
		}
	}
	if r.IncrementSeconds > 0 {
		optional("connect", r.Connect)
		fmt.Fprintf(w, ", rate: %s, per_seconds: 60, initial: %d, increment: %d", r.PerMinute, r.InitialSeconds, r.IncrementSeconds)
		optional("minimum", r.Minimum)
	} else {
		fmt.Fprintf(w, ", segment: %s", r.PerSegment)
	}
	fmt.Fprintln(w, "}")
}

// writeAccounts writes the accounts, each with its numbers, which come in the order of the accounts or not.
func writeAccounts(w io.Writer, load *workload.Workload) {
	numbers := map[uint32][]uint64{}
	for n := range load.Numbers() {
		numbers[n.Account] = append(numbers[n.Account], n.E164)
	}
	currencies := map[string]string{}
	for _, p := range load.Plans() {
		currencies[p.Name] = p.Currency
	}
	fmt.Fprintln(w, "accounts:")
	for a := range load.Accounts() {
		fmt.Fprintf(w, "  - account: %d\n    currency: %s\n    plan: %s\n    zone: %s\n    balance: %s\n    threshold: %s\n",
			a.Number, currencies[a.Plan], a.Plan, a.Zone, a.OpeningBalance, a.Threshold)
		if !a.RechargeTo.IsZero() {
			fmt.Fprintf(w, "    recharge_to: %s\n", a.RechargeTo)
		}
		fmt.Fprint(w, "    numbers: [")
		for i, n := range numbers[a.Number] {
			if i > 0 {
				fmt.Fprint(w, ", ")
			}
			fmt.Fprintf(w, "+%d", n)
		}
		fmt.Fprintln(w, "]")
	}
}
