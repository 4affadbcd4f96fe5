package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/bench/oracle"
)

// TestOracle plays traffic through the real program on real servers, in which the oracle must find nothing; and then
// spoils what it reads, one thing after the other, each of which it must find.
func TestOracle(t *testing.T) {
	in := newInstallation(t)
	stop := in.serve()
	in.play()
	in.credit(1001, "12.5", "first", "credit")
	in.credit(1002, "0.01", "second", "credit")
	in.credit(1001, "-0.00000001", "third", "adjustment")
	in.settle()
	in.await(time.Minute, "0 differences", func() (bool, string) { // late records and recharges take their time
		status, report := in.compare()
		return status == exitEqual, fmt.Sprint(report.Examples)
	})
	stop()
	_, report := in.compare("--slice", "1000")
	t.Logf("%+v", report)
	if report.Differences != 0 || report.Records != int64(in.sent) || report.Accounts != testAccounts || report.Credits != 3 {
		t.Errorf("%d records of %d, %d accounts of %d, %d credits, %d differences: %v", report.Records, in.sent, report.Accounts,
			testAccounts, report.Credits, report.Differences, report.Examples)
	}
	for name, n := range map[string]int64{"duplicates": report.Duplicates, "late": report.Late, "released": report.Released, "captures": report.Captures,
		"undecodable": report.RejectedByReason["undecodable"], "too-far-ahead": report.RejectedByReason["too-far-ahead"]} {
		if n == 0 {
			t.Errorf("there are no %s: the traffic is too tame", name)
		}
	}
	for _, table := range tables {
		in.keep(table)
	}
	for _, s := range sabotages {
		t.Run(s.name, func(t *testing.T) { in.sabotage(t, s) })
	}
	if status, report := in.compare(); status != exitEqual {
		t.Errorf("what was spoilt was not mended: %v", report.Examples)
	}
}

// tables are those of ClickHouse that are spoilt.
var tables = []string{"rated_records", "account_entries", "dead_letters"}

// sabotage is something that is spoilt, and the kinds of differences that it must make. No kinds: none at all.
type sabotage struct {
	name  string
	kinds []string
	// sql spoils a table; {row} is the place in the log of the first row of pick.
	table, pick, sql string
	// file spoils a file instead.
	file   func(*installation) string
	change func([]byte) []byte
}

// Rows to pick.
const (
	charged   = "kind = 'usage' AND result = 'charged' AND amount_units < 0"
	duplicate = "kind = 'usage' AND result = 'duplicate' AND unapplied_units < 0"
	letter    = "result = 'rejected' AND reason = 'unknown-number'"
	payment   = "kind = 'payment' AND result = 'applied'"
)

