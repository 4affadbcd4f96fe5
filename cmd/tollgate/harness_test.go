package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/sink/verify"
)

// The tests run the real program as child processes: the test binary is also tollgate, when this variable says so.
const (
	asTollgate = "TOLLGATE_TEST_MAIN"
	asCommand  = "command" // ends by itself
	asService  = "service" // ends with the test that started it: when its standard input does
)

func TestMain(m *testing.M) {
	switch os.Getenv(asTollgate) {
	case asService:
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(exitFailed)
		}()
		main()
	case asCommand:
		main()
	default:
		os.Exit(m.Run())
	}
}

// seed gives the seed of a test's dice: TOLLGATE_SEED, or a new one.
func seed(t *testing.T) uint64 {
	n := rand.Uint64N(1 << 32)
	if text := os.Getenv("TOLLGATE_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TOLLGATE_SEED: %v", err)
		}
	}
	t.Logf("seed %d (repeat with TOLLGATE_SEED=%d)", n, n)
	return n
}

// longRun tells whether the long form of a test is wanted.
func longRun() bool { return os.Getenv("TOLLGATE_LONG") != "" }

// shards is the number of shards of the tests' installations.
const testShards = 8

// installation is a migrated installation on servers of its own. Its book is the workload's.
type installation struct {
	*testing.T
	dir   string
	stack *local.Stack
	cfg   Config
	app   *App // the test's own connections
	feeds []*feed
}

// source is a carrier topic of an installation, and how large a part of the traffic it gets.
type source struct {
	topic      string
	format     workload.Format
	partitions int32
	share      float64
}

// carriers are the carrier topics of a test with much traffic.
var carriers = []source{
	{"carrier.own", workload.Tollgate, 4, 0.7}, {"carrier.didww", workload.DIDWW, 2, 0.1},
	{"carrier.calls", workload.TwilioCall, 2, 0.1}, {"carrier.messages", workload.TwilioMessage, 1, 0.1},
}

// options are what a test wants otherwise.
type options struct {
	seed     uint64
	accounts int
	sources  []source
	// book is the book file instead of the workload's; bookText is appended to the workload's.
	book, bookText string
	// unopened leaves migrating to the test.
	unopened bool
	parts    []local.Part
	change   func(*Config)
}

// newInstallation starts servers, makes the carrier topics, and opens an installation.
func newInstallation(t *testing.T, o options) *installation {
	t.Helper()
	if len(o.parts) == 0 {
		o.parts = []local.Part{local.Redis, local.ApacheKafka, local.ClickHouse}
	}
	in := &installation{T: t, stack: local.ForTest(t, o.parts...), dir: t.TempDir()}
	in.cfg = localConfig(in.stack)
	in.cfg.Kafka.Session = 6 * time.Second // the least that Kafka allows by default
	if o.change != nil {
		o.change(&in.cfg)
	}
	var err error
	if in.app, err = OpenApp(in.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.app.Close() })
	var topics []bench.Topic
	o.accounts = max(o.accounts, 1)
	for i, s := range o.sources {
		mix := workload.Default(o.seed, o.accounts)
		mix.Format, mix.OutOfBoundsShare = s.format, 0.0005
		load, err := workload.New(mix)
		if err != nil {
			t.Fatal(err)
		}
		topics = append(topics, bench.Topic{Name: s.topic, Format: s.format, Source: s.topic})
		in.feeds = append(in.feeds, &feed{s, bench.NewBundlingCarrier(in.app.kafka.NewProducer(), load.Generator(uint16(i)), s.topic, s.partitions)})
		if err := in.app.makeCarrierTopic(t.Context(), s.topic, s.partitions); err != nil {
			t.Fatal(err)
		}
	}
	if !o.unopened {
		in.open(o, topics)
	}
	return in
}

// open migrates with the book of the workload. All workloads of a seed have the same accounts.
func (in *installation) open(o options, topics []bench.Topic) {
	in.Helper()
	load, err := workload.New(workload.Default(o.seed, o.accounts))
	in.must(err)
	var text bytes.Buffer
	in.must(bench.WriteBook(&text, load, topics))
	text.WriteString(o.bookText)
	if o.book != "" {
		text = *bytes.NewBufferString(o.book)
	}
	path := filepath.Join(in.dir, "book.yml")
	in.must(os.WriteFile(path, text.Bytes(), 0o600))
	file, err := loadBookFile(path)
	in.must(err)
	in.must(in.app.migrate(in.Context(), testShards, file, func(line string) { in.Log(line) }))
}

func (in *installation) must(err error) {
	in.Helper()
	if err != nil {
		in.Fatal(err)
	}
}

