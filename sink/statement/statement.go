// Package statement is the read side of ClickHouse: the daily statement of one account, and totals to reconcile by.
//
// It stands behind store, and reads what that wrote; it never writes. Statement days are dates that the fold has fixed:
// nothing is computed from times of day. Amounts are sums of what is stored, never rounded again. A statement that does
// not add up to the account's balance is an error, not a statement.
package statement

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tollgate/tollgate/rater/money"
)

// Day is a date without a zone, in days since 1970-01-01.
type Day int32

// ParseDay reads a date such as 2026-11-24.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, fmt.Errorf("cannot read %q as a day: write it as 2026-11-24", text)
	}
	return Day(t.Unix() / secondsPerUTCDay), nil
}

// secondsPerUTCDay: days in UTC, which only number the dates here, are all of one length.
const secondsPerUTCDay = 24 * 3600

// The days that a column of statement days holds: what is beyond them, the server takes for something else.
const (
	earliestDay Day = -25_567 // 1900-01-01
	latestDay   Day = 120_529 // 2299-12-31
)

// String gives the date as 2026-11-24.
func (d Day) String() string {
	return time.Unix(int64(d)*secondsPerUTCDay, 0).UTC().Format(time.DateOnly)
}

// Usage is one line of a statement: what one number used of one service.
type Usage struct {
	Number  uint64
	Service string
	// Late tells that the usage is of days whose statements were closed when it came.
	Late            bool
	Count           uint64 // records
	DurationSeconds uint64 // as the carrier stated them
	Billed          uint64 // seconds, or segments of messages
	Amount          money.Amount
}

// Change is one other line: a payment, a credit, an adjustment, a fee, the opening balance of a new account.
type Change struct {
	Time   time.Time
	Day    Day
	Kind   string // as table account_entries has it
	Number uint64 // that a fee is for, or 0
	Note   string
	Amount money.Amount
}

// Statement is what happened to an account on a range of statement days. Opening + the lines = Closing.
type Statement struct {
	Account  uint32
	Label    string
	Currency money.Currency
	Zone     string // IANA
	From, To Day
	Opening  money.Amount
	Usage    []Usage
	Changes  []Change
	Closing  money.Amount
	// Closed tells that all the days are closed: the statement will never change. Else it is provisional.
	Closed bool
	// AsOf is the append time of the account's newest entry that is stored.
	AsOf time.Time
}

// ErrUnsettled says that the account's rows did not add up to its balance: they are being stored right now, or some are
// missing (`tollgate verify` tells which).
var ErrUnsettled = errors.New("the stored rows do not add up to the account's balance")

// Reader reads statements and totals.
type Reader struct {
	conn driver.Conn
}

// NewReader reads through the connections.
func NewReader(conn driver.Conn) *Reader { return &Reader{conn: conn} }

const (
	// maxChanges bounds the lines of a statement that are not usage.
	maxChanges = 100_000
	// settleTries is how often a statement is read again while its rows are being stored, settlePause how soon.
	settleTries = 10
	settlePause = 200 * time.Millisecond
)

// settings of all reads: FINAL collapses what was inserted again; no key is in two partitions.
var settings = clickhouse.Settings{"final": 1, "do_not_merge_across_partitions_select_final": 1}

// Statement reads the statement of an account for the days from..to.
func (r *Reader) Statement(ctx context.Context, account uint32, from, to Day) (*Statement, error) {
	if to < from {
		return nil, fmt.Errorf("cannot make a statement from %s to %s: the end is before the start", from, to)
	}
	if from < earliestDay || to > latestDay {
		return nil, fmt.Errorf("cannot make a statement from %s to %s: statement days are from %s to %s", from, to, earliestDay, latestDay)
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings))
	for try := 1; ; try++ {
		s, err := r.read(ctx, account, from, to)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, ErrUnsettled) || try == settleTries {
			return nil, fmt.Errorf("cannot make the statement of account %d: %w", account, err)
		}
		select { // store writes the tables one after the other: look again
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settlePause):
		}
	}
}