var sabotages = []sabotage{
	{name: "a row twice", table: "rated_records", pick: charged, sql: "INSERT {row}"},
	{name: "an amount off by a unit", kinds: []string{"amount"}, table: "rated_records", pick: charged, sql: "UPDATE amount_units = amount_units - 1 WHERE {row}"},
	{name: "a row lost", kinds: []string{"missing-row"}, table: "rated_records", pick: charged, sql: "DELETE WHERE {row}"},
	{name: "a duplicate lost", kinds: []string{"missing-row"}, table: "rated_records", pick: duplicate, sql: "DELETE WHERE {row}"},
	{name: "a charge that is none", kinds: []string{"never-charged", "balance"}, table: "rated_records", pick: charged,
		sql: "UPDATE result = 'duplicate', unapplied_units = amount_units, amount_units = 0 WHERE {row}"},
	{name: "a duplicate that is charged", kinds: []string{"charged-twice", "balance"}, table: "rated_records", pick: duplicate,
		sql: "UPDATE result = 'charged', amount_units = unapplied_units, unapplied_units = 0 WHERE {row}"},
	{name: "the wrong copy charged", kinds: []string{"charged-later"}, table: "rated_records",
		pick: duplicate + " AND id_hash IN (SELECT id_hash FROM rated_records GROUP BY id_hash HAVING count() = 2)",
		sql:  "UPDATE result = if(result = 'charged', 'duplicate', 'charged'), amount_units = unapplied_units, unapplied_units = amount_units WHERE {id}"},
	{name: "within the window, and late", kinds: []string{"window", "never-charged"}, table: "rated_records", pick: charged,
		sql: "UPDATE result = 'late', unapplied_units = amount_units, amount_units = 0 WHERE {row}"},
	{name: "a second row of a record", kinds: []string{"second-row"}, table: "rated_records", pick: charged, sql: "INSERT {row} entry_offset = entry_offset + 1000000"},
	{name: "an entry with two rows", kinds: []string{"copies-differ"}, table: "rated_records", pick: charged, sql: "INSERT {row} balance_units = balance_units - 1"},
	{name: "a row of no record", kinds: []string{"extra-row"}, table: "rated_records", pick: charged, sql: "INSERT {row} source_offset = source_offset + 1000000"},
	{name: "a row of no topic", kinds: []string{"extra-row"}, table: "rated_records", pick: charged, sql: "INSERT {row} source_topic = generateUUIDv4()"},
	{name: "another account", kinds: []string{"copies-differ"}, table: "rated_records", pick: charged, sql: "INSERT {row} account_id = account_id + 1"},
	{name: "another id", kinds: []string{"record-id"}, table: "rated_records", pick: charged, sql: "UPDATE record_id = concat(record_id, ' ') WHERE {row}"},
	{name: "another peer", kinds: []string{"peer"}, table: "rated_records", pick: charged, sql: "UPDATE peer = 'x' WHERE {row}"},
	{name: "another number", kinds: []string{"number"}, table: "rated_records", pick: charged, sql: "UPDATE number = number + 1 WHERE {row}"},
	{name: "other billed seconds", kinds: []string{"billed"}, table: "rated_records", pick: charged, sql: "UPDATE billed = billed + 1 WHERE {row}"},
	{name: "another day", kinds: []string{"local-day"}, table: "rated_records", pick: charged, sql: "UPDATE local_day = local_day + 1 WHERE {row}"},
	{name: "a balance off by a unit", kinds: []string{"balance"}, table: "rated_records", pick: charged + ` AND (account_id, (entry_offset, ix)) IN
		(SELECT account_id, max((entry_offset, ix)) FROM (SELECT account_id, entry_offset, ix FROM rated_records
		UNION ALL SELECT account_id, entry_offset, ix FROM account_entries) GROUP BY account_id)`,
		sql: "UPDATE balance_units = balance_units + 1 WHERE {row}"},
	{name: "a release lost", kinds: []string{"never-charged"}, table: "rated_records", pick: "kind = 'release' AND result = 'charged'", sql: "DELETE WHERE {row}"},
	{name: "a release of nothing", kinds: []string{"release"}, table: "rated_records", pick: "kind = 'release'", sql: "INSERT {row} entry_offset = entry_offset + 1000000, id_hash = 1"},
	{name: "a release charged twice", kinds: []string{"charged-twice"}, table: "rated_records", pick: "kind = 'release' AND result = 'charged'",
		sql: "INSERT {row} entry_offset = entry_offset + 1000000"},
	{name: "a dead letter lost", kinds: []string{"missing-row"}, table: "dead_letters", pick: letter, sql: "DELETE WHERE {row}"},
	{name: "another reason", kinds: []string{"reason"}, table: "dead_letters", pick: letter, sql: "UPDATE reason = 'no-price' WHERE {row}"},
	{name: "other bytes", kinds: []string{"raw"}, table: "dead_letters", pick: letter, sql: "UPDATE raw = concat(raw, ' ') WHERE {row}"},
	{name: "a payment lost", kinds: []string{"not-credited"}, table: "account_entries", pick: payment, sql: "DELETE WHERE {row}"},
	{name: "a payment off by a unit", kinds: []string{"payment"}, table: "account_entries", pick: payment, sql: "UPDATE amount_units = amount_units + 1 WHERE {row}"},
	{name: "a payment twice", kinds: []string{"payment"}, table: "account_entries", pick: payment, sql: "INSERT {row} entry_offset = entry_offset + 1000000"},
	{name: "a credit twice", kinds: []string{"credit"}, table: "account_entries", pick: "kind = 'credit'", sql: "INSERT {row} entry_offset = entry_offset + 1000000"},
	{name: "an opening off by a unit", kinds: []string{"opening"}, table: "account_entries", pick: "kind = 'account'", sql: "UPDATE amount_units = amount_units + 1 WHERE {row}"},
	{name: "an account lost", kinds: []string{"not-opened"}, table: "account_entries", pick: "kind = 'account'", sql: "DELETE WHERE {row}"},
	{name: "money for a number", kinds: []string{"entry-amount"}, table: "account_entries", pick: "kind = 'number'", sql: "UPDATE amount_units = -1 WHERE {row}"},
	{name: "a capture twice", kinds: []string{"captured-twice", "balance"}, file: gatewayFile, change: captureTwice},
	{name: "captures forgotten", kinds: []string{"payment", "balance"}, file: gatewayFile, change: func([]byte) []byte { return nil }},
	{name: "captures of another recharge", kinds: []string{"capture-without-recharge", "payment", "not-credited"}, file: gatewayFile,
		change: func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(`"ix":`), []byte(`"ix":1`)) }},
	{name: "captures of a unit more", kinds: []string{"capture-without-recharge", "payment", "balance"}, file: gatewayFile,
		change: func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("000000,"), []byte("000001,")) }},
	{name: "a credit that nobody accepted", kinds: []string{"credit", "balance"}, file: creditsFile, change: func(text []byte) []byte { return text[bytes.IndexByte(text, '\n')+1:] }},
	{name: "a credit that did not come", kinds: []string{"not-credited", "balance"}, file: creditsFile,
		change: func(text []byte) []byte {
			return append(text, bytes.ReplaceAll(text, []byte("first"), []byte("fourth"))...)
		}},
	{name: "a credit off by a unit", kinds: []string{"credit", "balance"}, file: creditsFile, change: func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(`"12.5"`), []byte(`"12.50000001"`)) }},
	{name: "a rate that is a hair dearer", kinds: []string{"amount", "balance"}, file: bookFile,
		change: func(text []byte) []byte {
			return bytes.ReplaceAll(text, []byte("rate: 0.045,"), []byte("rate: 0.0450001,"))
		}},
	{name: "another window", kinds: []string{"window"}, file: bookFile, change: func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("46800000"), []byte("7200000")) }},
}

