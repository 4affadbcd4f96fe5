package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
	"github.com/tollgate/tollgate/sink/verify"
)

func verifyCommand() *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{
		Use: "verify", Short: "Recount everything and compare it with Redis and ClickHouse; status 1 on any difference", Args: cobra.NoArgs,
		Long: "Recount every entry of the logs independently, and compare the outcome with each row in ClickHouse, the balances with Redis,\n" +
			"and the positions of the carriers' logs with the rows they made. It only reads, and may run on live traffic.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				report, err := a.verify(ctx, patience)
				if err != nil {
					return err
				}
				return showReport(newPrinter(cmd), report)
			})
		},
	}
	c.Flags().DurationVar(&patience, "wait", 10*time.Second, "how long to wait for Redis and ClickHouse to reach the end of the logs")
	return c
}

// showReport prints what verify found. Any difference is a failure.
func showReport(p *printer, r *verify.Report) error {
	if p.json {
		if err := p.value(r); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, r) // the verdict, for whoever watches a script
	}
	for _, note := range r.Notes {
		p.say("note: %s", note)
	}
	for _, example := range r.Examples {
		p.say("difference: %s", example)
	}
	p.say("%d blocks, %d rows in ClickHouse, %d records of %d source partitions, %d entries of the book", r.Blocks, r.Rows, r.Records, r.Sources, r.Decided)
	p.say("%s", r)
	if r.Differences > 0 {
		return exitError{fmt.Errorf("%d differences", r.Differences), exitFailed}
	}
	return nil
}

// verify compares the logs, Redis and ClickHouse.
func (a *App) verify(ctx context.Context, patience time.Duration) (*verify.Report, error) {
	p := proof{a}
	return verify.Run(ctx, verify.Deps{
		Logs: verify.NewKafka(a.kafka, a.topics.entries, a.topics.postings), Rows: verify.NewClickHouse(a.clickhouse.Conn()),
		Progress: p, Balances: p, Sources: p, Book: p, Clock: a.clock,
	}, verify.Config{Shards: a.follower.Book().Shards(), Patience: patience})
}

// proof shows an installation to verify.
type proof struct{ *App }

// Stored gives for each shard the offset of the last block of entries that is stored with all before it.
func (p proof) Stored(ctx context.Context, shards []int32) ([]int64, error) {
	topicID, err := p.kafka.TopicID(ctx, p.topics.postings)
	if err != nil {
		return nil, err
	}
	committed, err := p.committed(ctx, "store", p.topics.postings, shards)
	if err != nil {
		return nil, err
	}
	stored := make([]int64, len(shards))
	for i, c := range committed {
		cursor, err := posting.ParseCursor(c.Offset, c.Metadata, topicID)
		if err != nil {
			return nil, err
		}
		stored[i] = cursor.Last
	}
	return stored, nil
}

// Applied gives for each shard the offset of the last block of entries that Redis has applied.
func (p proof) Applied(ctx context.Context, shards []int32) ([]int64, error) {
	heads, applied := make([]lua.Head, len(shards)), make([]int64, len(shards))
	if err := p.shards.Heads(ctx, shards, heads); err != nil {
		return nil, err
	}
	for i, h := range heads {
		if h.Err != nil {
			return nil, h.Err
		}
		applied[i] = h.WM
		if !h.Initialized {
			applied[i] = -1
		}
	}
	return applied, nil
}

// committed reads what a stage has committed. Brokers that have just started say for a while that they cannot tell.
func (p proof) committed(ctx context.Context, stage, topic string, partitions []int32) ([]stream.CommitOffset, error) {
	patience, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		committed, err := p.kafka.Committed(ctx, p.cfg.group(stage), topic, partitions)
		if err == nil || !stream.Retriable(err) || patience.Err() != nil {
			return committed, err
		}
		p.clock.Sleep(patience, 10*answerPoll)
	}
}

