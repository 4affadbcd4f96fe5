package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/stream"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // good, warning, bad
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

const (
	good    = "good"
	warning = "warning"
	bad     = "bad"
)

// clockTolerance is how far the clocks of servers may differ from ours before doctor warns.
const clockTolerance = time.Second

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check config, servers, logs and clocks, and say what to do", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(ctx context.Context, a *App) error {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				findings := []finding{{Check: "config", State: good, Found: fmt.Sprintf("installation %s, stages %s", a.cfg.Installation, strings.Join(a.cfg.Stages, ", "))}}
				for _, check := range []func(context.Context) []finding{a.checkKafka, a.checkTopics, a.checkBook, a.checkRedis, a.checkClickHouse, a.checkShards} {
					findings = append(findings, check(ctx)...)
				}
				if err := rows(newPrinter(cmd), findings, []string{"check", "state", "found", "advice"},
					func(f finding) []any { return []any{f.Check, f.State, f.Found, f.Advice} }); err != nil {
					return err
				}
				sick := 0
				for _, f := range findings {
					if f.State == bad {
						sick++
					}
				}
				if sick > 0 {
					return fmt.Errorf("doctor: %d things are bad", sick)
				}
				return nil
			})
		},
	}
}

func (a *App) checkKafka(ctx context.Context) []finding {
	cluster, err := a.kafka.Cluster(ctx)
	switch {
	case errors.Is(err, stream.ErrBrokerTooOld):
		return []finding{{"kafka", bad, err.Error(), "run Kafka 2.8 or later"}}
	case err != nil:
		return []finding{{"kafka", bad, err.Error(), cmp.Or(refusal(err), "check kafka.brokers, kafka.tls and kafka.sasl in the config, and that the brokers run")}}
	}
	f := finding{Check: "kafka", State: good, Found: fmt.Sprintf("%d brokers, produce v%d, fetch v%d", len(cluster.Brokers), cluster.ProduceVersion, cluster.FetchVersion)}
	if len(cluster.Brokers) < 3 {
		f.State, f.Advice = warning, "for production run 3 brokers or more: one broker's disk is all that holds the facts"
	}
	return []finding{f}
}

// checkTopics looks at Tollgate's own logs and at the carriers' topics.
func (a *App) checkTopics(ctx context.Context) []finding {
	var findings []finding
	entries, err := a.kafka.Partitions(ctx, a.topics.entries)
	if err != nil {
		advice := "mend kafka first"
		if errors.Is(err, stream.ErrUnknownTopic) {
			advice = "run `tollgate migrate`"
		}
		return []finding{{"logs", bad, err.Error(), advice}}
	}
	for _, spec := range a.logSpecs(entries) {
		findings = append(findings, a.checkTopic(ctx, spec))
	}
	if a.follower.CatchUp(ctx) != nil {
		return findings
	}
	for _, topic := range a.sources() {
		if topic != a.topics.book {
			findings = append(findings, a.checkCarrierTopic(ctx, topic))
		}
	}
	return findings
}

func (a *App) checkTopic(ctx context.Context, want stream.TopicSpec) finding {
	f := finding{Check: "log " + want.Name, State: good}
	topic, err := a.kafka.Topic(ctx, want.Name)
	if err != nil {
		f.State, f.Found, f.Advice = bad, err.Error(), "run `tollgate migrate`"
		return f
	}
	settings, err := a.kafka.Configs(ctx, want.Name)
	if err != nil {
		f.State, f.Found, f.Advice = warning, err.Error(), "allow this client to describe topic settings"
		return f
	}
	f.Found = fmt.Sprintf("%d partitions, %s", len(topic.Partitions), settings["message.timestamp.type"])
	if int32(len(topic.Partitions)) != want.Partitions {
		f.State, f.Advice = bad, fmt.Sprintf("it needs %d partitions, as many as entries: never change them in place", want.Partitions)
	}
	for _, name := range []string{"message.timestamp.type", "cleanup.policy", "unclean.leader.election.enable"} {
		if have := settings[name]; have != want.Configs[name] {
			f.State, f.Advice = bad, fmt.Sprintf("set %s=%s on the topic (it is %s)", name, want.Configs[name], have)
		}
	}
	return f
}

func (a *App) checkCarrierTopic(ctx context.Context, name string) finding {
	f := finding{Check: "source " + name, State: good}
	topic, err := a.kafka.Topic(ctx, name)
	if err != nil {
		f.State, f.Found, f.Advice = bad, err.Error(), "make the topic with message.timestamp.type=LogAppendTime, or correct its name in the book"
		return f
	}
	settings, err := a.kafka.Configs(ctx, name)
	if err != nil {
		f.State, f.Found, f.Advice = warning, err.Error(), "allow this client to describe topic settings"
		return f
	}
	f.Found = fmt.Sprintf("%d partitions, %s, cleanup %s", len(topic.Partitions), settings["message.timestamp.type"], settings["cleanup.policy"])
	if settings["message.timestamp.type"] != "LogAppendTime" && a.cfg.Kafka.AppendTimeBit {
		f.State, f.Advice = bad, "set message.timestamp.type=LogAppendTime on the topic: until then the clock of whoever writes to it counts"
	}
	if strings.Contains(settings["cleanup.policy"], "compact") {
		f.State, f.Advice = bad, "set cleanup.policy=delete on the topic: compaction drops records"
	}
	return f
}