func gatewayFile(in *installation) string { return in.gateway }
func creditsFile(in *installation) string { return in.accepted }
func bookFile(in *installation) string    { return in.book }

// captureTwice writes the first line of a capture once more.
func captureTwice(text []byte) []byte {
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`"status":2`)) {
			return append(text, line...)
		}
	}
	return text
}

// sabotage spoils something, demands that the oracle finds it, and mends it.
func (in *installation) sabotage(t *testing.T, s sabotage) {
	whole := *in
	whole.T = t
	if s.file != nil {
		defer whole.edit(s.file(in), s.change)()
	} else {
		defer whole.restore(s.table)
		whole.spoil(s)
	}
	status, report := whole.compare()
	if want := map[bool]int{true: exitEqual, false: exitDifferent}[len(s.kinds) == 0]; status != want {
		t.Errorf("status %d, want %d: %v", status, want, report.Examples)
	}
	for _, kind := range s.kinds {
		named := slices.ContainsFunc(report.Examples, func(d oracle.Difference) bool {
			return d.Kind == kind && d.Where != "" && d.Expected != "" && d.Found != ""
		})
		if report.DifferencesByKind[kind] == 0 || !named {
			t.Errorf("no difference %s is named: %v", kind, report.Examples)
		}
	}
	t.Log(report.DifferencesByKind, report.Examples)
}

