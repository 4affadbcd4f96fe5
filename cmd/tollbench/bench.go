package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

// carrierTopic is the topic of the workload.
const carrierTopic = "carrier.bench"

// Limits of a run.
const (
	pollEvery  = 200 * time.Millisecond
	stallAfter = 2 * time.Minute // a drain that gets no further for so long has failed
	streams    = 2               // carriers that fill the backlog side by side
)

// benchmark is the running stack with what is needed to fill and to measure it.
type benchmark struct {
	*options
	stack  *local.Stack
	load   *workload.Workload
	client *stream.Client
	rows   driver.Conn
	config string
	http   string
	say    func(string)
	turn   uint16
	sent   int // records in the topic so far
}

// newBench migrates the installation with the workload's book.
func newBench(ctx context.Context, o *options, stack *local.Stack, load *workload.Workload, say func(string)) (*benchmark, error) {
	b := &benchmark{options: o, stack: stack, load: load, say: say, config: filepath.Join(stack.DataDir, "tollgate.yml"), http: "127.0.0.1:19464"}
	var err error
	if b.client, err = stream.New(stream.Config{Brokers: []string{stack.KafkaAddr}, Codec: stream.CodecLZ4, BatchMaxBytes: 1 << 20}); err != nil {
		return nil, err
	}
	if b.rows, err = clickhouse.Open(&clickhouse.Options{Addr: []string{stack.ClickHouseAddr}, Auth: clickhouse.Auth{Database: "tollgate"}}); err != nil {
		return nil, err
	}
	if _, err := b.client.EnsureTopic(ctx, stream.TopicSpec{Name: carrierTopic, Partitions: int32(o.partitions), Replication: 1,
		Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}}); err != nil {
		return nil, err
	}
	if err := b.writeFiles(); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("opening %d accounts", o.accounts))
	return b, b.command(ctx, "migrate", "--shards", strconv.Itoa(o.shards), "--book", filepath.Join(stack.DataDir, "book.yml"))
}

// writeFiles writes the config and the book.
func (b *benchmark) writeFiles() error {
	config := fmt.Sprintf(`installation: bench
kafka: {brokers: [%q], replication: 1, append_time_bit: %t}
redis: {addresses: [%q]}
clickhouse: {addresses: [%q]}
http: {listen: %q}
log: {level: warn}
recharge: {gateway: simulated, simulated: {book_file: %q, decline_percent: 10}}
`, b.stack.KafkaAddr, b.stack.AppendTimeBit, b.stack.RedisAddr, b.stack.ClickHouseAddr, b.http, filepath.Join(b.stack.DataDir, "gateway.jsonl"))
	if err := os.WriteFile(b.config, []byte(config), 0o600); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(b.stack.DataDir, "book.yml"))
	if err != nil {
		return err
	}
	err = bench.WriteBook(out, b.load, []bench.Topic{{Name: carrierTopic, Format: workload.Tollgate, Source: "bench"}})
	return errors.Join(err, out.Close())
}

func (b *benchmark) close() {
	b.client.Close()
	_ = b.rows.Close()
}