// read reads the statement once.
func (r *Reader) read(ctx context.Context, account uint32, from, to Day) (*Statement, error) {
	s := &Statement{Account: account, From: from, To: to}
	if err := r.account(ctx, s); err != nil {
		return nil, err
	}
	var err error
	if s.Closed, err = r.closed(ctx, s); err != nil { // first: what is read later holds all that was before the closing
		return nil, err
	}
	at, err := r.standing(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := r.usage(ctx, s, at.newest); err != nil {
		return nil, err
	}
	if err := r.changes(ctx, s, at.newest); err != nil {
		return nil, err
	}
	s.AsOf, s.Opening, s.Closing = at.asOf, at.before, at.before
	for i := range s.Usage {
		s.Closing += s.Usage[i].Amount
	}
	for i := range s.Changes {
		s.Closing += s.Changes[i].Amount
	}
	switch {
	case at.all != at.balance:
		return nil, fmt.Errorf("%w: they add up to %s, the balance is %s", ErrUnsettled, s.Currency.Format(at.all), s.Currency.Format(at.balance))
	case s.Closing != at.before+at.within:
		return nil, fmt.Errorf("%w: the lines lead to %s, the sums to %s", ErrUnsettled, s.Currency.Format(s.Closing), s.Currency.Format(at.before+at.within))
	}
	return s, nil
}

// account reads what is known of the account itself.
func (r *Reader) account(ctx context.Context, s *Statement) error {
	var code string
	err := r.conn.QueryRow(ctx, "SELECT toString(currency), toString(zone), label FROM accounts WHERE account_id = ?", s.Account).Scan(&code, &s.Zone, &s.Label)
	if errors.Is(err, sql.ErrNoRows) {
		return errors.New("table accounts does not have it: check the number, or wait until the book is copied")
	}
	if err != nil {
		return fmt.Errorf("cannot read table accounts: %w", err)
	}
	s.Currency, err = money.ParseCurrency(code)
	return err
}

// standing is where an account stands in both tables.
type standing struct {
	before, within, all money.Amount // sums of amounts: of earlier days, of the days, of all days
	balance             money.Amount // after the newest entry
	newest              int64        // block of the newest entry, -1 if there is none
	asOf                time.Time
}

// standing reads the sums of both tables in one query, so that they are of one moment as nearly as can be.
func (r *Reader) standing(ctx context.Context, s *Statement) (at standing, err error) {
	const query = `
		SELECT sumIf(toInt128(amount_units), statement_day < toDate32(?)), sumIf(toInt128(amount_units), statement_day BETWEEN toDate32(?) AND toDate32(?)),
		       sum(toInt128(amount_units)), argMax(balance_units, (entry_offset, ix)), if(count() = 0, -1, max(entry_offset)), max(append_time)
		FROM (
			SELECT amount_units, statement_day, balance_units, entry_offset, ix, append_time FROM rated_records WHERE account_id = ?
			UNION ALL
			SELECT amount_units, statement_day, balance_units, entry_offset, ix, append_time FROM account_entries WHERE account_id = ?)`
	var before, within, all big.Int
	var balance int64
	row := r.conn.QueryRow(ctx, query, int32(s.From), int32(s.From), int32(s.To), s.Account, s.Account)
	if err := row.Scan(&before, &within, &all, &balance, &at.newest, &at.asOf); err != nil {
		return at, fmt.Errorf("cannot read the sums: %w", err)
	}
	at.balance = money.Amount(balance)
	for _, sum := range []struct {
		from *big.Int
		to   *money.Amount
	}{{&before, &at.before}, {&within, &at.within}, {&all, &at.all}} {
		if *sum.to = money.Amount(sum.from.Int64()); !sum.from.IsInt64() {
			return at, fmt.Errorf("%w: a sum of %s units is beyond all bounds", ErrUnsettled, sum.from)
		}
	}
	return at, nil
}

// usage reads the lines of usage, of blocks up to newest.
func (r *Reader) usage(ctx context.Context, s *Statement, newest int64) error {
	const query = `
		SELECT number, toString(service), local_day < statement_day AS late, count(), sum(duration_seconds), sum(billed), sum(amount_units)
		FROM rated_records
		WHERE account_id = ? AND statement_day BETWEEN toDate32(?) AND toDate32(?) AND result = 'charged' AND entry_offset <= ?
		GROUP BY number, service, late ORDER BY number, service, late`
	rows, err := r.conn.Query(ctx, query, s.Account, int32(s.From), int32(s.To), newest)
	if err != nil {
		return fmt.Errorf("cannot read the usage: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			u      Usage
			late   uint8
			amount int64
		)
		if err := rows.Scan(&u.Number, &u.Service, &late, &u.Count, &u.DurationSeconds, &u.Billed, &amount); err != nil {
			return fmt.Errorf("cannot read the usage: %w", err)
		}
		u.Late, u.Amount = late != 0, money.Amount(amount)
		s.Usage = append(s.Usage, u)
	}
	return rows.Err()
}

// changes reads the other lines, of blocks up to newest.
func (r *Reader) changes(ctx context.Context, s *Statement, newest int64) error {
	const query = `
		SELECT event_time, toInt32(statement_day), toString(kind), number, note, amount_units
		FROM account_entries
		WHERE account_id = ? AND statement_day BETWEEN toDate32(?) AND toDate32(?) AND amount_units != 0 AND entry_offset <= ?
		ORDER BY entry_offset, ix LIMIT ?`
	rows, err := r.conn.Query(ctx, query, s.Account, int32(s.From), int32(s.To), newest, maxChanges+1)
	if err != nil {
		return fmt.Errorf("cannot read the payments: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			c      Change
			day    int32
			amount int64
		)
		if err := rows.Scan(&c.Time, &day, &c.Kind, &c.Number, &c.Note, &amount); err != nil {
			return fmt.Errorf("cannot read the payments: %w", err)
		}
		c.Day, c.Amount = Day(day), money.Amount(amount)
		s.Changes = append(s.Changes, c)
	}
	if len(s.Changes) > maxChanges {
		return fmt.Errorf("it has more than %d payments and other changes in these days: ask for fewer days", maxChanges)
	}
	return rows.Err()
}

// closed tells whether the last day is closed in the account's zone, as its shard has it. Store writes closings last, so
// all that was in the log before the newest one is stored when it is seen. Beyond that one, some rows may be stored and
// others not: a move of the account counts only from the next closing on.
func (r *Reader) closed(ctx context.Context, s *Statement) (bool, error) {
	const closings = `
		SELECT groupUniqArrayIf(arg0, result = 'applied' AND arg1 >= ?), max((entry_offset, ix)).1, max((entry_offset, ix)).2
		FROM account_entries
		WHERE account_id = 0 AND kind = 'close' AND shard IN (SELECT shard FROM account_entries WHERE account_id = ?)`
	var (
		zones  []int64 // in which the day is closed
		offset int64
		ix     uint32
	)
	if err := r.conn.QueryRow(ctx, closings, int64(s.To), s.Account).Scan(&zones, &offset, &ix); err != nil {
		return false, fmt.Errorf("cannot read the closed days: %w", err)
	}
	const home = `
		SELECT argMax(arg0, (entry_offset, ix)), count() > 0
		FROM account_entries
		WHERE account_id = ? AND kind IN ('account', 'zone') AND result = 'applied' AND (entry_offset, ix) < (?, ?)`
	var (
		zone int64
		open uint8
	)
	if err := r.conn.QueryRow(ctx, home, s.Account, offset, ix).Scan(&zone, &open); err != nil {
		return false, fmt.Errorf("cannot read the account's zone: %w", err)
	}
	return open != 0 && slices.Contains(zones, zone), nil
}
