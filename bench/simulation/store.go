package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/sink"
	"github.com/tollgate/tollgate/sink/late"
)

// rowKey is where a row stands in the logs: its key in every table.
type rowKey struct {
	shard  uint16
	offset int64
	ix     uint32
}

// row is a row of ClickHouse: what the oracle compares, and a hash of all of its columns.
type row struct {
	table   string
	hash    uint64
	numbers map[string]int64
	text    map[string]string
	topic   uuid.UUID
	known   bool // the oracle has found its entry
}

// clickhouse is ClickHouse as a task sees it. Rows with one key are one row, as ReplacingMergeTree has it.
type clickhouse struct{ t *task }

// Insert writes the rows, table by table.
func (c clickhouse) Insert(ctx context.Context, rows *sink.Rows) error {
	w := c.t.w
	for name, columns := range rows.Tables() {
		f, err := c.t.enter(ctx, "insert "+name, int64(rows.Len()), 0)
		if err == errLost && w.mutation.insertUnheard {
			return nil
		}
		if err != nil {
			return err
		}
		if w.storeDown {
			w.count("insert while ClickHouse is away")
			return errDown
		}
		w.insert(name, columns)
		if err := c.t.leave(f, nil); err != nil {
			return err
		}
	}
	return nil
}

// insert adds rows, and holds those that are there already against the new ones: I3.
func (w *world) insert(table string, columns iter.Seq2[string, any]) {
	var rows []row
	for name, column := range columns {
		eachValue(column, func(i int, number int64, text string, id uuid.UUID) {
			if i == len(rows) {
				rows = append(rows, row{table: table, numbers: map[string]int64{}, text: map[string]string{}})
			}
			r := &rows[i]
			r.hash = mix(r.hash, xxhash.Sum64String(name)^uint64(number)*0x9e3779b97f4a7c15^xxhash.Sum64String(text)^binary.LittleEndian.Uint64(id[8:]))
			switch column.(type) {
			case []uuid.UUID:
				r.topic = id
			case []string:
				r.text[name] = strings.Clone(text)
			default:
				r.numbers[name] = number
			}
		})
	}
	var closings []rowKey
	for i := range rows {
		r := &rows[i]
		key := rowKey{uint16(r.numbers["shard"]), r.numbers["entry_offset"], uint32(r.numbers["ix"])}
		if before, stored := w.rows[key]; stored {
			w.count("row inserted again")
			if before.hash != r.hash {
				w.violate("I3", "two rows at %v differ", key)
			}
			continue
		}
		w.rows[key] = r
		if r.numbers["kind_code"] == int64(entry.Close) {
			closings = append(closings, key)
		}
		if r.table == "dead_letters" {
			w.dead = append(w.dead, r)
		}
		if r.numbers["result_code"] == charged {
			w.chargedIDs[late.Record{Shard: int32(key.shard), IDHash: uint64(r.numbers["id_hash"])}] = true
		}
	}
	for _, closing := range closings {
		w.checkClosing(closing)
	}
}

// checkClosing is the other half of I11: whoever sees in ClickHouse that a day is closed sees all that was in the shard's log
// before.
func (w *world) checkClosing(closing rowKey) {
	l := w.log("entries", int32(closing.shard))
	l.decode()
	for offset := range closing.offset {
		for ix := range decoded(l.messages[offset].value).Len() {
			if before := (rowKey{closing.shard, offset, uint32(ix)}); w.rows[before] == nil {
				w.violate("I11", "ClickHouse has %v, which closes a day, and not yet %v", closing, before)
				return
			}
		}
	}
}

// eachValue calls visit with the values of a column.
func eachValue(column any, visit func(i int, number int64, text string, id uuid.UUID)) {
	switch c := column.(type) {
	case []uint8:
		numbers(c, visit)
	case []uint16:
		numbers(c, visit)
	case []uint32:
		numbers(c, visit)
	case []uint64:
		numbers(c, visit)
	case []int32:
		numbers(c, visit)
	case []int64:
		numbers(c, visit)
	case []string:
		for i, v := range c {
			visit(i, 0, v, uuid.UUID{})
		}
	case []uuid.UUID:
		for i, v := range c {
			visit(i, 0, "", v)
		}
	default:
		panic(fmt.Sprintf("a column of %T", column))
	}
}

func numbers[T uint8 | uint16 | uint32 | uint64 | int32 | int64](c []T, visit func(int, int64, string, uuid.UUID)) {
	for i, v := range c {
		visit(i, int64(v), "", uuid.UUID{})
	}
}

// mix joins two hashes.
func mix(a, b uint64) uint64 {
	a = (a ^ b) * 0xff51afd7ed558ccd
	return a ^ a>>32
}

// Charged gives those of the records that were charged.
func (c clickhouse) Charged(ctx context.Context, records []late.Record) (map[late.Record]bool, error) {
	w := c.t.w
	found := map[late.Record]bool{}
	err := c.t.call(ctx, "look up late", int64(len(records)), 0, func() error {
		if w.storeDown {
			return errDown
		}
		for _, r := range records {
			if w.chargedIDs[r] && !w.mutation.blindLookUp {
				found[r] = true
			}
		}
		return nil
	})
	return found, err
}
