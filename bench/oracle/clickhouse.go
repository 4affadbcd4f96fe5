package oracle

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// story is what ClickHouse tells. Rows are read without FINAL: rows of one place in the log must be equal, so the oracle
// drops the repeats itself, and sees where they are not.
type story struct {
	conn driver.Conn
}

// Limits of a query.
const (
	dialTimeout = 10 * time.Second
	readTimeout = 10 * time.Minute
)

func openStory(ctx context.Context, c *Config) (*story, error) {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{c.ClickHouse}, DialTimeout: dialTimeout, ReadTimeout: readTimeout,
		Auth: clickhouse.Auth{Database: c.Database, Username: c.User, Password: c.Password}, MaxOpenConns: 2 * workers})
	if err == nil {
		err = conn.Ping(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach ClickHouse at %s: %w", c.ClickHouse, err)
	}
	return &story{conn}, nil
}

// each runs a query and calls row for each of its rows, which scans it.
func (s *story) each(ctx context.Context, what, query string, row func(scan func(...any) error) error) error {
	rows, err := s.conn.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("cannot read %s from ClickHouse: %w", what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("cannot read %s from ClickHouse: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cannot read %s from ClickHouse: %w", what, err)
	}
	return nil
}

// Results of a row, by the numbers of the column.
const (
	resultCharged   = 2
	resultDuplicate = 3
	resultLate      = 5
	resultApplied   = 6
	resultRefused   = 7
)

func resultName(result int8) string {
	switch result {
	case resultCharged:
		return "charged"
	case resultDuplicate:
		return "duplicate"
	case resultLate:
		return "late"
	case resultApplied:
		return "applied"
	case resultRefused:
		return "refused"
	}
	return fmt.Sprintf("result %d", result)
}

// ratedRow is a row of rated_records.
type ratedRow struct {
	offset              int64
	ix                  uint32
	account             uint32
	number              uint64
	service             int8
	idHash, peerHash    uint64
	eventMs             int64
	localDay, statement int32
	duration, billed    uint32
	amount, unapplied   int64
	result              int8
	copyHash            uint64 // the product's hash of the id: links a late record and its release
	place               place
	appendMs            int64
	fingerprint         uint64 // of all that copies of the row must have in common
	shard               uint16
	entryOffset         int64
	entryIx             uint32
}

const ratedColumns = `source_offset, source_ix, account_id, number, toInt8(service), xxHash64(record_id), xxHash64(peer),
	toUnixTimestamp64Milli(event_time), toInt32(local_day), toInt32(statement_day), duration_seconds, billed, amount_units,
	unapplied_units, toInt8(result), id_hash, shard, entry_offset, ix, toUnixTimestamp64Milli(append_time),
	sipHash64(account_id, number, service, xxHash64(record_id), id_hash, xxHash64(peer), event_time, local_day, statement_day, duration_seconds,
		billed, amount_units, unapplied_units, balance_units, intent_units, flags, tariff, tariff_row, result)`

func (r *ratedRow) scan(scan func(...any) error) error {
	if err := scan(&r.offset, &r.ix, &r.account, &r.number, &r.service, &r.idHash, &r.peerHash, &r.eventMs, &r.localDay, &r.statement,
		&r.duration, &r.billed, &r.amount, &r.unapplied, &r.result, &r.copyHash, &r.shard, &r.entryOffset, &r.entryIx, &r.appendMs,
		&r.fingerprint); err != nil {
		return err
	}
	var ok bool
	if r.place, ok = newPlace(r.shard, r.entryOffset, r.entryIx); !ok {
		return fmt.Errorf("entry %d, %d of shard %d lies beyond what this oracle can hold", r.entryOffset, r.entryIx, r.shard)
	}
	return nil
}

// rated gives the rows of usage that name a part of a partition as their source.
func (s *story) rated(ctx context.Context, p *partition, from, to int64, row func(*ratedRow)) error {
	var r ratedRow
	query := "SELECT " + ratedColumns + " FROM rated_records WHERE kind = 'usage' AND result != 'repeated' AND " + within(p, from, to)
	return s.each(ctx, "rated_records", query, func(scan func(...any) error) error {
		if err := r.scan(scan); err != nil {
			return err
		}
		row(&r)
		return nil
	})
}

// releases gives the rows of records that had been late and were decided anew. They name no source.
func (s *story) releases(ctx context.Context, row func(*ratedRow)) error {
	var r ratedRow
	query := "SELECT " + ratedColumns + " FROM rated_records WHERE kind = 'release' AND result != 'repeated'"
	return s.each(ctx, "rated_records", query, func(scan func(...any) error) error {
		if err := r.scan(scan); err != nil {
			return err
		}
		row(&r)
		return nil
	})
}

// deadRow is a row of dead_letters.
type deadRow struct {
	offset      int64
	ix          uint32
	reason      int8
	rawHash     uint64
	account     uint32
	number      uint64
	idHash      uint64
	eventMs     int64
	place       place
	fingerprint uint64
}

