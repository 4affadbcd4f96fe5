package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/sink/late"
)

// replayFilter says which dead letters are meant.
type replayFilter struct {
	reasons []string
	number  string
	account uint32
	limit   int
	dryRun  bool
}

func replayCommand() *cobra.Command {
	var f replayFilter
	c := &cobra.Command{
		Use: "replay", Short: "Rate dead letters again, after their cause is mended", Args: cobra.NoArgs,
		Long: "Have rejected records rated again by what the book says now, each record of a message that was rejected whole. Each is\n" +
			"decided once: whoever is first counts, and a copy that was charged meanwhile makes it a duplicate. What was charged or replayed\n" +
			"before is passed over, so that each run goes on where the last ended; what still cannot be rated stays where it is.",
		Example: "  tollgate replay --reason unknown-number --dry-run\n  tollgate replay --reason unknown-number --number +14155550100",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, r := range f.reasons {
				if !knownReason(r) {
					return usagef("unknown reason %q: see the column reason of dead_letters", r)
				}
			}
			return withBook(cmd, func(ctx context.Context, a *App) error { return a.replay(ctx, newPrinter(cmd), f) })
		},
	}
	c.Flags().StringSliceVar(&f.reasons, "reason", nil, "only those rejected for these reasons (default all)")
	c.Flags().StringVar(&f.number, "number", "", "only those of this number, such as +14155550100")
	c.Flags().Uint32Var(&f.account, "account", 0, "account that pays where the number still has no owner")
	c.Flags().IntVar(&f.limit, "limit", 10_000, "replay at most so many records")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show them, and replay nothing")
	return c
}

func knownReason(name string) bool {
	for _, r := range entry.Reasons {
		if r.String() == name {
			return true
		}
	}
	return false
}

// Limits of a replay.
const (
	// lettersPerLookUp and bytesPerLookUp bound the dead letters that are looked at at once.
	lettersPerLookUp, bytesPerLookUp = 5000, 32 << 20
	// recordsPerQuestion bounds the records of which ClickHouse is asked at once: a query of its may have 256 KiB.
	recordsPerQuestion = 5000
)

// verdict is what is said of one rejected record.
type verdict struct {
	Number   string `json:"number,omitempty"`
	RecordID string `json:"record_id,omitempty"`
	Reason   string `json:"reason"`
	Verdict  string `json:"verdict"`
}

// replayRun is a replay under way.
type replayRun struct {
	*App
	filter   replayFilter
	topics   map[uuid.UUID]string // names of topics, "" of those that are gone
	verdicts []verdict
	chosen   []choice
	// unlisted counts records that cannot be rated beyond those listed; settled, those charged or replayed before.
	unlisted, settled int
}

// choice is a record that is to be replayed, and the place of its verdict.
type choice struct {
	record *book.Replay
	at     int
}

