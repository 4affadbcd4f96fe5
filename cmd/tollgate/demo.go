package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/book"
)

// demoOptions are the flags of the demo.
type demoOptions struct {
	kafka    string
	keep     string
	accounts int
	records  int
	perSec   int
	seed     uint64
}

// demoShards is the number of shards of the demo's installation.
const demoShards = 16

// demoTopics are the carriers of the demo: one topic for each format.
var demoTopics = []bench.Topic{
	{Name: "carrier.tollgate", Format: workload.Tollgate, Source: "own"},
	{Name: "carrier.didww", Format: workload.DIDWW, Source: "didww"},
	{Name: "carrier.twilio-calls", Format: workload.TwilioCall, Source: "twilio"},
	{Name: "carrier.twilio-messages", Format: workload.TwilioMessage, Source: "twilio"},
}

func demoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use: "demo", Short: "Start everything, play realistic traffic, print a statement and the proof", Args: cobra.NoArgs,
		Long: "Start Redis, Kafka and ClickHouse on free loopback ports, open accounts, play realistic carrier traffic with live\n" +
			"progress, then print the daily statement of one account and prove that nothing was lost or charged twice.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := newPrinter(cmd)
			p.json, _ = cmd.Flags().GetBool("json") // a demo is for people, wherever its output goes
			return o.run(cmd.Context(), p, cmd.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.kafka, "kafka", "embedded", "embedded, or apache for Apache Kafka (needs a JDK 17 and Maven)")
	f.StringVar(&o.keep, "keep", "", "keep the data in this folder, to look at and to start again on")
	f.IntVar(&o.accounts, "accounts", 1000, "accounts to open")
	f.IntVar(&o.records, "records", 100_000, "carrier records to play")
	f.IntVar(&o.perSec, "rate", 20_000, "records a second")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the traffic (default the time, so that every run differs)")
	return c
}

// run plays the demo. Progress goes to progress, what is worth keeping to the printer.
func (o *demoOptions) run(ctx context.Context, p *printer, progress io.Writer) (err error) {
	kafka := map[string]local.Part{"embedded": local.EmbeddedKafka, "apache": local.ApacheKafka}[o.kafka]
	if kafka == 0 {
		return usagef("unknown Kafka %q: use embedded or apache", o.kafka)
	}
	say := func(line string) { fmt.Fprintln(progress, "  "+line) }
	fmt.Fprintln(progress, "Starting the servers")
	stack, err := local.Start(ctx, local.Config{Parts: []local.Part{local.Redis, kafka, local.ClickHouse}, DataDir: o.keep, Report: say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	d, err := o.prepare(ctx, stack, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.app.Close()) }()
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- d.app.Serve(serveCtx) }()
	err = d.play(ctx, progress, served)
	if err == nil {
		err = d.show(ctx, p, progress)
	}
	stop()
	return advise(errors.Join(err, <-served))
}

// demo is a running demo.
type demo struct {
	*demoOptions
	stack *local.Stack
	app   *App
	load  map[workload.Format]*workload.Workload
	dir   string
	began time.Time
}

// prepare makes logs and tables, and opens the accounts, unless the kept folder has them.
func (o *demoOptions) prepare(ctx context.Context, stack *local.Stack, say func(string)) (*demo, error) {
	d := &demo{demoOptions: o, stack: stack, dir: stack.DataDir, load: map[workload.Format]*workload.Workload{}}
	for _, topic := range demoTopics {
		cfg := workload.Default(1, o.accounts) // the accounts are the same in every run, the traffic is not
		cfg.Format = topic.Format
		load, err := workload.New(cfg)
		if err != nil {
			return nil, usagef("%w", err)
		}
		d.load[topic.Format] = load
	}
	cfg := localConfig(stack)
	cfg.Recharge.Gateway, cfg.Recharge.AttemptPause = "simulated", 2*time.Second
	cfg.Recharge.Simulated = SimulatedConfig{BookFile: filepath.Join(d.dir, "gateway.jsonl"), DeclinePercent: 20, TimeoutPercent: 5, LatePercent: 10, LateBy: time.Second}
	cfg.HTTP.Listen = freeAddress()
	var err error
	if d.app, err = OpenApp(cfg); err != nil {
		return nil, err
	}
	for _, topic := range demoTopics {
		if err := d.app.makeCarrierTopic(ctx, topic.Name, 4); err != nil {
			return nil, errors.Join(err, d.app.Close())
		}
	}
	file, err := d.writeBook()
	if err == nil {
		err = d.app.migrate(ctx, demoShards, file, say)
	}
	if err == nil {
		err = d.app.copyAccounts(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.app.Close())
	}
	return d, nil
}

// freeAddress is a loopback address that nobody listens on now.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer listener.Close()
	return listener.Addr().String()
}