// command runs one command of tollgate to its end.
func (b *benchmark) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.options.tollgate, append([]string{"--config", b.config}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("tollgate %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// verify has everything recounted, and prints what was found and what it took. Nothing else runs meanwhile.
func (b *benchmark) verify(ctx context.Context) error {
	before, err := b.measure(nil)
	if err != nil {
		return err
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, b.options.tollgate, "--config", b.config, "verify")
	cmd.Stderr = os.Stderr
	out, failure := cmd.Output()
	fmt.Printf("%s", out)
	p := proof{Seconds: time.Since(began).Seconds(), CPUSeconds: map[string]float64{}}
	if cmd.ProcessState == nil || json.Unmarshal(out, &p) != nil {
		return errors.Join(failure, errors.New("tollgate verify gave no report"))
	}
	p.CPUSeconds["Tollgate"] = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	after, err := b.measure(nil)
	for name, used := range after {
		p.CPUSeconds[name] = (used - before[name]).Seconds()
	}
	fmt.Println(p)
	return errors.Join(failure, err)
}

// drain fills the backlog with n records while nothing runs, starts the service, and measures until all are visible.
func (b *benchmark) drain(ctx context.Context, n int) (result, error) {
	load := bench.Load{Client: b.client, Work: b.load, Topic: carrierTopic, Streams: streams, FirstStream: b.turn}
	b.turn += streams
	b.say(fmt.Sprintf("filling the backlog with %d records", n))
	if _, err := load.Send(ctx, n, time.Now()); err != nil {
		return result{}, err
	}
	b.sent += n
	service := exec.Command(b.options.tollgate, "--config", b.config, "serve")
	service.Stderr, service.SysProcAttr = os.Stderr, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	before, err := b.measure(nil)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	if err := service.Start(); err != nil {
		return result{}, err
	}
	defer func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait()
	}()
	visible, err := b.await(ctx)
	if err != nil {
		return result{}, err
	}
	wall := visible.Sub(began)
	after, err := b.measure(service)
	if err != nil {
		return result{}, err
	}
	r := result{Records: n, Seconds: wall.Seconds(), PerSecond: float64(n) / wall.Seconds(), Accounts: b.accounts, Zipf: b.zipf, Shards: b.shards, Kafka: b.kafka}
	for name, used := range after {
		r.CPU = append(r.CPU, share{name, (used - before[name]).Seconds() * 1e6 / float64(n)})
	}
	return r.sorted(), nil
}

// measure reads the processor time of every process.
func (b *benchmark) measure(service *exec.Cmd) (map[string]time.Duration, error) {
	pids := map[string]int{"Redis": b.stack.Redis.PID(), "Kafka": b.stack.Kafka.PID(), "ClickHouse": b.stack.ClickHouse.PID()}
	if service != nil {
		pids["Tollgate"] = service.Process.Pid
	}
	used := map[string]time.Duration{}
	for name, pid := range pids {
		cpu, err := bench.CPU(pid)
		if err != nil {
			return nil, err
		}
		used[name] = cpu
	}
	return used, nil
}

// await waits until every record sent so far has its row, and gives the time when that was. The cheap count finds it, the
// exact one, with FINAL, confirms it.
func (b *benchmark) await(ctx context.Context) (time.Time, error) {
	const physical = "SELECT (SELECT count() FROM rated_records) + (SELECT count() FROM dead_letters)" // costs nothing
	const distinct = "SELECT (SELECT count() FROM rated_records FINAL WHERE result != 'repeated') + (SELECT count() FROM dead_letters FINAL WHERE result != 'repeated')"
	last, moved := uint64(0), time.Now()
	for {
		var rows uint64
		if err := b.rows.QueryRow(ctx, physical).Scan(&rows); err != nil {
			return time.Time{}, err
		}
		if counted := time.Now(); rows >= uint64(b.sent) && rows != last {
			var visible uint64
			if err := b.rows.QueryRow(ctx, distinct).Scan(&visible); err != nil || visible >= uint64(b.sent) {
				return counted, err
			}
		}
		if rows != last {
			last, moved = rows, time.Now()
		}
		if time.Since(moved) > stallAfter {
			return time.Time{}, fmt.Errorf("only %d of %d records are visible, and nothing moves; lag: %v", rows, b.sent, b.lag())
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// lag reads the service's lag from its metrics, for a message.
func (b *benchmark) lag() []string {
	answer, err := http.Get("http://" + b.http + "/metrics")
	if err != nil {
		return []string{err.Error()}
	}
	defer answer.Body.Close()
	var lines []string
	for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
		if line := scanner.Text(); strings.Contains(line, "_lag_") && !strings.HasPrefix(line, "#") && !strings.HasSuffix(line, " 0") {
			lines = append(lines, line)
		}
	}
	return lines
}
