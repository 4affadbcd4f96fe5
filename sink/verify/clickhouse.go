package verify

import (
	"context"
	"fmt"
	"math/big"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

// ClickHouse reads the rows that are stored. Its digests are made by the server, in one pass over each table, so that
// verifying moves a few bytes a block instead of every row.
type ClickHouse struct {
	conn driver.Conn
}

// NewClickHouse reads through the connections.
func NewClickHouse(conn driver.Conn) *ClickHouse { return &ClickHouse{conn: conn} }

// The columns as Row.appendFixed writes them.
const (
	placeBytes = "reinterpretAsFixedString(ix), reinterpretAsFixedString(toUnixTimestamp64Milli(append_time)), " +
		"UUIDStringToNum(toString(source_topic)), reinterpretAsFixedString(source_partition), reinterpretAsFixedString(source_offset), " +
		"reinterpretAsFixedString(source_ix), reinterpretAsFixedString(account_id), reinterpretAsFixedString(number), " +
		"reinterpretAsFixedString(id_hash), reinterpretAsFixedString(toUnixTimestamp64Milli(event_time)), " +
		"reinterpretAsFixedString(toInt32(statement_day)), reinterpretAsFixedString(toInt8(result))"
	moneyBytes = ", reinterpretAsFixedString(toInt8(kind)), reinterpretAsFixedString(flags), reinterpretAsFixedString(toInt32(local_day)), " +
		"reinterpretAsFixedString(amount_units), reinterpretAsFixedString(unapplied_units), " +
		"reinterpretAsFixedString(balance_units), reinterpretAsFixedString(intent_units)"
)

var rowBytes = [tableCount]string{
	RatedRecords: placeBytes + moneyBytes + ", reinterpretAsFixedString(toInt8(service)), reinterpretAsFixedString(duration_seconds), " +
		"reinterpretAsFixedString(billed), reinterpretAsFixedString(tariff), reinterpretAsFixedString(tariff_row), " +
		"reinterpretAsFixedString(toUInt32(length(record_id))), record_id, peer",
	AccountEntries: placeBytes + moneyBytes + ", reinterpretAsFixedString(arg0), reinterpretAsFixedString(arg1), reinterpretAsFixedString(arg2), " +
		"reinterpretAsFixedString(arg3), reinterpretAsFixedString(toUInt32(length(id))), id, note",
	DeadLetters: placeBytes + ", reinterpretAsFixedString(toInt8(reason)), reinterpretAsFixedString(toUInt32(length(record_id))), record_id, raw",
}

// settings of all reads: FINAL collapses what was inserted again; no key is in two partitions.
var settings = clickhouse.Settings{"final": 1, "do_not_merge_across_partitions_select_final": 1}

// Digests gives the digest of every block that has rows in one of the ranges; a block with rows in several tables comes
// once for each of them.
func (c *ClickHouse) Digests(ctx context.Context, ranges []Range, yield func(shard int32, offset int64, d Digest)) error {
	if len(ranges) == 0 {
		return nil
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings))
	for table := range tableCount {
		query := fmt.Sprintf("SELECT shard, entry_offset, count(), sum(xxHash64(concat(%s))) FROM %s WHERE %s GROUP BY shard, entry_offset",
			rowBytes[table], table, within(ranges))
		rows, err := c.conn.Query(ctx, query)
		if err != nil {
			return fmt.Errorf("cannot read the digests of %s: %w", table, err)
		}
		if err := eachDigest(rows, yield); err != nil {
			return fmt.Errorf("cannot read the digests of %s: %w", table, err)
		}
	}
	return nil
}

func eachDigest(rows driver.Rows, yield func(shard int32, offset int64, d Digest)) error {
	defer rows.Close()
	for rows.Next() {
		var (
			shard  uint16
			offset int64
			d      Digest
		)
		if err := rows.Scan(&shard, &offset, &d.Rows, &d.Sum); err != nil {
			return err
		}
		yield(int32(shard), offset, d)
	}
	return rows.Err()
}

