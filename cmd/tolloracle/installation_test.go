package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	kafka "github.com/segmentio/kafka-go"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/oracle"
	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
)

// carriers are the carrier topics of the test: one of each format.
var carriers = []struct {
	topic      string
	format     workload.Format
	partitions int
	records    int
}{
	{"carrier.own", workload.Tollgate, 4, 12_000}, {"carrier.didww", workload.DIDWW, 2, 3_000},
	{"carrier.calls", workload.TwilioCall, 2, 3_000}, {"carrier.messages", workload.TwilioMessage, 1, 2_000},
}

const (
	testAccounts = 500
	testSeed     = 4711
	// shortWindow makes ids be remembered for 13 hours only, so that records that are late by a day are decided anew.
	shortWindow = "params:\n  - {param: window-ms, value: 46800000}\n"
)

// installation is a real one: servers, and the built program.
type installation struct {
	*testing.T
	stack             *local.Stack
	dir, program      string
	config, book      string
	gateway, accepted string
	rows              driver.Conn
	sent              uint64
}

// newInstallation starts the servers, and opens an installation with the book of the workload.
func newInstallation(t *testing.T) *installation {
	t.Helper()
	dir := t.TempDir()
	in := &installation{T: t, dir: dir, stack: local.ForTest(t, local.Redis, local.ApacheKafka, local.ClickHouse),
		program: filepath.Join(dir, "tollgate"), config: filepath.Join(dir, "tollgate.yml"), book: filepath.Join(dir, "book.yml"),
		gateway: filepath.Join(dir, "gateway.jsonl"), accepted: filepath.Join(dir, "credits.jsonl")}
	build := exec.Command("go", "build", "-o", in.program, "../tollgate")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build tollgate: %v\n%s", err, out)
	}
	in.must(os.WriteFile(in.config, fmt.Appendf(nil, `installation: oracle
kafka: {brokers: [%q], replication: 1, append_time_bit: %t}
redis: {addresses: [%q]}
clickhouse: {addresses: [%q]}
http: {listen: ""}
log: {level: warn}
recharge: {gateway: simulated, attempt_pause: 1s, simulated: {book_file: %q, seed: 3, decline_percent: 10, timeout_percent: 10, late_percent: 10, late_by: 1s}}
`, in.stack.KafkaAddr, in.stack.AppendTimeBit, in.stack.RedisAddr, in.stack.ClickHouseAddr, in.gateway), 0o600))
	in.makeTopics()
	in.writeBook()
	in.tollgate("migrate", "--shards", "8", "--book", in.book)
	var err error
	in.rows, err = clickhouse.Open(&clickhouse.Options{Addr: []string{in.stack.ClickHouseAddr}, Auth: clickhouse.Auth{Database: "tollgate"}})
	in.must(err)
	t.Cleanup(func() { in.rows.Close() })
	return in
}

func (in *installation) must(err error) {
	in.Helper()
	if err != nil {
		in.Fatal(err)
	}
}

