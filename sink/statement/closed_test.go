package statement

import (
	"context"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
	"github.com/tollgate/tollgate/sink"
)

// open opens an account in a zone.
func (b *books) open(account uint32, zone int64) {
	b.t.Helper()
	if err := b.store.WriteAccounts(b.t.Context(), []sink.Account{{ID: account, Currency: "USD", MinorDigits: 2, Zone: "Etc/UTC"}}); err != nil {
		b.t.Fatal(err)
	}
	b.post(day1-1, entry.Entry{Kind: entry.Account, Account: account, LocalDay: day1 - 1, Args: [4]int64{zone}})
}

func closing(zone, day int64) entry.Entry {
	return entry.Entry{Kind: entry.Close, Args: [4]int64{zone, day}}
}

// statement reads the statement of an account for one day.
func (b *books) statement(account uint32, day Day) *Statement {
	b.t.Helper()
	s, err := NewReader(b.store.Conn()).Statement(b.t.Context(), account, day, day)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// TestADayIsNotClosedBeforeItsRowsAreStored has one table refuse the rows of a batch that holds a day's last rows and its
// closing: as long as it does, no statement may say that the day is closed.
func TestADayIsNotClosedBeforeItsRowsAreStored(t *testing.T) {
	b := openBooks(t)
	exec := func(ddl string) {
		t.Helper()
		if err := b.store.Conn().Exec(t.Context(), ddl); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		table, rule string
		last        entry.Entry
		lines       int // of the statement, that it makes
	}{
		{"rated_records", "account_id = 0", usage(0, 1555, price.VoiceIn, day1, 30, 60, -725_000), 1},
		{"account_entries", "kind != 'credit'", entry.Entry{Kind: entry.Credit, LocalDay: day1, AmountUnits: 1_000_000_000}, 1},
		{"dead_letters", "account_id = 0", entry.Entry{Kind: entry.Rejected}, 0},
	} {
		account, zone := 10+uint32(i), 3+int64(i)
		b.open(account, zone)
		b.insert()
		exec("ALTER TABLE " + c.table + " ADD CONSTRAINT refused CHECK " + c.rule)
		c.last.Account = account
		b.post(day1, c.last)
		b.post(day1+1, closing(zone, day1))
		if err := b.store.Insert(t.Context(), &b.rows); err == nil {
			t.Fatalf("%s took the rows", c.table)
		}
		if s := b.statement(account, day1); s.Closed {
			t.Errorf("%s has not stored its rows, and the day is closed: %+v", c.table, s)
		}
		exec("ALTER TABLE " + c.table + " DROP CONSTRAINT refused")
		b.insert()
		if s := b.statement(account, day1); !s.Closed || s.Closing != c.last.AmountUnits || len(s.Usage)+len(s.Changes) != c.lines {
			t.Errorf("%s has stored its rows: %+v", c.table, s)
		}
	}
}

// meanwhile has something done before one query of a reader.
type meanwhile struct {
	driver.Conn
	queries, at int
	do          func()
}

func (m *meanwhile) step() {
	if m.queries++; m.queries == m.at {
		m.do()
	}
}

func (m *meanwhile) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	m.step()
	return m.Conn.Query(ctx, query, args...)
}

func (m *meanwhile) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	m.step()
	return m.Conn.QueryRow(ctx, query, args...)
}

// TestADayIsNotClosedBeforeItsRowsAreRead stores the rest of a day and its closing at every moment of the reading.
func TestADayIsNotClosedBeforeItsRowsAreRead(t *testing.T) {
	b := openBooks(t)
	for at := 1; ; at++ {
		account, zone := 10+uint32(at), 3+int64(at)
		b.open(account, zone)
		b.insert()
		conn := &meanwhile{Conn: b.store.Conn(), at: at, do: func() {
			b.post(day1, usage(account, 1555, price.VoiceIn, day1, 30, 60, -725_000))
			b.post(day1+1, closing(zone, day1))
			b.insert()
		}}
		s, err := NewReader(conn).Statement(t.Context(), account, day1, day1)
		if err != nil {
			t.Fatal(err)
		}
		if s.Closed && len(s.Usage) != 1 {
			t.Errorf("stored before query %d: closed without its usage: %+v", at, s)
		}
		if conn.queries < at {
			return
		}
	}
}

// TestClosedInTheAccountsZone follows accounts that move.
func TestClosedInTheAccountsZone(t *testing.T) {
	const east, west, other = 3, 4, 5
	b := openBooks(t)
	check := func(when string, account uint32, day Day, closed bool) {
		t.Helper()
		b.insert()
		if s := b.statement(account, day); s.Closed != closed {
			t.Errorf("%s: day %s of account %d is closed: %v", when, day, account, s.Closed)
		}
	}
	move := func(account uint32, zone int64) entry.Entry {
		return entry.Entry{Kind: entry.Zone, Account: account, LocalDay: day1, Args: [4]int64{zone}}
	}
	b.post(day1, closing(east, day1-1))
	b.open(10, east)
	b.open(11, west)
	check("opened, nothing was closed since", 10, day1-1, false)
	b.post(day1, closing(west, day1-2))
	check("east is closed", 10, day1-1, true)
	check("west is not", 11, day1-1, false)
	// What was in the log before the move may not be stored yet, as long as no later closing is.
	b.post(day1, move(11, east))
	check("the move is stored", 11, day1-1, false)
	b.post(day1, closing(other, day1-9), move(10, west))
	check("a later closing is stored", 11, day1-1, true)
	check("moved after the newest closing", 10, day1-1, true)
	refused := closing(east, day1+5)
	refused.Reason = 1
	b.post(day1+1, refused)
	check("a closing that did not take effect", 11, day1+5, false)
	check("before the account was opened", 1, day1-1, false)
}
