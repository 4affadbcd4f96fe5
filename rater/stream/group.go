package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

// Balance is how a group shares out partitions. All members must choose the same.
type Balance int8

const (
	// BalanceTogether gives a member the same partition numbers of every topic,
	// where the topics have as many partitions and all members read them all:
	// who has entries[3] has postings[3] too.
	BalanceTogether Balance = iota
	// BalanceEvenly shares out the partitions of all topics one by one: for
	// many topics of few partitions.
	BalanceEvenly
)

// GroupConfig says how to be a member of a consumer group. A zero duration takes
// the default that its comment gives.
type GroupConfig struct {
	ID      string
	Topics  []string
	Balance Balance

	// Session is how long the group waits for a member that is silent before it
	// gives its partitions to others. Default 10 s.
	Session time.Duration
	// Heartbeat is how often a member speaks up, and so how soon it learns of a
	// rebalance. Default 1 s.
	Heartbeat time.Duration
	// Rebalance is how long a rebalance waits for the members to return.
	// Default 10 s.
	Rebalance time.Duration
	// Drain is how long a member may take to finish after its generation has
	// ended. Nothing speaks up for it meanwhile, so it must be less than
	// Session and Rebalance. Default 5 s.
	Drain time.Duration
	// JoinBackoff is the pause after a failure to join. Default 500 ms.
	JoinBackoff time.Duration
	// Watch is how often to look for new partitions. Default 5 s.
	Watch time.Duration

	// Log, if set, is told of joining, leaving, and failures.
	Log *slog.Logger
}

func (g GroupConfig) withDefaults() GroupConfig {
	defaultTo(&g.Session, 10*time.Second)
	defaultTo(&g.Heartbeat, time.Second)
	defaultTo(&g.Rebalance, 10*time.Second)
	defaultTo(&g.Drain, 5*time.Second)
	defaultTo(&g.JoinBackoff, 500*time.Millisecond)
	defaultTo(&g.Watch, 5*time.Second)
	defaultTo(&g.Log, slog.New(slog.DiscardHandler))
	return g
}

// Generation is one membership: from one rebalance to the next.
type Generation struct {
	GenerationRef
	Group string
	// Partitions are those that this member has, ascending, by topic. There may
	// be none.
	Partitions map[string][]int32

	drain time.Duration
}

// DrainContext gives the context for the work that remains after the generation
// has ended: write what is begun, commit for the last time. ctx is the context
// that the generation was served with.
func (g Generation) DrainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), g.drain)
}

// RunGroup joins the group and calls serve for each generation, one after the
// other, until ctx ends; then it leaves the group and returns nil. It goes on
// through every failure to join, but a topic that there is not is ErrUnknownTopic.
//
// The context of serve ends when the group rebalances or ctx ends. Serve must
// then return within GroupConfig.Drain, else others are given its partitions
// while it still works on them. Serve with no partitions must wait, not return:
// returning makes the group rebalance. An error from serve ends RunGroup with it.
func (c *Client) RunGroup(ctx context.Context, cfg GroupConfig, serve func(ctx context.Context, g Generation) error) error {
	cfg = cfg.withDefaults()
	if cfg.Drain >= min(cfg.Session, cfg.Rebalance) {
		return fmt.Errorf("cannot join group %s: Drain %s must be less than Session %s and Rebalance %s", cfg.ID, cfg.Drain, cfg.Session, cfg.Rebalance)
	}
	if err := c.awaitTopics(ctx, cfg); err != nil {
		return err
	}
	members, err := kafka.NewConsumerGroup(c.membership(cfg))
	if err != nil {
		return fmt.Errorf("cannot join group %s: %w", cfg.ID, err)
	}
	defer members.Close() // ends the generation, waits for serve, leaves the group
	for {
		generation, err := next(ctx, members, cfg)
		if err != nil || generation == nil {
			return err
		}
		began := time.Now()
		if err := serveGeneration(ctx, generation, cfg, serve); err != nil {
			return err
		}
		// Only a watch that fails, or serve itself, ends a generation before its
		// first heartbeat: do not rejoin in a tight loop.
		if time.Since(began) < cfg.Heartbeat && ctx.Err() == nil {
			_ = pause(ctx, cfg.JoinBackoff)
		}
	}
}

// awaitTopics makes sure that all topics exist before the group is joined: a member
// that watches one that does not would rejoin without end.
func (c *Client) awaitTopics(ctx context.Context, cfg GroupConfig) error {
	warned := false
	for i := 0; i < len(cfg.Topics) && ctx.Err() == nil; {
		_, err := c.Topic(ctx, cfg.Topics[i])
		switch {
		case err == nil:
			i++
		case errors.Is(err, ErrUnknownTopic) || !Retriable(err):
			if ctx.Err() == nil {
				return fmt.Errorf("cannot join group %s: %w", cfg.ID, err)
			}
		default:
			if !warned {
				cfg.Log.Warn("cannot join group, trying again", "group", cfg.ID, "error", err)
			}
			warned = true
			_ = pause(ctx, cfg.JoinBackoff)
		}
	}
	return nil
}

func (c *Client) membership(cfg GroupConfig) kafka.ConsumerGroupConfig {
	var balancer kafka.GroupBalancer = kafka.RangeGroupBalancer{}
	if cfg.Balance == BalanceEvenly {
		balancer = kafka.RoundRobinGroupBalancer{}
	}
	return kafka.ConsumerGroupConfig{
		ID: cfg.ID, Brokers: c.cfg.Brokers, Topics: cfg.Topics, Dialer: c.dialer(),
		GroupBalancers:    []kafka.GroupBalancer{balancer},
		HeartbeatInterval: cfg.Heartbeat, SessionTimeout: cfg.Session, RebalanceTimeout: cfg.Rebalance,
		JoinGroupBackoff: cfg.JoinBackoff, Timeout: c.cfg.RequestTimeout,
		WatchPartitionChanges: true, PartitionWatchInterval: cfg.Watch,
	}
}

// next waits for the next generation; nil when ctx has ended. It must ask again
// after every error: kafka-go goes on only when its error was taken.
func next(ctx context.Context, members *kafka.ConsumerGroup, cfg GroupConfig) (*kafka.Generation, error) {
	last := ""
	for failures := 0; ; failures++ {
		generation, err := members.Next(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed):
			return nil, nil // a generation that is dropped here ends with Close
		case err == nil:
			cfg.Log.Info("joined group", "group", cfg.ID, "generation", generation.ID, "member", generation.MemberID, "failures", failures)
			return generation, nil
		case err.Error() != last:
			last = err.Error()
			cfg.Log.Warn("cannot join group, trying again", "group", cfg.ID, "error", err)
		}
	}
}

// serveGeneration runs serve inside the generation, which keeps the connection to
// the group's coordinator open until it has returned.
func serveGeneration(ctx context.Context, generation *kafka.Generation, cfg GroupConfig, serve func(context.Context, Generation) error) error {
	g := Generation{
		GenerationRef: GenerationRef{ID: generation.ID, Member: generation.MemberID},
		Group:         cfg.ID, Partitions: map[string][]int32{}, drain: cfg.Drain,
	}
	for topic, assigned := range generation.Assignments {
		for _, a := range assigned {
			g.Partitions[topic] = append(g.Partitions[topic], int32(a.ID))
		}
		slices.Sort(g.Partitions[topic])
	}
	served := make(chan error, 1)
	generation.Start(func(over context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(over, cancel)()
		served <- serve(ctx, g)
	})
	err := <-served
	cfg.Log.Info("left generation", "group", cfg.ID, "generation", g.ID, "error", err)
	return err
}
