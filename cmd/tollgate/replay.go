package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// deadLetter is a rejected record as replay reads it from ClickHouse.
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
		Long: "Have rejected records rated again by what the book says now. Each is decided once: whoever is first counts, and a copy\n" +
			"that was charged meanwhile makes it a duplicate. Records that still cannot be rated stay where they are.",
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
	c.Flags().IntVar(&f.limit, "limit", 10_000, "at most so many")
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

// replay writes a Replay into the book for each dead letter that the filter means.
func (a *App) replay(ctx context.Context, p *printer, f replayFilter) error {
	letters, err := a.deadLetters(ctx, f)
	if err != nil {
		return err
	}
	type view struct {
		Number   string `json:"number,omitempty"`
		RecordID string `json:"record_id,omitempty"`
		Reason   string `json:"reason"`
		Verdict  string `json:"verdict"`
	}
	var views []view
	for _, d := range letters {
		v := view{RecordID: d.RecordID, Reason: d.Reason, Verdict: "would be replayed"}
		if d.Number != 0 {
			v.Number = book.FormatNumber(d.Number)
		}
		if !f.dryRun {
			if v.Verdict, err = a.replayOne(ctx, d, f.account); err != nil {
				return err
			}
		}
		views = append(views, v)
	}
	return rows(p, views, []string{"number", "record", "reason", "verdict"}, func(v view) []any { return []any{v.Number, v.RecordID, v.Reason, v.Verdict} })
}

// replayOne decides one dead letter, and gives the verdict.
func (a *App) replayOne(ctx context.Context, d deadLetter, account uint32) (string, error) {
	topic, err := proof{a}.topicOf(ctx, entry.Source{TopicID: d.Topic, Partition: int32(d.Partition)})
	if err != nil {
		return "its topic is gone", nil
	}
	decisions, err := a.follower.Decide(ctx, &book.Replay{
		Header: book.Header{ID: "replay/" + uuid.NewString()}, Topic: topic, TopicID: hex.EncodeToString(d.Topic[:]), Partition: int32(d.Partition),
		Offset: d.Offset, Ix: d.Ix, Shard: int32(d.Shard), EntryOffset: d.Entry, EntryIx: d.EntryIx, Raw: []byte(d.Raw), Account: account,
	})
	if err != nil {
		return "", err
	}
	if d := decisions[0]; !d.Accepted {
		return d.Refusal, nil
	}
	return fmt.Sprintf("replayed for account %d", decisions[0].Account), nil
}

// deadLetters reads the dead letters that the filter means, oldest first.
func (a *App) deadLetters(ctx context.Context, f replayFilter) ([]deadLetter, error) {
	where, args := []string{"result = 'rejected'"}, []any{}
	if len(f.reasons) > 0 {
		where, args = append(where, "has(?, toString(reason))"), append(args, f.reasons)
	}
	if f.number != "" {
		number, err := book.ParseNumber(f.number)
		if err != nil {
			return nil, exitError{err, exitUsage}
		}
		where, args = append(where, "number = ?"), append(args, number)
	}
	query := `SELECT toString(reason), raw, record_id, number, source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix
		FROM dead_letters FINAL WHERE ` + strings.Join(where, " AND ") + ` ORDER BY append_time, shard, entry_offset, ix LIMIT ?`
	found, err := a.clickhouse.Conn().Query(ctx, query, append(args, f.limit)...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the dead letters: %w", err)
	}
	defer found.Close()
	var letters []deadLetter
	for found.Next() {
		var d deadLetter
		if err := found.Scan(&d.Reason, &d.Raw, &d.RecordID, &d.Number, &d.Topic, &d.Partition, &d.Offset, &d.Ix, &d.Shard, &d.Entry, &d.EntryIx); err != nil {
			return nil, fmt.Errorf("cannot read a dead letter: %w", err)
		}
		letters = append(letters, d)
	}
	return letters, found.Err()
}