// makeTopics makes the carrier topics, which the broker stamps.
func (in *installation) makeTopics() {
	in.Helper()
	client := kafka.Client{Addr: kafka.TCP(in.stack.KafkaAddr)}
	request := &kafka.CreateTopicsRequest{}
	for _, c := range carriers {
		request.Topics = append(request.Topics, kafka.TopicConfig{Topic: c.topic, NumPartitions: c.partitions, ReplicationFactor: 1,
			ConfigEntries: []kafka.ConfigEntry{{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"}}})
	}
	answer, err := client.CreateTopics(in.Context(), request)
	in.must(err)
	for _, err := range answer.Errors {
		in.must(err)
	}
}

func (in *installation) writeBook() {
	in.Helper()
	load, err := workload.New(workload.Default(testSeed, testAccounts))
	in.must(err)
	var topics []bench.Topic
	for _, c := range carriers {
		topics = append(topics, bench.Topic{Name: c.topic, Format: c.format, Source: c.topic})
	}
	var text bytes.Buffer
	in.must(bench.WriteBook(&text, load, topics))
	text.WriteString(shortWindow)
	in.must(os.WriteFile(in.book, text.Bytes(), 0o600))
}

// tollgate runs a command to its end.
func (in *installation) tollgate(args ...string) {
	in.Helper()
	out, err := exec.CommandContext(in.Context(), in.program, append([]string{"--config", in.config}, args...)...).CombinedOutput()
	if err != nil {
		in.Fatalf("tollgate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serve runs the service, and gives what stops it.
func (in *installation) serve() (stop func()) {
	in.Helper()
	logFile, err := os.Create(filepath.Join(in.dir, "serve.log"))
	in.must(err)
	service := exec.Command(in.program, "serve", "--config", in.config)
	service.Stdout, service.Stderr = logFile, logFile
	service.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in.must(service.Start())
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait()
		logFile.Close()
	}
	in.Cleanup(func() {
		stop()
		if text, _ := os.ReadFile(logFile.Name()); in.Failed() {
			in.Logf("what the service said:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return stop
}

// play writes the carriers' records: most alone, some in arrays, lines and gzip, and some that are nothing at all.
func (in *installation) play() {
	in.Helper()
	for i, c := range carriers {
		mix := workload.Default(testSeed, testAccounts)
		mix.Format, mix.OutOfBoundsShare, mix.TooFarAheadShare = c.format, 0.001, 0.001
		load, err := workload.New(mix)
		in.must(err)
		generator := load.Generator(uint16(i))
		var messages []kafka.Message
		made := func() uint64 {
			counts := generator.Counts()
			return counts.Records()
		}
		for turn := 0; made() < uint64(c.records); turn++ {
			messages = append(messages, kafka.Message{Value: in.message(generator, turn)})
		}
		messages = append(messages, kafka.Message{Value: []byte(" ")}, kafka.Message{Value: []byte("[]")}, kafka.Message{Value: []byte(`[{"id":tru}, 7`)})
		in.sent += made() + 5 // what is odd makes 1, 1 and 3
		writer := &kafka.Writer{Addr: kafka.TCP(in.stack.KafkaAddr), Topic: c.topic, Balancer: &kafka.RoundRobin{}, BatchSize: 2000,
			BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireAll, Compression: kafka.Compression(i)}
		in.must(writer.WriteMessages(in.Context(), messages...))
		in.must(writer.Close())
	}
}

// message makes a message of one record, or now and then of several.
func (in *installation) message(g *workload.Generator, turn int) []byte {
	now := time.Now().UnixMilli()
	if turn%50 != 0 {
		message, _ := g.Append(nil, now)
		return message
	}
	message, _ := g.AppendMessage(nil, nil, now, workload.Layout(turn/50%2), 12)
	if turn/100%2 == 0 {
		return message
	}
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write(message) // into memory: it cannot fail
	_ = zip.Close()
	return zipped.Bytes()
}

// credit tops an account up, and notes that it was accepted.
func (in *installation) credit(account int, amount, key, kind string) {
	in.Helper()
	args := []string{"topup", "--key", key}
	if kind == "adjustment" {
		args = append(args, "--note", "a correction")
	}
	in.tollgate(append(args, "--", strconv.Itoa(account), amount)...)
	line, _ := json.Marshal(map[string]any{"account": account, "currency": in.currency(account), "amount": amount, "key": key, "kind": kind})
	in.edit(in.accepted, func(text []byte) []byte { return append(append(text, line...), '\n') })
}

func (in *installation) currency(account int) (currency string) {
	in.Helper()
	in.must(in.rows.QueryRow(in.Context(), "SELECT toString(currency) FROM accounts FINAL WHERE account_id = ?", account).Scan(&currency))
	return currency
}

// edit changes a file, and gives what undoes it.
func (in *installation) edit(path string, change func([]byte) []byte) (undo func()) {
	in.Helper()
	before, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		in.Fatal(err)
	}
	in.must(os.WriteFile(path, change(bytes.Clone(before)), 0o600))
	return func() { in.must(os.WriteFile(path, before, 0o600)) }
}

// await polls until done.
func (in *installation) await(limit time.Duration, what string, done func() (ok bool, now string)) {
	in.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, now := done()
		if ok {
			return
		}
		if time.Now().After(deadline) || in.Context().Err() != nil {
			in.Fatalf("%s: not within %s; last seen: %s", what, limit, now)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// settle waits until every record has its row, and every recharge is credited or given up: one that is open may be charged
// at any moment.
func (in *installation) settle() {
	in.Helper()
	in.await(2*time.Minute, "every record has its row", func() (bool, string) {
		var n uint64
		err := in.rows.QueryRow(in.Context(), `SELECT (SELECT count() FROM rated_records FINAL WHERE kind = 'usage' AND result != 'repeated')
			+ (SELECT count() FROM dead_letters FINAL WHERE result = 'rejected')`).Scan(&n)
		return err == nil && n == in.sent, fmt.Sprintf("%d of %d rows, %v", n, in.sent, err)
	})
	in.await(time.Minute, "no recharge is open", func() (bool, string) {
		const givenUp = 128
		var n uint64
		err := in.rows.QueryRow(in.Context(), `WITH decided AS (SELECT shard, entry_offset, ix FROM rated_records FINAL WHERE intent_units != 0
				UNION ALL SELECT shard, entry_offset, ix FROM account_entries FINAL WHERE intent_units != 0)
			SELECT count() FROM decided WHERE (shard, entry_offset, toInt64(ix)) NOT IN (SELECT shard, arg0, arg1 FROM account_entries FINAL
				WHERE kind = 'payment' AND result = 'applied' OR kind = 'payment-failed' AND bitAnd(flags, ?) != 0)`, givenUp).Scan(&n)
		return err == nil && n == 0, fmt.Sprintf("%d are, %v", n, err)
	})
}

// compare runs the program on the installation, and gives its exit status and what it printed.
func (in *installation) compare(more ...string) (status int, report oracle.Report) {
	in.Helper()
	out, err := os.Create(filepath.Join(in.dir, "report.json"))
	in.must(err)
	defer out.Close()
	var progress bytes.Buffer
	ctx, cancel := context.WithTimeout(in.Context(), 5*time.Minute)
	defer cancel()
	args := []string{"--kafka", in.stack.KafkaAddr, "--clickhouse", in.stack.ClickHouseAddr, "--book", in.book, "--gateway", in.gateway, "--credits", in.accepted}
	status = run(ctx, append(args, more...), out, &progress)
	text, err := os.ReadFile(out.Name())
	in.must(err)
	if status == exitFailed {
		in.Fatalf("the oracle failed:\n%s", progress.String())
	}
	in.must(json.Unmarshal(text, &report))
	return status, report
}

// closedAddress is one at which nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