// replay has the records rated again that the filter means.
func (a *App) replay(ctx context.Context, p *printer, f replayFilter) error {
	r := replayRun{App: a, filter: f, topics: map[uuid.UUID]string{}}
	if _, err := a.follower.Decide(ctx, &book.Heartbeat{}); err != nil { // from here on, all that was mended before is in force
		return err
	}
	if err := a.deadLetters(ctx, f, func(letters []deadLetter) (more bool, err error) {
		return len(r.chosen) < f.limit, r.choose(ctx, letters)
	}); err != nil {
		return err
	}
	for left := r.chosen; len(left) > 0 && !f.dryRun; {
		n := min(len(left), recordsPerAppend)
		if err := r.decide(ctx, left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	if err := rows(p, r.verdicts, []string{"number", "record", "reason", "verdict"}, func(v verdict) []any { return []any{v.Number, v.RecordID, v.Reason, v.Verdict} }); err != nil {
		return err
	}
	if r.settled > 0 {
		p.say("%d records were charged or replayed before", r.settled)
	}
	if r.unlisted > 0 {
		p.say("%d more records cannot be rated yet", r.unlisted)
	}
	return nil
}

// choose looks at dead letters, and takes those records that are to be replayed: the ones that the book would take now,
// and that were neither replayed nor charged before. Of all others it says why not.
func (r *replayRun) choose(ctx context.Context, letters []deadLetter) error {
	type ratable struct {
		reason string
		again  book.Again
	}
	var found []ratable
	var hashes []late.Record
	b := r.follower.Book()
	for i := range letters {
		d := &letters[i]
		topic, why := r.readable(ctx, d)
		if why != "" {
			r.refuse(verdict{numberText(d.Number), d.RecordID, d.Reason, why})
			continue
		}
		for _, again := range b.Replays(d.replay(topic, r.filter.account)) {
			switch {
			case again.IDHash != 0 && r.follower.Replayed(again.IDHash):
				r.settled++
			case again.Refusal != "":
				r.refuse(verdict{numberText(cmp.Or(again.Number, d.Number)), cmp.Or(again.RecordID, d.RecordID), d.Reason, again.Refusal})
			default:
				found = append(found, ratable{d.Reason, again})
				hashes = append(hashes, late.Record{IDHash: again.IDHash})
			}
		}
	}
	charged, err := r.charged(ctx, hashes)
	if err != nil {
		return err
	}
	for _, one := range found {
		switch {
		case charged[one.again.IDHash]:
			r.settled++
		case len(r.chosen) < r.filter.limit:
			r.chosen = append(r.chosen, choice{one.again.Replay, len(r.verdicts)})
			r.verdicts = append(r.verdicts, verdict{numberText(one.again.Number), one.again.RecordID, one.reason, fmt.Sprintf("would be replayed for account %d", one.again.Account)})
		}
	}
	return nil
}

// refuse says why a record cannot be replayed; of very many, only how many they are.
func (r *replayRun) refuse(v verdict) {
	if len(r.verdicts)-len(r.chosen) >= r.filter.limit {
		r.unlisted++
		return
	}
	r.verdicts = append(r.verdicts, v)
}

// readable gives the topic that a dead letter came from, or why its bytes cannot be read again.
func (r *replayRun) readable(ctx context.Context, d *deadLetter) (topic, why string) {
	topic, known := r.topics[d.Topic]
	if !known {
		topic, _ = proof{r.App}.topicOf(ctx, entry.Source{TopicID: d.Topic, Partition: int32(d.Partition)})
		r.topics[d.Topic] = topic
	}
	switch {
	case topic == "":
		return "", "not replayed: its topic is gone, or has no format"
	case len(d.Raw) == 0:
		return "", "not replayed: its bytes are no longer kept"
	case len(d.Raw) >= rater.MaxRawBytes: // the end may be missing
		return "", fmt.Sprintf("not replayed: only its first %d bytes were kept; all of it is in %s[%d] at offset %d: have it written there once more, in smaller messages",
			rater.MaxRawBytes, topic, d.Partition, d.Offset)
	}
	return topic, ""
}

// charged tells which records are charged by now, as far as ClickHouse knows.
func (r *replayRun) charged(ctx context.Context, records []late.Record) (map[uint64]bool, error) {
	ledger := late.NewClickHouse(r.clickhouse.Conn(), lookUpTimeout)
	charged := map[uint64]bool{}
	for some := range slices.Chunk(records, recordsPerQuestion) {
		found, err := ledger.Charged(ctx, some)
		if err != nil {
			return nil, err
		}
		for record := range found {
			charged[record.IDHash] = true
		}
	}
	return charged, nil
}

// decide has records replayed, and puts what became of each in its verdict.
func (r *replayRun) decide(ctx context.Context, chosen []choice) error {
	records := make([]book.Record, len(chosen))
	for i, c := range chosen {
		records[i] = c.record
	}
	decisions, err := r.follower.Decide(ctx, records...)
	if err != nil {
		return err
	}
	var repeated []string
	for _, d := range decisions {
		if d.Repeated {
			repeated = append(repeated, d.ID)
		}
	}
	var earlier map[string]book.Earlier
	if len(repeated) > 0 { // somebody else replays the same, or did so in vain
		if earlier, err = r.follower.Earlier(repeated...); err != nil {
			return err
		}
	}
	for i, d := range decisions {
		if first, again := earlier[d.ID]; again {
			d = first.Decision
		}
		text := d.Refusal
		if d.Accepted {
			text = fmt.Sprintf("replayed for account %d", d.Account)
		}
		r.verdicts[chosen[i].at].Verdict = text
	}
	return nil
}

func numberText(number uint64) string {
	if number == 0 {
		return ""
	}
	return book.FormatNumber(number)
}

// deadLetter is what was rejected, a record or a whole message, as replay reads it from ClickHouse.
type deadLetter struct {
	Reason    string
	Raw       string
	RecordID  string
	Number    uint64
	Topic     uuid.UUID
	Partition uint32
	Offset    int64
	Ix        uint32
	Shard     uint16
	Entry     int64
	EntryIx   uint32
}

// replay is the Replay of all of it.
func (d *deadLetter) replay(topic string, account uint32) book.Replay {
	return book.Replay{Topic: topic, TopicID: hex.EncodeToString(d.Topic[:]), Partition: int32(d.Partition), Offset: d.Offset, Ix: d.Ix,
		Shard: int32(d.Shard), EntryOffset: d.Entry, EntryIx: d.EntryIx, Raw: []byte(d.Raw), Account: account}
}

// deadLetters shows the dead letters that the filter means, many at once, the oldest days first, until take wants no more.
func (a *App) deadLetters(ctx context.Context, f replayFilter, take func([]deadLetter) (more bool, err error)) error {
	where, args := []string{"result = 'rejected'"}, []any{}
	if len(f.reasons) > 0 {
		where, args = append(where, "has(?, toString(reason))"), append(args, f.reasons)
	}
	if f.number != "" {
		number, err := book.ParseNumber(f.number)
		if err != nil {
			return exitError{err, exitUsage}
		}
		where, args = append(where, "number = ?"), append(args, number)
	}
	query := `SELECT toString(reason), raw, record_id, number, source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix
		FROM dead_letters FINAL WHERE ` + strings.Join(where, " AND ") + ` ORDER BY statement_day, shard, entry_offset, ix`
	ctx, cancel := context.WithCancel(ctx)
	found, err := a.clickhouse.Conn().Query(ctx, query, args...)
	if err != nil {
		cancel()
		return fmt.Errorf("cannot read the dead letters: %w", err)
	}
	defer func() { // what nobody wants to see any more need not come
		cancel()
		_ = found.Close()
	}()
	var letters []deadLetter
	size, more := 0, true
	for more && found.Next() {
		var d deadLetter
		if err := found.Scan(&d.Reason, &d.Raw, &d.RecordID, &d.Number, &d.Topic, &d.Partition, &d.Offset, &d.Ix, &d.Shard, &d.Entry, &d.EntryIx); err != nil {
			return fmt.Errorf("cannot read a dead letter: %w", err)
		}
		letters, size = append(letters, d), size+len(d.Raw)
		if len(letters) < lettersPerLookUp && size < bytesPerLookUp {
			continue
		}
		if more, err = take(letters); err != nil {
			return err
		}
		letters, size = letters[:0], 0
	}
	if more && len(letters) > 0 {
		if _, err := take(letters); err != nil {
			return err
		}
	}
	if more && found.Err() != nil {
		return fmt.Errorf("cannot read the dead letters: %w", found.Err())
	}
	return nil
}
