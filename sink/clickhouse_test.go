package sink

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/pressly/goose/v3"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/entry"
)

// openClickHouse starts a server with the tables of this package.
func openClickHouse(t testing.TB) (*ClickHouse, Options) {
	t.Helper()
	stack := local.ForTest(t, local.ClickHouse)
	options := Options{Addrs: []string{stack.ClickHouseAddr}}
	if err := Migrate(t.Context(), options, 0); err != nil {
		t.Fatal(err)
	}
	store, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, options
}

func selectText(t testing.TB, store *ClickHouse, query string, args ...any) []string {
	t.Helper()
	var lines []string
	rows, err := store.conn.Query(context.Background(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return lines
}

func TestMigrationsMayRunAgain(t *testing.T) {
	store, options := openClickHouse(t)
	for _, days := range []int{0, 30, 30, 0} {
		if err := Migrate(t.Context(), options, days); err != nil {
			t.Fatal(err)
		}
	}
	if err := Migrate(t.Context(), options, -1); err == nil {
		t.Error("negative days were accepted")
	}
	if err := Migrate(t.Context(), options, 45); err != nil {
		t.Fatal(err)
	}
	const lives = "SELECT name FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE '%toIntervalDay(45)%' ORDER BY name"
	if got := selectText(t, store, lives); !slices.Equal(got, []string{"dead_letters", "rated_records"}) {
		t.Errorf("tables whose personal columns live 45 days: %v", got)
	}
	// A crash between a migration and its mark has it run again.
	if err := store.conn.Exec(t.Context(), "TRUNCATE TABLE goose_db_version"); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), options, 0); err != nil {
		t.Fatal(err)
	}
	const bare = "SELECT concat(table, '.', name) FROM system.columns WHERE database = currentDatabase() AND table NOT LIKE 'goose%' AND comment = '' AND default_kind != 'EPHEMERAL'"
	if got := selectText(t, store, bare); len(got) > 0 {
		t.Errorf("columns without a comment: %v", got)
	}
}

// expressions give every column of a table as text.
var expressions = [tableCount]string{
	ratedRecords: `account_id, number, toUInt8(service), toUInt8(kind), record_id, id_hash, peer, toUnixTimestamp64Milli(event_time), toInt32(local_day),
		toInt32(statement_day), duration_seconds, billed, amount_units, unapplied_units, balance_units, intent_units, tariff, tariff_row, toUInt8(result),
		flags, source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix, toUnixTimestamp64Milli(append_time)`,
	accountEntries: `account_id, number, toUInt8(kind), id, id_hash, note, arg0, arg1, arg2, arg3, toUnixTimestamp64Milli(event_time), toInt32(local_day),
		toInt32(statement_day), amount_units, unapplied_units, balance_units, intent_units, toUInt8(result),
		flags, source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix, toUnixTimestamp64Milli(append_time)`,
	deadLetters: `account_id, number, toUInt8(reason), record_id, id_hash, raw, toUnixTimestamp64Milli(event_time),
		toInt32(statement_day), toUInt8(result), source_topic, source_partition, source_offset, source_ix, shard, entry_offset, ix, toUnixTimestamp64Milli(append_time)`,
}

