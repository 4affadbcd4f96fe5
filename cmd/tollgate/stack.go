package main

import (
	"context"

	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

// localConfig is the configuration of an installation on the servers of a stack.
func localConfig(stack *local.Stack) Config {
	c := DefaultConfig()
	c.Kafka.Brokers, c.Kafka.Replication, c.Kafka.AppendTimeBit = []string{stack.KafkaAddr}, 1, stack.AppendTimeBit
	c.Redis.Addresses = []string{stack.RedisAddr}
	c.ClickHouse.Addresses = []string{stack.ClickHouseAddr}
	c.HTTP.Listen = ""
	c.Log.Level = "warn"
	return c
}

// makeCarrierTopic makes a topic as a carrier would be asked to.
func (a *App) makeCarrierTopic(ctx context.Context, name string, partitions int32) error {
	_, err := a.kafka.EnsureTopic(ctx, stream.TopicSpec{Name: name, Partitions: partitions, Replication: int16(a.cfg.Kafka.Replication),
		Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}})
	return err
}
