package late

import (
	"math"
	"testing"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/sink"
)

// TestLookUpInClickHouse stores postings as the store stage does, and looks them up.
func TestLookUpInClickHouse(t *testing.T) {
	stack := local.ForTest(t, local.ClickHouse)
	options := sink.Options{Addrs: []string{stack.ClickHouseAddr}}
	if err := sink.Migrate(t.Context(), options, 0); err != nil {
		t.Fatal(err)
	}
	store, err := sink.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ledger := NewClickHouse(store.Conn(), time.Minute)

	const huge = math.MaxUint64 // more than a signed number holds
	b := &posting.Block{AppendMs: 20_000 * 24 * hourMs}
	b.Entries.Reset(carrier, entry.None)
	post := func(kind entry.Kind, id uint64, result posting.Result) {
		b.Entries.Add(&entry.Entry{Kind: kind, Service: 1, Account: 1, IDHash: id, AmountUnits: -5, EventMs: b.AppendMs, LocalDay: 20_000})
		b.Outcomes = append(b.Outcomes, posting.Outcome{Result: result, StatementDay: 20_000 + int32(len(b.Outcomes)%3)})
	}
	post(entry.Usage, huge, posting.Charged)
	post(entry.Usage, 2, posting.Late)
	post(entry.Release, 2, posting.Late)
	post(entry.Usage, 3, posting.Late)
	post(entry.Release, 3, posting.Charged)
	post(entry.Usage, 4, posting.Duplicate)
	post(entry.Usage, 5, posting.Repeated)
	post(entry.Credit, 6, posting.Applied)
	post(entry.Usage, 7, posting.Refused)
	var rows sink.Rows
	rows.Append(1, b)
	rows.Append(1, b)
	if err := store.Insert(t.Context(), &rows); err != nil {
		t.Fatal(err)
	}

	asked := []Record{{1, huge}, {2, huge}}
	for id := uint64(2); len(asked) < DefaultConfig().RecordsPerQuery; id++ {
		asked = append(asked, Record{1, id}, Record{1, huge - id}) // as long a query as there can be
	}
	charged, err := ledger.Charged(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range asked {
		want := record == Record{1, huge} || record == Record{1, 3}
		if charged[record] != want {
			t.Errorf("%v: charged is %v", record, charged[record])
		}
	}
	if charged, err = ledger.Charged(t.Context(), nil); err != nil || len(charged) > 0 {
		t.Errorf("nothing asked: %v, %v", charged, err)
	}
	if err := stack.ClickHouse.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Charged(t.Context(), asked); err == nil {
		t.Error("a server that is away gave an answer")
	}
}