// expectedRow gives posting i of the block as expressions do.
func expectedRow(shard uint16, b *posting.Block, i int) (table int, line string) {
	var e entry.Entry
	b.Entries.Get(i, &e)
	o := &b.Outcomes[i]
	topic := uuid.UUID(b.Entries.Source.TopicID).String()
	place := []any{topic, b.Entries.Source.Partition, e.Position.Offset, e.Position.Ix, shard, b.EntryOffset, i, b.AppendMs}
	amounts := []any{int64(o.AmountUnits), int64(e.AmountUnits - o.AmountUnits), int64(o.BalanceUnits), int64(o.IntentUnits)}
	var v []any
	switch e.Kind {
	case entry.Usage, entry.Release:
		table = ratedRecords
		v = append(v, e.Account, e.Number, uint8(e.Service), uint8(e.Kind), string(e.ID), e.IDHash, string(e.Peer), e.EventMs, e.LocalDay, o.StatementDay, e.DurationSeconds, e.Billed)
		v = append(append(v, amounts...), e.Tariff, e.Row, uint8(o.Result), uint8(o.Flags))
	case entry.Rejected:
		table = deadLetters
		v = append(v, e.Account, e.Number, uint8(e.Reason), string(e.ID), e.IDHash, string(e.Extra), e.EventMs, o.StatementDay, uint8(o.Result))
	default:
		table = accountEntries
		v = append(v, e.Account, e.Number, uint8(e.Kind), string(e.ID), e.IDHash, string(e.Extra), e.Args[0], e.Args[1], e.Args[2], e.Args[3], e.EventMs, e.LocalDay, o.StatementDay)
		v = append(append(v, amounts...), uint8(o.Result), uint8(o.Flags))
	}
	var text []string
	for _, x := range append(v, place...) {
		text = append(text, fmt.Sprint(x))
	}
	return table, strings.Join(text, "|")
}

