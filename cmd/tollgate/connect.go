package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/stream"
	"github.com/tollgate/tollgate/sink"
)

// openKafka makes the client of the configured cluster. It connects when it is first used.
func openKafka(c KafkaConfig) (*stream.Client, error) {
	encryption, err := c.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("kafka.%w", err)
	}
	mechanism, err := c.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	codec, err := stream.ParseCodec(c.Compression)
	if err != nil {
		return nil, fmt.Errorf("kafka.compression: %w", err)
	}
	return stream.New(stream.Config{
		Brokers: c.Brokers, TLS: encryption, SASL: mechanism, Codec: codec, BatchMaxBytes: messageMaxBytes / 2,
	})
}

// openRedis makes the client of the configured server or cluster.
func openRedis(c Config) (*lua.Shards, error) {
	password, err := c.Redis.read()
	if err != nil {
		return nil, fmt.Errorf("redis.%w", err)
	}
	encryption, err := c.Redis.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("redis.%w", err)
	}
	redis.SetLogger(quiet{}) // what goes wrong is said by whoever called
	options := lua.Options(c.Redis.Addresses...)
	options.Username, options.Password, options.TLSConfig, options.IsClusterMode = c.Redis.Username, password, encryption, c.Redis.Cluster
	return lua.New(redis.NewUniversalClient(options), lua.Config{Prefix: c.Redis.KeyPrefix, Installation: c.Installation}), nil
}

// quiet is a log that keeps nothing.
type quiet struct{}

// Printf drops the line.
func (quiet) Printf(context.Context, string, ...any) {}

// openClickHouse makes the client of the configured ClickHouse.
func openClickHouse(c ClickHouseConfig) (*sink.ClickHouse, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	return sink.Open(options)
}

func (c ClickHouseConfig) options() (sink.Options, error) {
	password, err := c.read()
	if err != nil {
		return sink.Options{}, fmt.Errorf("clickhouse.%w", err)
	}
	encryption, err := c.TLS.config()
	if err != nil {
		return sink.Options{}, fmt.Errorf("clickhouse.%w", err)
	}
	return sink.Options{Addrs: c.Addresses, TLS: encryption, Database: c.Database, User: c.Username, Password: password}, nil
}

// open opens the configured gateway, nil for none.
func (c RechargeConfig) open(clock stream.Clock) (recharge.Gateway, error) {
	if c.Gateway == "none" {
		return nil, nil
	}
	return recharge.OpenSimulated(c.Simulated.BookFile, recharge.Script{
		Seed: c.Simulated.Seed, DeclinePercent: c.Simulated.DeclinePercent, TimeoutPercent: c.Simulated.TimeoutPercent,
		LatePercent: c.Simulated.LatePercent, LateBy: c.Simulated.LateBy,
	}, clock)
}
