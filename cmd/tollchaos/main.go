// Command tollchaos breaks a Tollgate of real processes for some minutes and says whether a record was lost or charged
// twice: a table on a terminal, JSON off it. Status 1 means that it was, status 2 that the run could not be carried out.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/tollgate/tollgate/bench/chaos"
	"github.com/tollgate/tollgate/deploy/local"
)

// Exit statuses.
const (
	exitDifferences = 1
	exitFailed      = 2
)

func main() {
	local.MaybeRunEngine()
	cfg := chaos.DefaultConfig()
	minutes, asJSON := cfg.Duration.Minutes(), !term.IsTerminal(int(os.Stdout.Fd()))
	flag.Float64Var(&minutes, "minutes", minutes, "how long records and faults come")
	flag.DurationVar(&cfg.Outage, "outage", 0, "how long ClickHouse is away in one piece (default a sixth of the time, at most 20 minutes)")
	flag.Float64Var(&cfg.Calm, "calm", cfg.Calm, "scales the pauses between two faults: 0.5 makes them half as long")
	flag.Uint64Var(&cfg.Seed, "seed", 0, "seed of everything that is drawn (default a new one, which is printed)")
	flag.IntVar(&cfg.RecordsPerSecond, "rate", cfg.RecordsPerSecond, "records a second of all carriers")
	flag.IntVar(&cfg.Accounts, "accounts", cfg.Accounts, "accounts")
	flag.IntVar(&cfg.Shards, "shards", cfg.Shards, "shards")
	flag.DurationVar(&cfg.HealWithin, "heal", 0, "how long it may take until everything is through after the last fault (default 15 minutes and half of the time)")
	flag.StringVar(&cfg.Tollgate, "tollgate", beside("tollgate"), "the tollgate binary")
	flag.StringVar(&cfg.Oracle, "oracle", beside("tolloracle"), "the oracle's binary")
	flag.StringVar(&cfg.DataDir, "keep", "", "keep data and logs in this folder")
	flag.BoolVar(&asJSON, "json", asJSON, "print the report as JSON")
	flag.Parse()
	if minutes <= 0 || cfg.Calm <= 0 || cfg.Outage < 0 || cfg.HealWithin < 0 {
		fmt.Fprintln(os.Stderr, "tollchaos: --minutes and --calm must be more than 0, --outage and --heal not less")
		os.Exit(exitFailed)
	}
	cfg.Duration = time.Duration(minutes * float64(time.Minute))
	if cfg.HealWithin == 0 {
		cfg.HealWithin = chaos.DefaultConfig().HealWithin + cfg.Duration/2
	}
	if cfg.Outage == 0 {
		cfg.Outage = min(cfg.Duration/6, 20*time.Minute)
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64N(1<<32) + 1
	}
	cfg.Say = func(line string) { fmt.Fprintln(os.Stderr, "  "+line) }
	cfg.Say(fmt.Sprintf("seed %d: repeat with --seed %d", cfg.Seed, cfg.Seed))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	report, err := chaos.Run(ctx, cfg)
	if report != nil {
		show(report, asJSON)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "tollchaos:", err)
		os.Exit(exitFailed)
	case report.Differences() > 0:
		os.Exit(exitDifferences)
	}
}

// beside is the program of that name in the folder of this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

func show(r *chaos.Report, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r) // to a closed pipe: nobody is left to tell
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.SetStyle(table.StyleLight)
	for _, row := range r.Rows() {
		t.AppendRow(table.Row{row[0], row[1]})
	}
	t.Render()
}
