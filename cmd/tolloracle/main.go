// Command tolloracle proves from outside that Tollgate lost no record and charged none twice: it decodes and prices every
// record of the carriers' topics by code of its own, and compares every record and every unit of money with ClickHouse
// and with the card gateway's book. It never writes anything.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // for a machine without time zones

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/tollgate/tollgate/bench/oracle"
)

// Exit statuses.
const (
	exitEqual     = 0
	exitDifferent = 1
	exitFailed    = 2 // it could not be carried out
)

// passwordVariable holds the password of ClickHouse: secrets are never flags.
const passwordVariable = "TOLLORACLE_CLICKHOUSE_PASSWORD"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run compares, prints, and gives the exit status.
func run(ctx context.Context, args []string, out *os.File, progress io.Writer) int {
	cfg := oracle.Config{Password: os.Getenv(passwordVariable), Report: func(line string) { fmt.Fprintln(progress, "  "+line) }}
	flags := flag.NewFlagSet("tolloracle", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.StringVar(&cfg.Kafka, "kafka", "127.0.0.1:9092", "host:port of a broker")
	flags.StringVar(&cfg.ClickHouse, "clickhouse", "127.0.0.1:9000", "host:port of ClickHouse's native protocol")
	flags.StringVar(&cfg.Database, "database", "tollgate", "database of ClickHouse")
	flags.StringVar(&cfg.User, "user", "default", "user of ClickHouse; the password is in $"+passwordVariable)
	flags.StringVar(&cfg.Book, "book", "", "book file with which the installation was opened (needed)")
	flags.StringVar(&cfg.Gateway, "gateway", "", "book of the simulated card gateway, JSON lines")
	flags.StringVar(&cfg.Credits, "credits", "", "accepted top-ups: JSON lines of account, currency, amount, key, kind")
	flags.IntVar(&cfg.SliceRecords, "slice", 0, "records that each of the two workers holds at once (default 4,000,000)")
	asJSON := flags.Bool("json", false, "print JSON, as it is done off a terminal")
	if err := flags.Parse(args); err != nil {
		return exitFailed
	}
	if cfg.Book == "" || flags.NArg() > 0 {
		fmt.Fprintln(progress, "tolloracle: --book is needed, and nothing but flags: see tolloracle --help")
		return exitFailed
	}
	report, err := oracle.Run(ctx, cfg)
	if err != nil {
		fmt.Fprintln(progress, "tolloracle:", strings.ReplaceAll(err.Error(), "\n", " "))
		return exitFailed
	}
	if *asJSON || !term.IsTerminal(int(out.Fd())) {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(report)
	} else {
		show(out, report)
	}
	switch {
	case err != nil:
		fmt.Fprintln(progress, "tolloracle:", err)
		return exitFailed
	case report.Differences > 0:
		return exitDifferent
	}
	return exitEqual
}

// show prints the report for people.
func show(out io.Writer, r *oracle.Report) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendRows([]table.Row{{"records", r.Records}, {"charged", r.Charged}, {"  of them late", r.Released}, {"duplicates", r.Duplicates},
		{"late", r.Late}, {"dead letters", r.Rejected}})
	for _, reason := range slices.Sorted(maps.Keys(r.RejectedByReason)) {
		t.AppendRow(table.Row{"  " + reason, r.RejectedByReason[reason]})
	}
	t.AppendRows([]table.Row{{"accounts", r.Accounts}, {"captures", r.Captures}, {"credits", r.Credits}})
	for _, sums := range []struct {
		name   string
		amount map[string]string
	}{{"charged", r.ChargedAmount}, {"captured", r.CapturedAmount}, {"credited", r.CreditedAmount}} {
		for _, currency := range slices.Sorted(maps.Keys(sums.amount)) {
			t.AppendRow(table.Row{sums.name + " " + currency, sums.amount[currency]})
		}
	}
	t.AppendSeparator()
	t.AppendRow(table.Row{"differences", r.Differences})
	for _, kind := range slices.Sorted(maps.Keys(r.DifferencesByKind)) {
		t.AppendRow(table.Row{"  " + kind, r.DifferencesByKind[kind]})
	}
	t.Render()
	for _, d := range r.Examples {
		fmt.Fprintln(out, d)
	}
}