// within is the condition that a row is in one of the ranges.
func within(ranges []Range) string {
	var shards, from, to []string
	for _, r := range ranges {
		shards = append(shards, fmt.Sprint(r.Shard))
		from = append(from, fmt.Sprintf("toInt64(%d)", r.From))
		to = append(to, fmt.Sprintf("toInt64(%d)", r.To))
	}
	list := "[" + strings.Join(shards, ",") + "]"
	pick := func(values []string) string {
		return "[" + strings.Join(values, ",") + "][indexOf(" + list + ", shard)]"
	}
	return fmt.Sprintf("shard IN (%s) AND entry_offset >= %s AND entry_offset <= %s", strings.Join(shards, ","), pick(from), pick(to))
}

const (
	placeColumns = "ix, toUnixTimestamp64Milli(append_time), source_topic, source_partition, source_offset, source_ix, account_id, number, id_hash, " +
		"toUnixTimestamp64Milli(event_time), toInt32(statement_day), toUInt8(result)"
	moneyColumns = ", toUInt8(kind), toInt32(local_day), amount_units, unapplied_units, balance_units, intent_units, flags"
)

var rowColumns = [tableCount]string{
	RatedRecords:   placeColumns + moneyColumns + ", toUInt8(service), duration_seconds, billed, tariff, tariff_row, record_id, peer",
	AccountEntries: placeColumns + moneyColumns + ", arg0, arg1, arg2, arg3, id, note",
	DeadLetters:    placeColumns + ", toUInt8(reason), record_id, raw",
}

// targets are where the columns of rowColumns go.
func (r *Row) targets(topic *uuid.UUID) []any {
	place := []any{&r.Ix, &r.AppendMs, topic, &r.SourcePartition, &r.SourceOffset, &r.SourceIx, &r.Account, &r.Number, &r.IDHash,
		&r.EventMs, &r.StatementDay, &r.Result}
	if r.Table == DeadLetters {
		return append(place, &r.Reason, &r.ID, &r.Text)
	}
	place = append(place, &r.Kind, &r.LocalDay, &r.AmountUnits, &r.UnappliedUnits, &r.BalanceUnits, &r.IntentUnits, &r.Flags)
	if r.Table == AccountEntries {
		return append(place, &r.Args[0], &r.Args[1], &r.Args[2], &r.Args[3], &r.ID, &r.Text)
	}
	return append(place, &r.Service, &r.DurationSeconds, &r.Billed, &r.Tariff, &r.TariffRow, &r.ID, &r.Text)
}

// Rows gives the rows of one block.
func (c *ClickHouse) Rows(ctx context.Context, shard int32, offset int64) ([]Row, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings))
	var all []Row
	for table := range tableCount {
		rows, err := c.conn.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE shard = %d AND entry_offset = %d", rowColumns[table], table, shard, offset))
		if err == nil {
			all, err = appendRows(all, table, rows)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the rows of block %d of shard %d in %s: %w", offset, shard, table, err)
		}
	}
	return all, nil
}

func appendRows(all []Row, table Table, rows driver.Rows) ([]Row, error) {
	defer rows.Close()
	for rows.Next() {
		r, topic := Row{Table: table}, uuid.UUID{}
		if err := rows.Scan(r.targets(&topic)...); err != nil {
			return nil, err
		}
		r.SourceTopic = topic
		all = append(all, r)
	}
	return all, rows.Err()
}

// Sums gives the sum of all amounts of each account in a shard's blocks before the offset.
func (c *ClickHouse) Sums(ctx context.Context, shard int32, before int64) (map[uint32]*big.Int, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings))
	sums := map[uint32]*big.Int{}
	for _, table := range []Table{RatedRecords, AccountEntries} {
		query := fmt.Sprintf("SELECT account_id, sum(toInt128(amount_units)) FROM %s WHERE shard = %d AND entry_offset < %d GROUP BY account_id", table, shard, before)
		rows, err := c.conn.Query(ctx, query)
		if err == nil {
			err = addSums(sums, rows)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the sums of shard %d before block %d in %s: %w", shard, before, table, err)
		}
	}
	return sums, nil
}

func addSums(sums map[uint32]*big.Int, rows driver.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var (
			account uint32
			sum     big.Int
		)
		if err := rows.Scan(&account, &sum); err != nil {
			return err
		}
		if sums[account] == nil {
			sums[account] = new(big.Int)
		}
		sums[account].Add(sums[account], &sum)
	}
	return rows.Err()
}
