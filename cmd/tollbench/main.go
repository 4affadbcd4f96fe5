// Command tollbench is the end-to-end benchmark: it starts the servers and a `tollgate serve`, gives them a seeded
// backlog of carrier records, and measures how fast the records become visible in ClickHouse, and at what cost of
// processor time in each process.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
)

// options are the flags.
type options struct {
	records, warmUp, accounts, shards, partitions, runs int
	zipf                                                float64
	seed                                                uint64
	kafka, tollgate, keep                               string
	verify, json                                        bool
}

func main() {
	local.MaybeRunEngine()
	var o options
	flag.IntVar(&o.records, "records", 10_000_000, "records of each run")
	flag.IntVar(&o.warmUp, "warm-up", 1_000_000, "records before the first run")
	flag.IntVar(&o.accounts, "accounts", 100_000, "accounts")
	flag.IntVar(&o.shards, "shards", 16, "shards")
	flag.IntVar(&o.partitions, "partitions", 8, "partitions of the carrier topic")
	flag.IntVar(&o.runs, "runs", 1, "runs, each on an installation of its own, of which the median counts")
	flag.Float64Var(&o.zipf, "zipf", 1.1, "skew of the accounts; 0 is uniform")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the workload")
	flag.StringVar(&o.kafka, "kafka", "apache", "apache or embedded")
	flag.StringVar(&o.tollgate, "tollgate", "", "the tollgate binary (default the one beside this one)")
	flag.StringVar(&o.keep, "keep", "", "keep the data in this folder, by runs if there are several")
	flag.BoolVar(&o.verify, "verify", true, "prove afterwards that every record was charged exactly once")
	flag.BoolVar(&o.json, "json", false, "print the results as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tollbench:", err)
		stop()
		os.Exit(1)
	}
}

// run measures, and prints the results.
func (o *options) run(ctx context.Context) error {
	kafka := map[string]local.Part{"embedded": local.EmbeddedKafka, "apache": local.ApacheKafka}[o.kafka]
	if kafka == 0 {
		return fmt.Errorf("unknown Kafka %q: use apache or embedded", o.kafka)
	}
	if o.tollgate == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.tollgate = filepath.Join(filepath.Dir(self), "tollgate")
	}
	cfg := workload.Default(o.seed, o.accounts)
	cfg.Zipf = o.zipf
	load, err := workload.New(cfg)
	if err != nil {
		return err
	}
	var results []result
	for i := range o.runs {
		r, err := o.measure(ctx, kafka, load, i+1)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	median := results[len(results)/2]
	median.Machine = fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(median)
	}
	fmt.Println(median.table())
	return nil
}

// measure is one run on an installation of its own: warm up, measure, prove.
func (o *options) measure(ctx context.Context, kafka local.Part, load *workload.Workload, run int) (r result, err error) {
	say := func(line string) { fmt.Fprintln(os.Stderr, "  "+line) }
	dir := o.keep
	if dir != "" && o.runs > 1 {
		dir = filepath.Join(dir, fmt.Sprintf("run-%d", run))
	}
	stack, err := local.Start(ctx, local.Config{Parts: []local.Part{local.Redis, kafka, local.ClickHouse}, DataDir: dir, Report: say})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	b, err := newBench(ctx, o, stack, load, say)
	if err != nil {
		return r, err
	}
	defer b.close()
	if _, err := b.drain(ctx, o.warmUp); err != nil {
		return r, err
	}
	if r, err = b.drain(ctx, o.records); err != nil {
		return r, err
	}
	say(fmt.Sprintf("run %d: %s", run, r))
	if o.verify && !o.json {
		err = b.verify(ctx)
	}
	return r, err
}