// Shard gives the balances of a shard and the watermark at which they hold. A shard without state has none.
func (p proof) Shard(ctx context.Context, shard int32) (int64, map[uint32]verify.Balance, error) {
	head, accounts, err := p.shards.Standing(ctx, shard)
	if errors.Is(err, lua.ErrUninitialized) {
		return -1, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	balances := make(map[uint32]verify.Balance, len(accounts))
	for number, account := range accounts {
		b := verify.Balance{Units: int64(account.BalanceUnits), Suspended: account.Suspended}
		if account.HasIntent {
			b.IntentUnits = int64(account.Intent.AmountUnits)
		}
		balances[number] = b
	}
	return head.WM, balances, nil
}

// Committed gives how far the carriers' topics are rated.
func (p proof) Committed(ctx context.Context) ([]verify.Rated, error) {
	var rated []verify.Rated
	for _, topic := range p.sources() {
		if topic == p.topics.book {
			continue
		}
		n, err := p.kafka.Partitions(ctx, topic)
		if errors.Is(err, stream.ErrUnknownTopic) {
			continue // it has a format in the book, and no messages yet
		}
		if err != nil {
			return nil, err
		}
		partitions := make([]int32, n)
		for i := range partitions {
			partitions[i] = int32(i)
		}
		found, err := p.committedOf(ctx, topic, partitions)
		if err != nil {
			return nil, err
		}
		rated = append(rated, found...)
	}
	return rated, nil
}

func (p proof) committedOf(ctx context.Context, topic string, partitions []int32) ([]verify.Rated, error) {
	id, err := p.kafka.TopicID(ctx, topic)
	if err != nil {
		return nil, err
	}
	committed, err := p.committed(ctx, "rate", topic, partitions)
	if err != nil {
		return nil, err
	}
	edges, err := p.kafka.ListOffsets(ctx, topic, partitions)
	if err != nil {
		return nil, err
	}
	var rated []verify.Rated
	for i, c := range committed {
		if c.Offset < 0 || c.Metadata != hex.EncodeToString(id[:]) {
			continue
		}
		r := verify.Rated{Name: fmt.Sprintf("%s[%d]", topic, c.Partition), Source: entry.Source{TopicID: id, Partition: c.Partition}, First: -1, Next: c.Offset}
		if edges[i].Start == 0 {
			r.First = 0
		}
		rated = append(rated, r)
	}
	return rated, nil
}

// Entered gives the book as a source, as far as it is both read here and rated.
func (p proof) Entered(ctx context.Context) (verify.Rated, error) {
	found, err := p.committedOf(ctx, p.topics.book, []int32{0})
	if err != nil || len(found) == 0 {
		return verify.Rated{}, err
	}
	found[0].Next = min(found[0].Next, p.follower.Book().Offset())
	return found[0], nil
}

// Yields lists the records of the book before an offset that yield entries, with the shards that each is for.
func (p proof) Yields(before int64) iter.Seq2[int64, verify.Shards] {
	return func(yield func(int64, verify.Shards) bool) {
		b := p.follower.Book()
		for offset, account := range b.Yields() {
			shards := verify.Shards{Until: b.Shards()}
			if account != 0 {
				shards = verify.Shards{From: b.Shard(account), Until: b.Shard(account) + 1}
			}
			if offset >= before || !yield(offset, shards) {
				return
			}
		}
	}
}

// Messages counts the messages that a source holds at offsets from..to.
func (p proof) Messages(ctx context.Context, source entry.Source, from, to int64) (n int64, err error) {
	topic, err := p.topicOf(ctx, source)
	if err != nil {
		return 0, err
	}
	fetcher := p.kafka.NewFetcher()
	for from <= to {
		if err := fetcher.Fetch(ctx, []stream.Position{{Topic: topic, Partition: source.Partition, Offset: from}}, time.Second); err != nil {
			return n, err
		}
		var m stream.Message
		fetched := fetcher.Result(0)
		for fetched.Next(&m) && m.Offset <= to {
			n++
		}
		if fetched.Err != nil {
			return n, fetched.Err
		}
		if fetched.NextOffset == from {
			return n, nil // the log ends here
		}
		from = fetched.NextOffset
	}
	return n, nil
}

// topicOf finds the carrier topic that a source is of.
func (p proof) topicOf(ctx context.Context, source entry.Source) (string, error) {
	for _, topic := range p.sources() {
		if id, err := p.kafka.TopicID(ctx, topic); err == nil && id == source.TopicID {
			return topic, nil
		}
	}
	return "", notFoundf("no topic of the book has id %x", source.TopicID)
}