func (a *App) checkBook(ctx context.Context) []finding {
	if err := a.follower.CatchUp(ctx); err != nil {
		return []finding{{"book", bad, err.Error(), "mend kafka and the logs first"}}
	}
	b := a.follower.Book()
	if !b.Opened() {
		return []finding{{"book", bad, "the installation is not open", "run `tollgate migrate`"}}
	}
	f := finding{Check: "book", State: good, Found: fmt.Sprintf("installation %s, %d shards, read to offset %d", b.Installation(), b.Shards(), b.Offset())}
	age := a.clock.Now().Sub(time.UnixMilli(b.FrontierMs()))
	switch {
	case b.Installation() != a.cfg.Installation:
		f.State, f.Advice = bad, fmt.Sprintf("the config says installation %s: correct it, or the topic prefix", a.cfg.Installation)
	case age > time.Minute:
		f.State, f.Advice = warning, fmt.Sprintf("its newest record is %s old: nothing is rated meanwhile; run `tollgate serve`", age.Round(time.Second))
	case age < -clockTolerance:
		f.State, f.Advice = warning, fmt.Sprintf("the brokers' clocks are %s ahead of this machine's: check NTP on both", -age.Round(time.Millisecond))
	}
	return []finding{f}
}

func (a *App) checkRedis(ctx context.Context) []finding {
	settings, err := a.shards.Settings(ctx)
	if len(settings) == 0 {
		return []finding{{"redis", bad, err.Error(), cmp.Or(refusal(err), "check redis.addresses in the config, and that the server runs")}}
	}
	version := settings["valkey_version"]
	if version == "" {
		version = settings["redis_version"]
	}
	f := finding{Check: "redis", State: good, Found: fmt.Sprintf("version %s, maxmemory-policy %s, appendonly %s, appendfsync %s",
		version, settings["maxmemory-policy"], settings["appendonly"], settings["appendfsync"])}
	var major int
	fmt.Sscanf(version, "%d.", &major)
	switch {
	case err != nil:
		f.State, f.Advice = warning, "allow CONFIG GET, so that the settings can be checked: "+err.Error()
	case settings["maxmemory-policy"] != "noeviction":
		f.State, f.Advice = bad, "set maxmemory-policy noeviction: an evicted key is a lost shard"
	case major < 7:
		f.State, f.Advice = warning, "use Redis 7.0 or Valkey 7.2 or later in production"
	case settings["appendonly"] != "yes":
		f.State, f.Advice = warning, "set appendonly yes: else every restart loads all shards from images"
	}
	return []finding{f}
}

func (a *App) checkClickHouse(ctx context.Context) []finding {
	var version string
	var now time.Time
	if err := a.clickhouse.Conn().QueryRow(ctx, "SELECT version(), now64(3, 'UTC')").Scan(&version, &now); err != nil {
		return []finding{{"clickhouse", bad, err.Error(), cmp.Or(refusal(err), "check clickhouse.addresses in the config, and that the server runs")}}
	}
	f := finding{Check: "clickhouse", State: good, Found: "version " + version}
	if difference := a.clock.Now().Sub(now).Abs(); difference > clockTolerance {
		f.State, f.Advice = warning, fmt.Sprintf("its clock differs by %s from this machine's: check NTP on both", difference.Round(time.Millisecond))
	}
	return []finding{f}
}

func (a *App) checkShards(ctx context.Context) []finding {
	if !a.follower.Book().Opened() {
		return nil
	}
	views, err := a.shardViews(ctx)
	if err != nil {
		return []finding{{"shards", bad, err.Error(), "mend redis and kafka first"}}
	}
	f := finding{Check: "shards", State: good}
	lag := int64(0)
	for _, v := range views {
		lag += v.Lag
		if v.State != "running" {
			f.State, f.Advice = bad, fmt.Sprintf("shard %d is %s: see `tollgate shard inspect %d`", v.Shard, v.State, v.Shard)
		}
		if v.State == "halted" {
			f.Advice = fmt.Sprintf("shard %d is %s; `tollgate shard resume %d --reason TEXT` lets it go on", v.Shard, v.Reason, v.Shard)
		}
	}
	if f.State == bad && lag == 0 && strings.Contains(f.Advice, "is empty") {
		f.State, f.Advice = warning, "a shard has no state yet: run `tollgate serve`"
	}
	f.Found = fmt.Sprintf("%d shards, %d blocks to apply", len(views), lag)
	return []finding{f}
}