// writeBook writes the book file of the demo and loads it as `tollgate import` does.
func (d *demo) writeBook() (*book.File, error) {
	path := filepath.Join(d.dir, "book.yml")
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	err = bench.WriteBook(out, d.load[workload.Tollgate], demoTopics)
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	return loadBookFile(path)
}

// play sends the traffic and shows progress until ClickHouse has all of it.
func (d *demo) play(ctx context.Context, progress io.Writer, served <-chan error) error {
	fmt.Fprintf(progress, "Playing %d records of %d carriers, %d accounts\n", d.records, len(demoTopics), d.accounts)
	d.began = time.Now()
	playing, ctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	playing.Go(func() error {
		defer close(done)
		return d.send(ctx)
	})
	playing.Go(func() error {
		meter := newMeter(d.app.registry, progress)
		defer meter.end()
		var sentAt time.Time
		for {
			select {
			case <-done:
				sentAt, done = time.Now(), nil
			case err := <-served:
				return fmt.Errorf("the service ended: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(meterEvery):
			}
			// Recharges go on for a while after the traffic: wait for them, but not for ever.
			if state := meter.show(); done == nil && state.lag == 0 && (state.settled >= 2 || time.Since(sentAt) > settleWithin) {
				return nil
			}
		}
	})
	return playing.Wait()
}

// send plays every carrier's share of the traffic at the wished rate, dated as it goes.
func (d *demo) send(ctx context.Context) error {
	shares := []int{7, 1, 1, 1} // of ten records, by topic
	const slices = 10           // a second
	carriers := make([]*bench.Carrier, len(demoTopics))
	stream := uint16(d.seed%60_000) + 1
	for i, topic := range demoTopics {
		carriers[i] = bench.NewCarrier(d.app.kafka.NewProducer(), d.load[topic.Format].Generator(stream+uint16(i)), topic.Name, 4)
	}
	perSlice := max(1, d.perSec/slices/10) * 10
	for sent := 0; sent < d.records; sent += perSlice {
		began := time.Now()
		batch := min(perSlice, d.records-sent)
		for i, c := range carriers {
			n := batch * shares[i] / 10
			if i == 0 {
				n += batch - batch/10*10
			}
			if err := c.Send(ctx, n, began); err != nil {
				return err
			}
		}
		d.app.clock.Sleep(ctx, time.Second/slices-time.Since(began))
	}
	return nil
}

// show prints the statement of the account with the most lines, the proof, and where to look further.
func (d *demo) show(ctx context.Context, p *printer, progress io.Writer) error {
	if err := d.app.readBook(ctx); err != nil {
		return err
	}
	account, day, err := d.interesting(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "\nStatement of account %d\n", account)
	if err := d.app.showStatement(ctx, p, account, day); err != nil {
		return err
	}
	fmt.Fprintln(progress, "\nProof")
	report, err := d.app.verify(ctx, 30*time.Second)
	if err != nil {
		return err
	}
	err = showReport(p, report)
	fmt.Fprintf(progress, "\n%d records in %s. To look further, add --keep DIR, and while it runs:\n", d.records, time.Since(d.began).Round(100*time.Millisecond))
	host, port, _ := net.SplitHostPort(d.stack.ClickHouseAddr)
	fmt.Fprintf(progress, "  clickhouse client --host %s --port %s --database tollgate --query 'SELECT * FROM daily_usage LIMIT 10'\n", host, port)
	fmt.Fprintf(progress, "  curl http://%s/metrics\n", d.app.cfg.HTTP.Listen)
	if d.keep != "" {
		fmt.Fprintf(progress, "The data is kept in %s, with its book in book.yml; the same command goes on there.\n", d.keep)
	}
	return err
}

// interesting finds an account that was recharged or suspended and has many records, and its newest statement day.
func (d *demo) interesting(ctx context.Context) (account uint32, day time.Time, err error) {
	row := d.app.clickhouse.Conn().QueryRow(ctx, `
		SELECT account_id, max(statement_day) AS day
		FROM (SELECT account_id, statement_day, 0 AS paid FROM rated_records FINAL WHERE result = 'charged'
		      UNION ALL SELECT account_id, statement_day, 1 FROM account_entries FINAL WHERE kind = 'payment' AND result = 'applied')
		GROUP BY account_id ORDER BY least(sum(paid), 2) DESC, count() > 200, count() DESC LIMIT 1`)
	if err := row.Scan(&account, &day); err != nil {
		return 0, day, fmt.Errorf("cannot find an account to show: %w", err)
	}
	return account, day, nil
}

const (
	meterEvery   = 250 * time.Millisecond // how often progress is shown
	settleWithin = 3 * time.Second        // how long the demo waits for accounts to come to rest after the traffic
)