func TestEveryColumnSurvivesAndRepeatsCollapse(t *testing.T) {
	store, _ := openClickHouse(t)
	r := rand.New(rand.NewPCG(1, 2))
	var rows Rows
	var want [tableCount][]string
	for shard := range uint16(3) {
		for offset := range int64(20) {
			b := randomBlock(r, offset, 1+r.IntN(60))
			rows.Append(shard, b)
			for i := range b.Outcomes {
				table, line := expectedRow(shard, b, i)
				want[table] = append(want[table], line)
			}
		}
	}
	for range 3 { // blind repeats
		if err := store.Insert(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
	}
	for table := range tableCount {
		if table == closings { // they are in the table of the account entries
			continue
		}
		query := fmt.Sprintf("SELECT concatWithSeparator('|', %s) FROM %s FINAL", toStrings(expressions[table]), tableNames[table])
		got := selectText(t, store, query)
		slices.Sort(got)
		slices.Sort(want[table])
		if !slices.Equal(got, want[table]) {
			t.Errorf("%s: %d rows, want %d\n got %.300v\nwant %.300v", tableNames[table], len(got), len(want[table]), got, want[table])
		}
	}
}

func toStrings(list string) string {
	var depth int
	parts := strings.FieldsFunc(list, func(c rune) bool {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		return c == ',' && depth == 0
	})
	for i := range parts {
		parts[i] = "toString(" + strings.TrimSpace(parts[i]) + ")"
	}
	return strings.Join(parts, ", ")
}

func TestViews(t *testing.T) {
	store, _ := openClickHouse(t)
	accounts := []Account{{ID: 1, Currency: "XXX", MinorDigits: 0}, {ID: 1, Currency: "USD", MinorDigits: 2, Zone: "America/Toronto", Version: 7}, {ID: 2, Currency: "JPY", MinorDigits: 0}}
	for range 2 {
		if err := store.WriteAccounts(t.Context(), accounts); err != nil {
			t.Fatal(err)
		}
	}
	b := &posting.Block{EntryOffset: 5, AppendMs: firstDay * dayMs}
	b.Entries.Reset(testSource, entry.None)
	add := func(e entry.Entry, o posting.Outcome) {
		e.Position.Ix, e.EventMs, e.LocalDay = uint32(b.Entries.Len()), firstDay*dayMs, firstDay
		o.StatementDay = firstDay
		b.Entries.Add(&e)
		b.Outcomes = append(b.Outcomes, o)
	}
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 1, Number: 1555, IDHash: 10, AmountUnits: -725_001, Billed: 60}, posting.Outcome{Result: posting.Charged, AmountUnits: -725_001, BalanceUnits: 100_000_000})
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 2, Number: 8133, IDHash: 11, AmountUnits: -2_500_000, Billed: 61}, posting.Outcome{Result: posting.Charged, AmountUnits: -2_500_000, BalanceUnits: -1})
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 3, Number: 1777, IDHash: 12, AmountUnits: -5}, posting.Outcome{Result: posting.Charged, AmountUnits: -5, BalanceUnits: -5})
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 1, Number: 1555, IDHash: 10, AmountUnits: -725_001, Billed: 120}, posting.Outcome{Result: posting.Duplicate})
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 13, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 14, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Release, Service: 2, Account: 1, Number: 1555, IDHash: 14, AmountUnits: -9}, posting.Outcome{Result: posting.Charged, AmountUnits: -9, BalanceUnits: 99_999_991})
	// A copy of a charged record that came when its shard had forgotten the id: the late worker found it charged.
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 1, Number: 1555, IDHash: 10, AmountUnits: -725_001, Billed: 60}, posting.Outcome{Result: posting.Late})
	// The same with other contents.
	add(entry.Entry{Kind: entry.Usage, Service: 1, Account: 2, Number: 8133, IDHash: 11, AmountUnits: -2_500_000, Billed: 99}, posting.Outcome{Result: posting.Late})
	// Refused when it was released, and resent after that; released too late, so late again.
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 15, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Release, Service: 2, Account: 1, Number: 1555, IDHash: 15, AmountUnits: -9}, posting.Outcome{Result: posting.Refused})
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 16, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Release, Service: 2, Account: 1, Number: 1555, IDHash: 16, AmountUnits: -9}, posting.Outcome{Result: posting.Refused})
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 16, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Usage, Service: 2, Account: 1, Number: 1555, IDHash: 17, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Release, Service: 2, Account: 1, Number: 1555, IDHash: 17, AmountUnits: -9}, posting.Outcome{Result: posting.Late})
	add(entry.Entry{Kind: entry.Credit, Account: 1, AmountUnits: 1_250_000_000, Extra: []byte("cash")}, posting.Outcome{Result: posting.Applied, AmountUnits: 1_250_000_000, BalanceUnits: 1_349_999_991})
	var rows Rows
	rows.Append(4, b)
	// Another shard knows nothing of the ids of this one.
	other := &posting.Block{EntryOffset: 1, AppendMs: firstDay * dayMs}
	other.Entries.Reset(testSource, entry.None)
	other.Entries.Add(&entry.Entry{Kind: entry.Usage, Service: 2, Account: 4, Number: 1999, IDHash: 14, AmountUnits: -9, LocalDay: firstDay})
	other.Outcomes = append(other.Outcomes, posting.Outcome{Result: posting.Late, StatementDay: firstDay})
	rows.Append(9, other)
	for range 2 { // blind repeats
		if err := store.Insert(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct{ query, want string }{
		{"SELECT concat(toString(account_id), ' ', currency, ' ', ifNull(toString(charge), 'NULL'), ' ', ifNull(toString(balance_after), 'NULL')) FROM charges ORDER BY account_id, ix",
			"1 USD 0.00725001 1;1 USD 0.00000009 0.99999991;2 JPY 2.5 -0.000001;3  NULL NULL"},
		{"SELECT concat(toString(account_id), ' ', kind, ' ', toString(amount), ' ', toString(balance_after), ' ', note) FROM payments", "1 credit 12.5 13.49999991 cash"},
		{"SELECT concat(toString(account_id), ' ', service, ' ', toString(records), ' ', toString(billed), ' ', toString(charge)) FROM daily_usage WHERE account_id < 3 AND statement_day = toDate32(20760) ORDER BY account_id, service",
			"1 voice-in 1 60 0.00725001;1 voice-out 1 0 0.00000009;2 voice-in 1 61 2.5"},
		{"SELECT concat(toString(shard), ' ', toString(id_hash), ' ', toString(ix)) FROM late_records ORDER BY shard, id_hash, ix", "4 13 4;4 16 13;4 17 14;9 14 0"},
		{"SELECT concat(toString(id_hash), ' ', toString(versions), ' ', toString(charged), ' ', toString(accounts)) FROM conflicts ORDER BY id_hash",
			"10 2 1 [1];11 2 1 [2];14 2 1 [1,4]"},
	}
	for _, c := range cases {
		c.query += " SETTINGS join_use_nulls = 1" // as some clients have it
		if got := strings.Join(selectText(t, store, c.query), ";"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.query, got, c.want)
		}
	}
}

