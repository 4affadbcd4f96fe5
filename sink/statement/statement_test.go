package statement

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
	"github.com/tollgate/tollgate/sink"
)

const (
	day1  = 20_760 // 2026-11-03
	dayMs = 24 * 3600 * 1000
)

// books writes postings with their balances for a few accounts of one shard.
type books struct {
	t        *testing.T
	store    *sink.ClickHouse
	offset   int64
	balances map[uint32]money.Amount
	block    posting.Block
	rows     sink.Rows
}

func openBooks(t *testing.T) *books {
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
	accounts := []sink.Account{{ID: 1, Currency: "USD", MinorDigits: 2, Zone: "America/Toronto", Label: "=cmd()\x1b[2J Dental"}, {ID: 2, Currency: "JPY", Zone: "Asia/Tokyo"}}
	if err := store.WriteAccounts(t.Context(), accounts); err != nil {
		t.Fatal(err)
	}
	return &books{t: t, store: store, balances: map[uint32]money.Amount{}}
}

// post makes one block of the entries, each shown on the given statement day.
func (b *books) post(day int32, entries ...entry.Entry) {
	b.offset++
	b.block = posting.Block{EntryOffset: b.offset, AppendMs: day1*dayMs + b.offset*1000}
	b.block.Entries.Reset(entry.Source{}, entry.None)
	for _, e := range entries {
		o := posting.Outcome{Result: posting.Applied, StatementDay: day}
		switch e.Kind {
		case entry.Usage, entry.Release:
			o.Result = posting.Charged
		case entry.Rejected:
			o.Result = posting.Rejected
		case entry.Close:
			e.Account = 0
		}
		if e.Reason != 0 { // a duplicate, for these tests
			e.Reason, o.Result = 0, posting.Duplicate
		} else {
			o.AmountUnits = e.AmountUnits
		}
		b.balances[e.Account] += o.AmountUnits
		o.BalanceUnits = b.balances[e.Account]
		b.block.Entries.Add(&e)
		b.block.Outcomes = append(b.block.Outcomes, o)
	}
	b.rows.Append(5, &b.block)
}

func (b *books) insert() {
	for range 2 {
		if err := b.store.Insert(b.t.Context(), &b.rows); err != nil {
			b.t.Fatal(err)
		}
	}
	b.rows.Reset()
}

func usage(account uint32, number uint64, service price.Service, localDay int32, seconds, billed uint32, amount money.Amount) entry.Entry {
	return entry.Entry{Kind: entry.Usage, Account: account, Number: number, Service: service, LocalDay: localDay, EventMs: int64(localDay) * dayMs,
		DurationSeconds: seconds, Billed: billed, AmountUnits: amount, ID: []byte("id"), Peer: []byte("peer")}
}