// dead gives the dead letters that name a part of a partition as their source.
func (s *story) dead(ctx context.Context, p *partition, from, to int64, row func(*deadRow)) error {
	query := `SELECT source_offset, source_ix, toInt8(reason), xxHash64(raw), account_id, number, xxHash64(record_id),
		toUnixTimestamp64Milli(event_time), shard, entry_offset, ix, sipHash64(reason, raw, account_id, number, record_id, id_hash, event_time, statement_day)
		FROM dead_letters WHERE result != 'repeated' AND ` + within(p, from, to)
	return s.each(ctx, "dead_letters", query, func(scan func(...any) error) error {
		var r deadRow
		var shard uint16
		var entryOffset int64
		var entryIx uint32
		if err := scan(&r.offset, &r.ix, &r.reason, &r.rawHash, &r.account, &r.number, &r.idHash, &r.eventMs, &shard, &entryOffset,
			&entryIx, &r.fingerprint); err != nil {
			return err
		}
		var ok bool
		if r.place, ok = newPlace(shard, entryOffset, entryIx); !ok {
			return fmt.Errorf("entry %d, %d of shard %d lies beyond what this oracle can hold", entryOffset, entryIx, shard)
		}
		row(&r)
		return nil
	})
}

// within is the condition for the rows of a part of a partition. Numbers of the log have no quotes to escape.
func within(p *partition, from, to int64) string {
	return fmt.Sprintf("source_topic = %s AND source_partition = %d AND source_offset >= %d AND source_offset < %d",
		topicLiteral(p.topicID), p.number, from, to)
}

func topicLiteral(id [16]byte) string {
	return fmt.Sprintf("toUUID('%x-%x-%x-%x-%x')", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// strays gives the rows of a table whose source is none of the partitions.
func (s *story) strays(ctx context.Context, table string, partitions []*partition, row func(where string)) error {
	known := []string{"0"}
	for _, p := range partitions {
		known = append(known, fmt.Sprintf("source_topic = %s AND source_partition = %d", topicLiteral(p.topicID), p.number))
	}
	usage := ""
	if table == "rated_records" {
		usage = "kind = 'usage' AND "
	}
	query := "SELECT toString(source_topic), source_partition, source_offset, source_ix FROM " + table +
		" WHERE " + usage + "result != 'repeated' AND NOT (" + strings.Join(known, " OR ") + ")"
	return s.each(ctx, table, query, func(scan func(...any) error) error {
		var topic string
		var number, ix uint32
		var offset int64
		if err := scan(&topic, &number, &offset, &ix); err != nil {
			return err
		}
		row(fmt.Sprintf("topic id %s[%d] offset %d index %d", topic, number, offset, ix))
		return nil
	})
}

// sourceOf tells which record an entry was, for an example.
func (s *story) sourceOf(ctx context.Context, at place, partitions []*partition) string {
	where := fmt.Sprintf("shard %d entry %d, %d", at.shard(), at.offset(), at.ix())
	query := fmt.Sprintf("SELECT toString(source_topic), source_partition, source_offset, source_ix FROM rated_records WHERE shard = %d AND entry_offset = %d AND ix = %d LIMIT 1",
		at.shard(), at.offset(), at.ix())
	err := s.each(ctx, "rated_records", query, func(scan func(...any) error) error {
		var topic string
		var number, ix uint32
		var offset int64
		if err := scan(&topic, &number, &offset, &ix); err != nil {
			return err
		}
		for _, p := range partitions {
			if strings.Contains(topicLiteral(p.topicID), topic) && p.number == int32(number) {
				where = fmt.Sprintf("%s (%s offset %d index %d)", where, p, offset, ix)
			}
		}
		return nil
	})
	if err != nil {
		return where + " (" + err.Error() + ")"
	}
	return where
}

// windowChange is the entry from which on a shard remembers ids for so long.
type windowChange struct {
	at       place
	windowMs int64
}

// windows gives for each shard the changes of its window of duplicates, in the order of its log: a parameter of the book
// holds from the entry on that brought it to the shard.
func (s *story) windows(ctx context.Context) (map[uint16][]windowChange, error) {
	const query = `SELECT DISTINCT shard, entry_offset, ix, arg1 FROM account_entries
		WHERE kind = 'param' AND arg0 = 0 AND result = 'applied' ORDER BY shard, entry_offset, ix`
	all := map[uint16][]windowChange{}
	err := s.each(ctx, "account_entries", query, func(scan func(...any) error) error {
		var shard uint16
		var offset, windowMs int64
		var ix uint32
		if err := scan(&shard, &offset, &ix, &windowMs); err != nil {
			return err
		}
		at, _ := newPlace(shard, offset, ix)
		all[shard] = append(all[shard], windowChange{at, windowMs})
		return nil
	})
	return all, err
}
