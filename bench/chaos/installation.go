package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

const (
	name    = "chaos" // of the installation
	session = 3 * time.Second
	// shortWindow makes ids be remembered for 13 hours only, so that records that are late by a day are asked for in ClickHouse.
	shortWindow = "params:\n  - {param: window-ms, value: 46800000}\n"
	// recordsPerCent keeps the number of recharges in bounds: the more records, the more money the accounts hold.
	recordsPerCent = 1500
	leastCents     = 1000
	// An image of a shard is due after so many entries, or more where a shard would have more than so many images.
	leastImageEntries = 20_000
	imagesOfShard     = 1000
)

// carrier is a carrier topic, and how large a part of the traffic it has.
type carrier struct {
	bench.Topic
	partitions int32
	share      float64
}

// carriers are the carriers: 70 % of the records in Tollgate's own format.
var carriers = []carrier{
	{bench.Topic{Name: "carrier.own", Format: workload.Tollgate, Source: "own"}, 4, 0.7},
	{bench.Topic{Name: "carrier.didww", Format: workload.DIDWW, Source: "didww"}, 2, 0.1},
	{bench.Topic{Name: "carrier.calls", Format: workload.TwilioCall, Source: "twilio"}, 2, 0.1},
	{bench.Topic{Name: "carrier.messages", Format: workload.TwilioMessage, Source: "twilio"}, 1, 0.1},
}

// installation is everything that runs: servers, links, services, carriers.
type installation struct {
	cfg    Config
	dir    string
	stack  *local.Stack
	began  time.Time
	report *Report

	links    []*link // between the services or the carriers and the servers
	pair     *pair
	services []*service
	feeds    []*feed
	cashier  *cashier
	accounts []workload.Account
	direct   *stream.Client // to Kafka, without a link
	carriers *stream.Client // by the carriers' link

	supervised sync.WaitGroup
	stop       context.CancelFunc
	failures   []error // of supervisors, by service
}

const servicesCount = 2

// open starts the servers, migrates, and starts the services.
func open(ctx context.Context, cfg Config) (_ *installation, err error) {
	in := &installation{cfg: cfg, report: newReport(&cfg)}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	kafkaLinks, replication, err := in.makeLinks()
	if err != nil {
		return nil, err
	}
	proxies := make([]string, len(kafkaLinks))
	for i, l := range kafkaLinks {
		proxies[i] = l.address()
	}
	in.stack, err = local.Start(ctx, local.Config{
		Parts:   []local.Part{local.Redis, local.RedisReplica, local.ApacheKafka, local.ClickHouse},
		DataDir: cfg.DataDir, Report: cfg.Say, KafkaProxies: proxies, OwnDisks: []local.Part{local.Redis, local.RedisReplica},
	})
	if err != nil {
		return nil, err
	}
	in.dir = in.stack.DataDir
	if !in.stack.Redis.OwnDisk() || !in.stack.RedisReplica.OwnDisk() {
		in.report.LeftOut = append(in.report.LeftOut, "redis disk full: no disk of its own could be mounted")
	}
	for i, l := range kafkaLinks {
		if err := l.lead(in.stack.KafkaBehind[i]); err != nil {
			return nil, err
		}
	}
	if err := in.connect(ctx, kafkaLinks, replication); err != nil {
		return nil, err
	}
	return in, in.serve(ctx, kafkaLinks)
}

// makeLinks makes the links to Kafka, the last of which is the carriers', and the one of the replica to its master.
func (in *installation) makeLinks() (kafka []*link, replication *link, err error) {
	for i := range servicesCount {
		l, err := newLink(fmt.Sprintf("tollgate-%d to kafka", i+1))
		if err != nil {
			return nil, nil, err
		}
		kafka = append(kafka, l)
	}
	carriers, err := newLink("carriers to kafka")
	if err != nil {
		return nil, nil, err
	}
	in.links = append(in.links, append(kafka, carriers)...)
	replication, err = newLink("redis replica to redis")
	return in.links[:len(in.links):len(in.links)], replication, err
}

// connect makes the pair of Redis servers, the clients, the topics and the book.
func (in *installation) connect(ctx context.Context, kafkaLinks []*link, replication *link) (err error) {
	in.pair = &pair{
		servers:     [2]*local.Server{in.stack.Redis, in.stack.RedisReplica},
		addresses:   [2]string{in.stack.RedisAddr, in.stack.RedisReplicaAddr},
		replication: replication, report: in.report,
	}
	if err := in.pair.rejoin(ctx); err != nil {
		return err
	}
	if in.direct, err = stream.New(stream.Config{Brokers: []string{in.stack.KafkaAddr}}); err != nil {
		return err
	}
	carriersLink := kafkaLinks[len(kafkaLinks)-1]
	if in.carriers, err = stream.New(stream.Config{Brokers: []string{carriersLink.address()}, Codec: stream.CodecLZ4, ClientID: "carriers"}); err != nil {
		return err
	}
	var topics []bench.Topic
	for i, c := range carriers {
		mix := in.mix()
		mix.Format, mix.OutOfBoundsShare = c.Format, 0.0005
		load, err := workload.New(mix)
		if err != nil {
			return err
		}
		topics = append(topics, c.Topic)
		in.feeds = append(in.feeds, &feed{carrier: c, Carrier: bench.NewBundlingCarrier(in.carriers.NewProducer(), load.Generator(uint16(i)), c.Name, c.partitions)})
		if _, err := in.direct.EnsureTopic(ctx, stream.TopicSpec{Name: c.Name, Partitions: c.partitions, Replication: 1,
			Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}}); err != nil {
			return err
		}
	}
	return in.writeBook(topics)
}