// TestViewsOfBeforeAreReplaced has a database that knows the views as they were first released.
func TestViewsOfBeforeAreReplaced(t *testing.T) {
	stack := local.ForTest(t, local.ClickHouse)
	options := Options{Addrs: []string{stack.ClickHouseAddr}}
	if err := createDatabase(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	db := clickhouse.OpenDB(options.clickhouse())
	defer db.Close()
	files, err := fs.Sub(migrations, "sql")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	store, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	b := &posting.Block{EntryOffset: 1, AppendMs: firstDay * dayMs}
	b.Entries.Reset(testSource, entry.None)
	for _, result := range []posting.Result{posting.Charged, posting.Late} {
		b.Entries.Add(&entry.Entry{Kind: entry.Usage, Account: 1, IDHash: 10})
		b.Outcomes = append(b.Outcomes, posting.Outcome{Result: result, StatementDay: firstDay})
	}
	var rows Rows
	rows.Append(4, b)
	if err := store.Insert(t.Context(), &rows); err != nil {
		t.Fatal(err)
	}
	for _, waiting := range []string{"1", "0"} {
		if got := selectText(t, store, "SELECT toString(count()) FROM late_records"); !slices.Equal(got, []string{waiting}) {
			t.Errorf("%v late records, want %s", got, waiting)
		}
		if err := Migrate(t.Context(), options, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	block := randomBlock(rand.New(rand.NewPCG(1, 2)), 1, 1000)
	var rows Rows
	for b.Loop() {
		if rows.Len() >= 250_000 {
			rows.Reset()
		}
		rows.Append(1, block)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/row")
}

func TestAppendDoesNotAllocate(t *testing.T) {
	block := randomBlock(rand.New(rand.NewPCG(1, 2)), 1, 1000)
	var rows Rows
	fill := func() {
		rows.Reset()
		for range 20 {
			rows.Append(1, block)
		}
	}
	fill()
	fill()
	if n := testing.AllocsPerRun(10, fill); n > 0 {
		t.Errorf("%v allocations for 20,000 rows", n)
	}
}

// BenchmarkInsert inserts blocks of usage of one day, as they come in production, and tells the client's CPU apart.
func BenchmarkInsert(b *testing.B) {
	store, _ := openClickHouse(b)
	r := rand.New(rand.NewPCG(1, 2))
	var rows Rows
	for offset := range int64(250) {
		block := randomBlock(r, offset, 1000)
		for i := range block.Outcomes {
			if tableOf(block.Entries.Kind[i]) == ratedRecords {
				continue
			}
			block.Entries.Kind[i], block.Outcomes[i].Result = entry.Usage, posting.Charged
		}
		for i := range block.Outcomes {
			block.Outcomes[i].StatementDay = firstDay
		}
		rows.Append(uint16(offset%16), block)
	}
	before := processorSeconds(b)
	for b.Loop() {
		if err := store.Insert(b.Context(), &rows); err != nil {
			b.Fatal(err)
		}
	}
	perRow := 1e9 / float64(b.N) / float64(rows.Len())
	b.ReportMetric(b.Elapsed().Seconds()*perRow, "ns/row")
	b.ReportMetric((processorSeconds(b)-before)*perRow, "client-cpu-ns/row")
}

// processorSeconds is the CPU time that this process has used.
func processorSeconds(t testing.TB) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
