package main

import (
	"math/big"
	"testing"
	"testing/fstest"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// FuzzRequest takes what an operator types for a top-up or a correction all the way: text, entry, block, fold. What is
// accepted moves the balance by exactly the amount that was typed, once, however often it is sent; another request under
// the same key is told apart; what is refused moves nothing.
func FuzzRequest(f *testing.F) {
	for _, r := range [][3]string{
		{"12.50", "invoice-4711", ""}, {"-1", "", "a mistake"}, {"0.00000001", "k", "n"}, {"90000000", "", ""}, {"1e3", "k", ""},
		{"40000000", "\x00", "\xff"}, {" 7 ", "same", "same"}, {"-0", "k", "why"},
	} {
		f.Add(r[0], r[1], r[2])
	}
	file, err := book.LoadFile(fstest.MapFS{"book.yml": {Data: []byte(plainBook)}}, "book.yml")
	if err != nil {
		f.Fatal(err)
	}
	b, err := file.Book()
	if err != nil {
		f.Fatal(err)
	}
	account := b.Account(1)
	f.Fuzz(func(t *testing.T, text, key, note string) {
		units, err := amount(account, text)
		if err != nil {
			return
		}
		r := request{kind: entry.Credit, account: account, amountUnits: units, key: newID(key), note: note}
		if units <= 0 {
			r.kind = entry.Adjustment
		}
		e, err := r.entry(b, 1_790_000_000_000)
		if err != nil {
			return
		}
		shard := ledger.New()
		fold := func(e entry.Entry) posting.Outcome { return foldWire(t, shard, &e) }
		opened := fold(entry.Entry{Kind: entry.Account, Account: 1, AmountUnits: 7_000_000_000})
		o := fold(e)
		moved := new(big.Int).Sub(big.NewInt(int64(o.BalanceUnits)), big.NewInt(int64(opened.BalanceUnits)))
		if applied := o.Result == posting.Applied; applied && moved.Cmp(big.NewInt(int64(units))) != 0 || !applied && moved.Sign() != 0 {
			t.Fatalf("%q, %d units: %s, the balance moved by %s", text, units, o.Result, moved)
		}
		if again := fold(e); again.Result != posting.Duplicate || again.BalanceUnits != o.BalanceUnits {
			t.Fatalf("sent again: %+v after %+v", again, o)
		}
		if kept, ok := shard.Results[e.IDHash]; o.Result == posting.Applied && (!ok || kept.Outcome != o || kept.BodyHash != e.Args[entry.ArgBody]) {
			t.Fatalf("kept %+v, %v of %+v", kept, ok, o)
		}
		r.amountUnits++
		if other, err := r.entry(b, 1_790_000_000_001); err != nil || other.IDHash != e.IDHash || other.Args[entry.ArgBody] == e.Args[entry.ArgBody] {
			t.Fatalf("%+v under the key of %+v: %v", other, e, err)
		}
	})
}

// foldWire folds one entry as it comes out of the log.
func foldWire(t *testing.T, shard *ledger.Shard, e *entry.Entry) posting.Outcome {
	t.Helper()
	var written, read entry.Block
	written.Reset(entry.Source{}, entry.None)
	written.Add(e)
	if err := read.Decode(written.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if err := shard.Check(&read); err != nil {
		t.Fatal(err)
	}
	return shard.Fold(shard.WM+1, 1_790_000_000_000, &read, nil)[0]
}
