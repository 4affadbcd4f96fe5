package stream

import (
	"context"
	"time"
)

// The loops of all stages talk to Kafka through the roles below and to time through Clock, so that a simulator can
// play them: in production they are a Fetcher, a Producer, a Client and the system's clock.

// Reader reads many partitions at once. A Fetcher is one.
type Reader interface {
	// Fetch asks for what follows each position and waits up to maxWait where there is nothing yet.
	Fetch(ctx context.Context, positions []Position, maxWait time.Duration) error
	// Result gives what the last Fetch brought for position i.
	Result(i int) *Fetched
}

// Writer gathers messages for many partitions and appends them, one batch a partition. A Producer is one.
type Writer interface {
	// Reset forgets all messages.
	Reset()
	// Append adds a message, copying it; ErrBatchFull means that it was not added.
	Append(topic string, partition int32, key, value []byte) error
	// Send appends what is not acknowledged yet; nil means that all of it is in the log.
	Send(ctx context.Context) error
	// Result gives what became of the messages of the i-th partition appended to.
	Result(i int) Produced
}

// Topics tells which logs there are, and where they begin and end. A Client does.
type Topics interface {
	// TopicID gives the id of a topic: one that was made anew has another.
	TopicID(ctx context.Context, topic string) (TopicID, error)
	// ListOffsets gives where each of the partitions begins and ends, in their order.
	ListOffsets(ctx context.Context, topic string, partitions []int32) ([]Offsets, error)
}

// Commits keeps for a group how far its members have come. A Client does.
type Commits interface {
	// Commit stores offsets with their metadata, for a member of the generation.
	Commit(ctx context.Context, group string, generation GenerationRef, offsets map[string][]CommitOffset) error
	// Committed gives what was stored last for each of the partitions, in their order; offset -1 for nothing.
	Committed(ctx context.Context, group, topic string, partitions []int32) ([]CommitOffset, error)
}

// Clock is the time that a loop waits by and labels its metrics with. It never decides anything about money.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or until ctx ends.
	Sleep(ctx context.Context, d time.Duration)
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now gives the current time.
func (SystemClock) Now() time.Time { return time.Now() }

// Sleep waits for d, or until ctx ends.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Outlive gives a context that ends when the returned function is called, or d after ctx has ended: for finishing what is
// begun when a loop is told to stop.
func Outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(work, func() { timer.Stop() })
	})
	return work, func() { unhook(); cancel() }
}
