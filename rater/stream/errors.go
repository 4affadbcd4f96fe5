package stream

import (
	"context"
	"errors"
	"fmt"

	kafka "github.com/segmentio/kafka-go"
)

// Errors that a caller tells apart, with errors.Is. All others are either
// Retriable or a wrong configuration, which their text names.
var (
	// ErrOffsetOutOfRange says that the log does not hold the offset that was
	// asked for: retention has passed it, or the log ends before it. It is
	// never skipped over here: for a log of money it is an alarm.
	ErrOffsetOutOfRange error = kafka.OffsetOutOfRange
	// ErrUnknownTopic says that the cluster has no such topic or partition,
	// or that not every broker has heard of it yet.
	ErrUnknownTopic error = kafka.UnknownTopicOrPartition
	// ErrFenced says that a commit came from a generation of the group that is
	// over: other members may own the partitions by now.
	ErrFenced = errors.New("the group has a newer generation")
	// ErrUnknownOutcome says that a produce may have been appended or not. The
	// same batch may be sent again: readers skip repeats by their position.
	ErrUnknownOutcome = errors.New("it is unknown whether the broker appended the batch")
	// ErrBatchFull says that a message does not fit into the partition's batch:
	// send what was gathered, then append it again.
	ErrBatchFull = errors.New("the batch is full")
	// ErrCorrupt says that a batch's checksum or layout is wrong.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrBrokerTooOld says that a broker does not speak the requests that
	// Tollgate needs; Kafka 2.8 or later does.
	ErrBrokerTooOld = errors.New("the broker is too old, Kafka 2.8 or later is needed")

	errMalformed = errors.New("malformed response")
	errSent      = errors.New("BUG: the producer has sent this batch, reset it first")
)

// Retriable says whether the same call may succeed later without anyone
// changing anything: leaders move, connections break, brokers restart. A
// context that was cancelled, an offset out of range, a fenced commit, a batch
// that is full or too large, a topic that is not as it must be, and lack of
// authorisation are not retriable.
func Retriable(err error) bool {
	if err == nil {
		return false
	}
	for _, final := range []error{context.Canceled, ErrFenced, ErrBatchFull, ErrBrokerTooOld, errSent} {
		if errors.Is(err, final) {
			return false
		}
	}
	if mismatch := (*MismatchError)(nil); errors.As(err, &mismatch) {
		return false
	}
	var code kafka.Error
	if !errors.As(err, &code) {
		return true
	}
	switch code {
	case kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable:
		return true
	}
	return code.Temporary()
}

// fromCode turns a broker's error code into an error, nil for 0.
func fromCode(code int16) error {
	if code == 0 {
		return nil
	}
	return kafka.Error(code)
}

func fenced(err error) error {
	switch {
	case errors.Is(err, kafka.IllegalGeneration), errors.Is(err, kafka.UnknownMemberId),
		errors.Is(err, kafka.FencedInstanceID), errors.Is(err, kafka.RebalanceInProgress):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}