// configFile writes the config that a process of its own is to have.
func (in *installation) configFile(name string, change func(*Config)) string {
	in.Helper()
	c := in.cfg
	if change != nil {
		change(&c)
	}
	text, err := yaml.Marshal(c)
	in.must(err)
	path := filepath.Join(in.dir, name+".yml")
	in.must(os.WriteFile(path, text, 0o600))
	return path
}

// await polls until done tells true, or fails the test with what done said last.
func (in *installation) await(limit time.Duration, what string, done func() (ok bool, now string)) {
	in.Helper()
	began, deadline := time.Now(), time.Now().Add(limit)
	for {
		ok, now := done()
		if ok {
			in.Logf("%s: %s, after %.1f s", what, now, time.Since(began).Seconds())
			return
		}
		if time.Now().After(deadline) || in.Context().Err() != nil {
			in.Fatalf("%s: not within %s; last seen: %s", what, limit, now)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// rated waits until the rate stage has committed all that the carriers wrote.
func (in *installation) rated(limit time.Duration) {
	in.Helper()
	in.must(in.app.readBook(in.Context()))
	in.await(limit, "all records are rated", func() (bool, string) {
		ctx := in.Context()
		found, err := proof{in.app}.Committed(ctx)
		if err != nil {
			return false, err.Error()
		}
		committed := map[string]int64{}
		for _, r := range found {
			committed[r.Name] = r.Next
		}
		left := int64(0)
		for _, f := range in.feeds {
			for p := range f.partitions {
				edges, err := in.app.kafka.ListOffsets(ctx, f.topic, []int32{p})
				if err != nil {
					return false, err.Error()
				}
				left += edges[0].End - committed[fmt.Sprintf("%s[%d]", f.topic, p)]
			}
		}
		return left == 0, fmt.Sprintf("%d messages left", left)
	})
}

// count asks ClickHouse for a number.
func (in *installation) count(query string, args ...any) (uint64, error) {
	var n uint64
	ctx, cancel := context.WithTimeout(in.Context(), time.Minute)
	defer cancel()
	err := in.app.clickhouse.Conn().QueryRow(ctx, query, args...).Scan(&n)
	return n, err
}

// counted waits until a query gives what is expected.
func (in *installation) counted(limit time.Duration, want uint64, what, query string, args ...any) {
	in.Helper()
	in.await(limit, what, func() (bool, string) {
		n, err := in.count(query, args...)
		if err != nil {
			return false, err.Error()
		}
		return n == want, fmt.Sprintf("%d of %d", n, want)
	})
}

// verify recounts everything.
func (in *installation) verify() *verify.Report {
	in.Helper()
	in.must(in.app.readBook(in.Context()))
	began := time.Now()
	report, err := in.app.verify(in.Context(), time.Minute)
	in.must(err)
	for _, note := range report.Notes {
		in.Log("note:", note)
	}
	for _, example := range report.Examples {
		in.Log("difference:", example)
	}
	in.Logf("%s; %d rows, %d records, in %.1f s", report, report.Rows, report.Records, time.Since(began).Seconds())
	return report
}

// exact waits until everything is through, and demands that each record came to its end exactly once: by verify, and by
// what the carriers know of what they wrote.
func (in *installation) exact() {
	in.Helper()
	in.rated(2 * time.Minute)
	counts := in.counts()
	valid := counts.ByKind[workload.Valid]
	in.counted(2*time.Minute, valid, "valid records charged", "SELECT count() FROM rated_records FINAL WHERE result = 'charged'")
	in.counted(time.Minute, valid+counts.ByKind[workload.Duplicate], "valid records and copies",
		"SELECT count() FROM rated_records FINAL WHERE kind = 'usage' AND result != 'repeated'")
	in.counted(time.Minute, valid, "ids charged", "SELECT uniqExact(id_hash) FROM rated_records FINAL WHERE result = 'charged'")
	for _, kind := range []workload.Kind{workload.UnknownNumber, workload.Malformed, workload.NoPrice, workload.OutOfBounds} {
		in.counted(time.Minute, counts.ByKind[kind], "dead letters, "+kind.String(),
			"SELECT count() FROM dead_letters FINAL WHERE result = 'rejected' AND reason = ?", kind.String())
	}
	report := in.verify()
	if report.Differences != 0 {
		in.Errorf("%s", report)
	}
	if report.Records != int64(counts.Records()) {
		in.Errorf("verify saw %d records, the carriers wrote %d", report.Records, counts.Records())
	}
	if len(report.Notes) > 0 {
		in.Errorf("verify left something out: %q", report.Notes)
	}
}