// mix is the workload. The workloads of all carriers have the same accounts.
func (in *installation) mix() workload.Config {
	mix := workload.Default(in.cfg.Seed, in.cfg.Accounts)
	mix.TypicalBalanceCents = max(leastCents, in.records()/recordsPerCent)
	return mix
}

// records is how many records the carriers are to write.
func (in *installation) records() int64 {
	return int64(in.cfg.Duration.Seconds() * float64(in.cfg.RecordsPerSecond))
}

func (in *installation) path(file string) string { return filepath.Join(in.dir, file) }

func (in *installation) writeBook(topics []bench.Topic) error {
	load, err := workload.New(in.mix())
	if err != nil {
		return err
	}
	for a := range load.Accounts() {
		in.accounts = append(in.accounts, a)
	}
	in.cashier = newCashier(in, load)
	var text bytes.Buffer
	if err := bench.WriteBook(&text, load, topics); err != nil {
		return err
	}
	text.WriteString(shortWindow)
	return os.WriteFile(in.path("book.yml"), text.Bytes(), 0o600)
}

// serve migrates and starts the services, each with links of its own.
func (in *installation) serve(ctx context.Context, kafkaLinks []*link) error {
	supervised, stop := context.WithCancel(context.WithoutCancel(ctx))
	in.stop, in.failures = stop, make([]error, servicesCount)
	for i := range servicesCount {
		redis, clickhouse, err := in.linkServers(i)
		if err != nil {
			return err
		}
		listen, err := local.FreeAddress()
		if err != nil {
			return err
		}
		s := &service{name: fmt.Sprintf("tollgate-%d", i+1), program: in.cfg.Tollgate, listen: listen, launch: in.stack.Launch}
		s.config, s.logFile = in.path(s.name+".yml"), in.path(s.name+".log")
		if err := in.writeConfig(s.config, kafkaLinks[i].address(), redis.address(), clickhouse.address(), listen); err != nil {
			return err
		}
		in.services = append(in.services, s)
	}
	if err := in.writeConfig(in.path(commandsConfig), in.stack.KafkaAddr, in.pair.clients[0].address(), in.stack.ClickHouseAddr, ""); err != nil {
		return err
	}
	in.say("opening %d accounts in %d shards", in.cfg.Accounts, in.cfg.Shards)
	if _, err := in.command(ctx, "migrate", "--shards", strconv.Itoa(in.cfg.Shards), "--book", in.path("book.yml")); err != nil {
		return err
	}
	for i, s := range in.services {
		in.supervised.Go(func() { in.failures[i] = s.keep(supervised) })
	}
	return nil
}

// linkServers makes the links of one service to Redis and to ClickHouse.
func (in *installation) linkServers(i int) (redis, clickhouse *link, err error) {
	if redis, err = newLink(fmt.Sprintf("tollgate-%d to redis", i+1)); err != nil {
		return nil, nil, err
	}
	if clickhouse, err = newLink(fmt.Sprintf("tollgate-%d to clickhouse", i+1)); err != nil {
		return nil, nil, err
	}
	in.links = append(in.links, redis, clickhouse)
	in.pair.clients = append(in.pair.clients, redis)
	return redis, clickhouse, errors.Join(redis.lead(in.stack.RedisAddr), clickhouse.lead(in.stack.ClickHouseAddr))
}

// commandsConfig is the config of the commands that an operator runs meanwhile. They reach Redis as the first service does,
// Kafka and ClickHouse directly.
const commandsConfig = "commands.yml"

func (in *installation) writeConfig(path, kafka, redis, clickhouse, listen string) error {
	text := fmt.Sprintf(`installation: %s
kafka: {brokers: [%q], replication: 1, session: %s}
drain_within: 2s
redis: {addresses: [%q]}
clickhouse: {addresses: [%q]}
audit: {image_entries: %d, image_every: 1m}
recharge:
  gateway: simulated
  attempt_pause: 1s
  simulated: {book_file: %q, seed: %d, decline_percent: 10, timeout_percent: 5, late_percent: 5, late_by: 2s}
http: {listen: %q}
log: {level: warn}
`, name, kafka, session, redis, clickhouse, max(leastImageEntries, in.records()/imagesOfShard), in.path(gatewayBook), in.cfg.Seed, listen)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write a config: %w", err)
	}
	return nil
}

// gatewayBook is where the simulated gateway writes down what it captured.
const gatewayBook = "gateway.jsonl"

// command runs a command of tollgate, and gives what it printed.
func (in *installation) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, in.cfg.Tollgate, append([]string{"--json", "--config", in.path(commandsConfig)}, args...)...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("tollgate %s: %w: %s", args[0], err, bytes.TrimSpace(failure.Bytes()))
	}
	return out, nil
}

// lines reads what a command printed: a JSON value a line.
func lines[T any](out []byte) (values []T, err error) {
	for line := range bytes.Lines(out) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, fmt.Errorf("cannot read %q: %w", line, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// close stops everything.
func (in *installation) close() error {
	var failures []error
	if in.stop != nil {
		in.stop()
		in.supervised.Wait()
		failures = append(failures, in.failures...)
	}
	for _, c := range []*stream.Client{in.direct, in.carriers} {
		if c != nil {
			c.Close()
		}
	}
	for _, l := range in.links {
		l.cut()
	}
	if in.pair != nil {
		in.pair.replication.cut()
	}
	if in.stack != nil {
		failures = append(failures, in.stack.Stop())
	}
	return errors.Join(failures...)
}