// spoil spoils a table.
func (in *installation) spoil(s sabotage) {
	in.Helper()
	var shard uint16
	var offset int64
	var ix uint32
	var id uint64
	in.must(in.rows.QueryRow(in.Context(), "SELECT shard, entry_offset, ix, id_hash FROM "+s.table+" WHERE "+s.pick+" ORDER BY shard, entry_offset, ix LIMIT 1").Scan(&shard, &offset, &ix, &id))
	row := fmt.Sprintf("shard = %d AND entry_offset = %d AND ix = %d", shard, offset, ix)
	if changes, insert := strings.CutPrefix(s.sql, "INSERT {row}"); insert {
		columns := in.columns(s.table)
		values := strings.Join(columns, ", ")
		for change := range strings.SplitSeq(strings.TrimSpace(changes), ", ") {
			if column, value, ok := strings.Cut(change, " = "); ok {
				values = strings.Replace(", "+values+",", ", "+column+",", ", "+value+",", 1)
				values = strings.Trim(values, ", ")
			}
		}
		in.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s", s.table, strings.Join(columns, ", "), values, s.table, row))
		return
	}
	statement := strings.NewReplacer("{row}", row, "{id}", fmt.Sprintf("id_hash = %d", id)).Replace(s.sql)
	in.exec("ALTER TABLE " + s.table + " " + statement + " SETTINGS mutations_sync = 2")
}

func (in *installation) exec(statement string) {
	in.Helper()
	if err := in.rows.Exec(in.Context(), statement); err != nil {
		in.Fatalf("%s: %v", statement, err)
	}
}

// columns lists the columns of a table that hold something.
func (in *installation) columns(table string) (names []string) {
	in.Helper()
	rows, err := in.rows.Query(in.Context(), "SELECT name FROM system.columns WHERE database = 'tollgate' AND table = ? AND default_kind != 'EPHEMERAL' ORDER BY position", table)
	in.must(err)
	defer rows.Close()
	for rows.Next() {
		var name string
		in.must(rows.Scan(&name))
		names = append(names, name)
	}
	return names
}

// keep copies a table, and restore puts the copy back.
func (in *installation) keep(table string) {
	in.Helper()
	columns := strings.Join(in.columns(table), ", ")
	in.exec("CREATE TABLE kept_" + table + " AS " + table)
	in.exec(fmt.Sprintf("INSERT INTO kept_%s (%s) SELECT %s FROM %s", table, columns, columns, table))
}

func (in *installation) restore(table string) {
	in.Helper()
	columns := strings.Join(in.columns(table), ", ")
	in.exec("TRUNCATE TABLE " + table)
	in.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM kept_%s", table, columns, columns, table))
}

// TestItSaysWhatItCannotDo has command lines, files and servers that are not there.
func TestItSaysWhatItCannotDo(t *testing.T) {
	book := filepath.Join(t.TempDir(), "book.yml")
	if err := os.WriteFile(book, []byte("formats:\n  - {topic: a, format: tollgate, version: 1, source: a}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no book":         {},
		"unknown flag":    {"--books", book},
		"an argument":     {"--book", book, "more"},
		"no such book":    {"--book", book + "x"},
		"nobody listens":  {"--book", book, "--clickhouse", closedAddress(t)},
		"no such gateway": {"--book", book, "--clickhouse", closedAddress(t), "--gateway", book + "x"},
	} {
		var progress bytes.Buffer
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		status := run(t.Context(), args, out, &progress)
		if status != exitFailed || progress.Len() == 0 {
			t.Errorf("%s: status %d, %q", name, status, progress.String())
		}
		if info, err := out.Stat(); err != nil || info.Size() > 0 {
			t.Errorf("%s: something is printed all the same", name)
		}
		out.Close()
	}
}
