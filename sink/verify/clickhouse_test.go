package verify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/sink"
)

// openClickHouse starts a server with the tables and stores the world in it, parts of it twice.
func openClickHouse(t testing.TB, w *world) *sink.ClickHouse {
	t.Helper()
	stack := local.ForTest(t, local.ClickHouse)
	options := sink.Options{Addrs: []string{stack.ClickHouseAddr}}
	if err := sink.Migrate(t.Context(), options, 0); err != nil {
		t.Fatal(err)
	}
	store, err := sink.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	var rows sink.Rows
	insert := func() {
		if err := store.Insert(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
	}
	var b posting.Block
	for shard, s := range w.shards {
		for _, wire := range s.postings {
			if err := b.Decode(wire); err != nil {
				t.Fatal(err)
			}
			if rows.Append(uint16(shard), &b); rows.Len() >= 250_000 {
				insert()
				rows.Reset()
			}
		}
	}
	insert()
	insert()
	return store
}

func TestClickHouseHoldsWhatIsRecounted(t *testing.T) {
	w := newWorld(8, 3, 2).live(200, 20)
	store := openClickHouse(t, w)
	rows := NewClickHouse(store.Conn())
	for _, first := range []int64{0, 40} {
		w.first = first
		if report := run(t, w, rows, Config{ShardsPerScan: 2}); report.Differences != 0 || report.Rows != report.Entries {
			t.Errorf("logs from %d: %+v\n%s", first, report, strings.Join(report.Examples, "\n"))
		}
	}
	w.first = 0

	// Tampering with the tables, one after the other; each is found besides the ones before it.
	const someRow = "shard = 1 AND entry_offset > 50 AND result = 'charged' ORDER BY entry_offset, ix"
	var at struct {
		Offset int64  `ch:"entry_offset"`
		Ix     uint32 `ch:"ix"`
	}
	if err := store.Conn().QueryRow(t.Context(), "SELECT entry_offset, ix FROM rated_records FINAL WHERE "+someRow+" LIMIT 1").ScanStruct(&at); err != nil {
		t.Fatal(err)
	}
	where := fmt.Sprintf("shard = 1 AND entry_offset = %d AND ix = %d", at.Offset, at.Ix)
	for i, c := range []struct{ statement, want string }{
		{"INSERT INTO rated_records (%[1]s, service_code, kind_code, result_code, local_day_number, statement_day_number) SELECT %[1]s, toUInt8(service), toUInt8(kind), toUInt8(result), toInt32(local_day), toInt32(statement_day) + 1 FROM rated_records FINAL WHERE " + where,
			"2 rows with different keys"},
		{"ALTER TABLE account_entries UPDATE amount_units = amount_units + 1 WHERE shard = 2 AND kind = 'account' AND result = 'applied' AND entry_offset < 60 SETTINGS mutations_sync = 2", "AmountUnits is"},
		{"ALTER TABLE dead_letters UPDATE raw = 'other' WHERE shard = 0 AND entry_offset < 60 SETTINGS mutations_sync = 2", `Text is "other", must be "{\"raw\":1}"`},
		{"ALTER TABLE rated_records DELETE WHERE " + where + " SETTINGS mutations_sync = 2", "has no row in rated_records"},
	} {
		statement := c.statement
		if i == 0 {
			statement = fmt.Sprintf(statement, "account_id, number, record_id, id_hash, peer, event_time, duration_seconds, billed, amount_units, unapplied_units, balance_units, "+
				"intent_units, tariff, tariff_row, flags, source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix, append_time")
		}
		if err := store.Conn().Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		report := run(t, w, rows, Config{Examples: 200})
		if report.Differences == 0 || !strings.Contains(strings.Join(report.Examples, "\n"), c.want) {
			t.Errorf("%s: %s\n%.2000s", c.statement, report, strings.Join(report.Examples, "\n"))
		}
	}
}

// BenchmarkVerify verifies a million records on the real engine. Both cores are shared by the engine and two workers.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(9, 4, 2)
	for w.recordID < 1_000_000 {
		w.live(1, 4000)
	}
	store := openClickHouse(b, w)
	for b.Loop() {
		start := time.Now()
		report := run(b, w, NewClickHouse(store.Conn()), Config{})
		if report.Differences != 0 {
			b.Fatal(report)
		}
		b.ReportMetric(float64(report.Entries)/time.Since(start).Seconds(), "entries/s")
	}
}

func BenchmarkRecount(b *testing.B) {
	w := newWorld(9, 1, 2)
	for w.recordID < 200_000 {
		w.live(1, 4000)
	}
	m := &memory{}
	for b.Loop() {
		w.behind = 1 << 40
		start := time.Now()
		report := run(b, w, m, Config{})
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/float64(report.Entries), "ns/entry")
	}
}
