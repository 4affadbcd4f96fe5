package rater

import "time"

// Config names the limits of a rate loop.
type Config struct {
	// BookTopic is the book's log, EntriesTopic the log that the loop writes.
	BookTopic, EntriesTopic string
	// Group is the consumer group that keeps how far each source has been read.
	Group string
	// MaxWait bounds how long a fetch waits for records.
	MaxWait time.Duration
	// Linger is the least length of a round: records that come within it share one produce.
	Linger time.Duration
	// EntriesPerBlock bounds the entries of one block, EntriesPerRound those of all blocks of one round.
	EntriesPerBlock, EntriesPerRound int
	// CommitEvery is how often offsets are committed.
	CommitEvery time.Duration
	// RetryMin and RetryMax bound the pause before a failed call is made again.
	RetryMin, RetryMax time.Duration
	// DemandAppendTime raises an alarm for a source whose broker does not stamp its messages (protocol rule 3); the
	// producer's time then counts, and its messages wait until the book knows all about that. Only the embedded Kafka of
	// the demo stamps messages without saying so.
	DemandAppendTime bool
	// Drain is how long a loop that is told to stop may take to finish what is under way.
	Drain time.Duration
}

// DefaultConfig is the configuration of a rate loop on one machine.
func DefaultConfig() Config {
	return Config{
		BookTopic: "book", EntriesTopic: "entries", Group: "tollgate-rate",
		MaxWait: 250 * time.Millisecond, Linger: 5 * time.Millisecond, EntriesPerBlock: 3000, EntriesPerRound: 64_000,
		CommitEvery: time.Second, RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second,
		DemandAppendTime: true, Drain: 4 * time.Second,
	}
}

// Limits on the raw bytes of rejected records. They are the same in every process, for what a record becomes must be.
const (
	// MaxRawBytes bounds those of one record: of a longer one the beginning is kept, and the rest is in the carrier's topic.
	MaxRawBytes = 1 << 20
	// maxBlockRawBytes ends a block that has as many, so that no message passes what Kafka admits.
	maxBlockRawBytes = 1 << 20
)