func TestStatement(t *testing.T) {
	b := openBooks(t)
	b.post(day1-1, entry.Entry{Kind: entry.Account, Account: 1, AmountUnits: 5_000_000_000, LocalDay: day1 - 1, Args: [4]int64{3}})
	b.post(day1, usage(1, 1555, price.VoiceIn, day1, 61, 120, -1_450_000), usage(1, 1555, price.VoiceIn, day1, 5, 60, -725_000),
		usage(1, 1555, price.MessageOut, day1, 0, 2, -1_500_001), usage(1, 1777, price.VoiceIn, day1, 1, 60, -725_000), usage(2, 8133, price.VoiceIn, day1, 1, 1, -7))
	duplicate := usage(1, 1555, price.VoiceIn, day1, 61, 120, -1_450_000)
	duplicate.Reason = 1
	b.post(day1, duplicate)
	b.post(day1+1, usage(1, 1555, price.VoiceIn, day1+1, 30, 60, -725_000))
	b.post(day1, usage(1, 1555, price.VoiceIn, day1, 30, 60, -725_000)) // later in the log, of an earlier day that is open
	b.post(day1, entry.Entry{Kind: entry.Close, Args: [4]int64{3, day1}})
	b.post(day1+1, usage(1, 1555, price.VoiceIn, day1, 600, 600, -7_250_000)) // late usage
	b.post(day1+1, entry.Entry{Kind: entry.Credit, Account: 1, LocalDay: day1 + 1, EventMs: (day1 + 1) * dayMs, AmountUnits: 1_000_000_000, Extra: []byte("@SUM(1)")},
		entry.Entry{Kind: entry.Number, Account: 1, Number: 1777, LocalDay: day1 + 1, EventMs: (day1 + 1) * dayMs, AmountUnits: -300_000_000})
	b.insert()
	reader := NewReader(b.store.Conn())

	s, err := reader.Statement(t.Context(), 1, day1, day1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Opening != 5_000_000_000 || s.Closing != 5_000_000_000-1_450_000-3*725_000-1_500_001 || !s.Closed || len(s.Changes) != 0 {
		t.Errorf("first day: %+v", s)
	}
	want := []Usage{
		{1555, "voice-in", false, 3, 96, 240, -2_900_000},
		{1555, "message-out", false, 1, 0, 2, -1_500_001},
		{1777, "voice-in", false, 1, 1, 60, -725_000},
	}
	for i, u := range want {
		if len(s.Usage) != len(want) || s.Usage[i] != u {
			t.Fatalf("first day's usage: %+v", s.Usage)
		}
	}
	if want := time.UnixMilli(day1*dayMs + b.offset*1000); !s.AsOf.Equal(want) {
		t.Errorf("as of %s, want %s", s.AsOf, want)
	}

	next, err := reader.Statement(t.Context(), 1, day1+1, day1+1)
	if err != nil {
		t.Fatal(err)
	}
	if next.Opening != s.Closing || next.Closing != b.balances[1] || next.Closed || len(next.Usage) != 2 || !next.Usage[1].Late || len(next.Changes) != 2 {
		t.Errorf("second day: %+v", next)
	}
	both, err := reader.Statement(t.Context(), 1, day1-10, day1+10)
	if err != nil || both.Opening != 0 || both.Closing != b.balances[1] || both.Closed {
		t.Errorf("both days: %+v, %v", both, err)
	}
	if empty, err := reader.Statement(t.Context(), 2, day1+5, day1+5); err != nil || empty.Opening != -7 || empty.Closing != -7 {
		t.Errorf("a day without lines: %+v, %v", empty, err)
	}
	checkRendering(t, next)

	for _, bad := range []struct {
		account  uint32
		from, to Day
	}{{3, day1, day1}, {1, day1, day1 - 1}, {1, day1, 2_932_896}, {1, earliestDay - 1, day1}} {
		if s, err := reader.Statement(t.Context(), bad.account, bad.from, bad.to); err == nil {
			t.Errorf("%+v: %+v", bad, s)
		}
	}
	b.balances[1]++ // a row is missing
	b.post(day1+1, usage(1, 1555, price.VoiceIn, day1+1, 30, 60, -1))
	b.insert()
	if s, err := reader.Statement(t.Context(), 1, day1, day1); !errors.Is(err, ErrUnsettled) {
		t.Errorf("a statement that does not add up: %+v, %v", s, err)
	}
}

func checkRendering(t *testing.T, s *Statement) {
	t.Helper()
	var table, object, sheet bytes.Buffer
	for _, err := range []error{s.WriteTable(&table), s.WriteJSON(&object), s.WriteCSV(&sheet)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"provisional", "2026-11-04", "voice-in, late usage", "49.94874999", "56.86899999", "-3.00", "USD", "America/Toronto"} {
		if !strings.Contains(table.String(), part) {
			t.Errorf("no %q in\n%s", part, table.String())
		}
	}
	if strings.Contains(table.String(), "\x1b") {
		t.Errorf("a terminal would obey\n%q", table.String())
	}
	var j struct {
		Opening, Closing, Status string
		Usage                    []struct{ Amount string }
		Changes                  []struct{ Amount, Kind, Note string }
	}
	if err := json.Unmarshal(object.Bytes(), &j); err != nil || j.Opening != "49.94874999" || j.Status != "provisional" || j.Changes[0].Amount != "10.00" || j.Usage[1].Amount != "-0.0725" {
		t.Errorf("%v %s", err, object.String())
	}
	lines, err := csv.NewReader(&sheet).ReadAll()
	if err != nil || len(lines) != 7 {
		t.Fatalf("%v %v", err, lines)
	}
	for _, line := range lines {
		if note := line[len(line)-1]; note != "" && strings.ContainsAny(note[:1], "=+-@") {
			t.Errorf("a spreadsheet would compute %q", note)
		}
	}
}

func TestTotals(t *testing.T) {
	b := openBooks(t)
	r := rand.New(rand.NewPCG(1, 2))
	sums := map[uint32]*big.Int{1: {}, 2: {}}
	for range 50 {
		account, amount := 1+uint32(r.IntN(2)), money.Amount(-r.Int64N(1e6))
		sums[account].Add(sums[account], big.NewInt(int64(amount)))
		e := usage(account, 1555, price.VoiceIn, day1, 1, 1, amount)
		e.Position = entry.Position{Offset: b.offset / 2, Ix: uint32(b.offset % 2)}
		b.post(day1, e)
	}
	release := usage(1, 1555, price.VoiceIn, day1, 1, 1, -1) // which comes from no source
	release.Kind, release.Position.Offset = entry.Release, 1_000
	b.post(day1, release)
	sums[1].Sub(sums[1], big.NewInt(1))
	b.insert()
	reader := NewReader(b.store.Conn())
	accounts, err := reader.AccountTotals(t.Context())
	if err != nil || len(accounts) != 2 || accounts[0].Units.Cmp(sums[1]) != 0 || accounts[1].Units.Cmp(sums[2]) != 0 || accounts[0].Shard != 5 {
		t.Errorf("%+v %v, want %v", accounts, err, sums)
	}
	shards, err := reader.ShardTotals(t.Context())
	if err != nil || len(shards) != 1 || shards[0].Rows != 51 || shards[0].FirstOffset != 1 || shards[0].LastOffset != 51 || shards[0].Units.Cmp(new(big.Int).Add(sums[1], sums[2])) != 0 {
		t.Errorf("%+v %v", shards, err)
	}
	sources, err := reader.SourceTotals(t.Context())
	last := entry.Position{Offset: 24, Ix: 1}
	if err != nil || len(sources) != 1 || sources[0].Records != 50 || sources[0].Messages != 25 || sources[0].Last != last || sources[0].First != (entry.Position{}) {
		t.Errorf("%+v %v", sources, err)
	}
}

func TestDays(t *testing.T) {
	for _, text := range []string{"2026-11-03", "1970-01-01", "1969-12-31", "2028-02-29"} {
		d, err := ParseDay(text)
		if err != nil || d.String() != text {
			t.Errorf("%s: %d %s %v", text, d, d, err)
		}
	}
	for _, text := range []string{"", "2026-02-30", "2026-1-1", "today", "2026-11-03T00:00:00Z"} {
		if d, err := ParseDay(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
}

func TestNeutral(t *testing.T) {
	for in, want := range map[string]string{"": "", "cash": "cash", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx"} {
		if got := neutral(in); got != want {
			t.Errorf("neutral(%q) = %q", in, got)
		}
	}
}
