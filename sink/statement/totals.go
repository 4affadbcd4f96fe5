package statement

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/tollgate/tollgate/rater/entry"
)

// AccountTotal is all that is stored of one account.
type AccountTotal struct {
	Account uint32
	Shard   uint16
	Rows    uint64
	Units   *big.Int // sum of the amounts: the balance after the newest stored entry
}

// ShardTotal is all that is stored of one shard.
type ShardTotal struct {
	Shard                   uint16
	Rows                    uint64
	FirstOffset, LastOffset int64 // of the blocks of entries
	Units                   *big.Int
}

// SourceTotal is all that is stored of one source, repeated positions left out. Releases are of no source: they are records
// that were counted when they came.
type SourceTotal struct {
	Source      entry.Source
	Records     uint64         // rows
	Messages    uint64         // different offsets: Last.Offset - First.Offset + 1 where none is missing and the source has no holes
	First, Last entry.Position // lowest and highest
}

// AccountTotals gives the totals of every account, by account.
func (r *Reader) AccountTotals(ctx context.Context) ([]AccountTotal, error) {
	const query = `
		SELECT account_id, any(shard), count(), sum(toInt128(amount_units)) FROM (
			SELECT account_id, shard, amount_units FROM rated_records UNION ALL SELECT account_id, shard, amount_units FROM account_entries WHERE account_id != 0)
		GROUP BY account_id ORDER BY account_id`
	return collect(ctx, r.conn, "accounts", query, func(t *AccountTotal, rows driver.Rows) error {
		t.Units = new(big.Int)
		return rows.Scan(&t.Account, &t.Shard, &t.Rows, t.Units)
	})
}

// ShardTotals gives the totals of every shard, by shard.
func (r *Reader) ShardTotals(ctx context.Context) ([]ShardTotal, error) {
	const query = `
		SELECT shard, count(), min(entry_offset), max(entry_offset), sum(toInt128(amount_units)) FROM (
			SELECT shard, entry_offset, amount_units FROM rated_records UNION ALL SELECT shard, entry_offset, amount_units FROM account_entries
			UNION ALL SELECT shard, entry_offset, toInt64(0) FROM dead_letters)
		GROUP BY shard ORDER BY shard`
	return collect(ctx, r.conn, "shards", query, func(t *ShardTotal, rows driver.Rows) error {
		t.Units = new(big.Int)
		return rows.Scan(&t.Shard, &t.Rows, &t.FirstOffset, &t.LastOffset, t.Units)
	})
}

// SourceTotals gives the totals of every source of records, by topic id and partition.
func (r *Reader) SourceTotals(ctx context.Context) ([]SourceTotal, error) {
	const query = `
		SELECT source_topic, source_partition, count(), uniqExact(source_offset), min((source_offset, source_ix)).1, min((source_offset, source_ix)).2,
		       max((source_offset, source_ix)).1, max((source_offset, source_ix)).2
		FROM (
			SELECT source_topic, source_partition, source_offset, source_ix FROM rated_records WHERE result != 'repeated' AND kind = 'usage'
			UNION ALL SELECT source_topic, source_partition, source_offset, source_ix FROM dead_letters WHERE result != 'repeated')
		GROUP BY source_topic, source_partition ORDER BY source_topic, source_partition`
	return collect(ctx, r.conn, "sources", query, func(t *SourceTotal, rows driver.Rows) error {
		var (
			topic     uuid.UUID
			partition uint32
		)
		err := rows.Scan(&topic, &partition, &t.Records, &t.Messages, &t.First.Offset, &t.First.Ix, &t.Last.Offset, &t.Last.Ix)
		t.Source = entry.Source{TopicID: topic, Partition: int32(partition)}
		return err
	})
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, conn driver.Conn, what, query string, scan func(*T, driver.Rows) error) ([]T, error) {
	rows, err := conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), query)
	if err != nil {
		return nil, fmt.Errorf("cannot read the totals of %s: %w", what, err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var t T
		if err := scan(&t, rows); err != nil {
			return nil, fmt.Errorf("cannot read the totals of %s: %w", what, err)
		}
		all = append(all, t)
	}
	return all, rows.Err()
}
