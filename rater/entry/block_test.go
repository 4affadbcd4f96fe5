package entry

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
	"pgregory.net/rapid"
)

func drawEntry(t *rapid.T) Entry {
	e := Entry{
		Kind:        Kind(rapid.IntRange(int(Usage), int(Settings)).Draw(t, "kind")),
		Service:     price.Service(rapid.IntRange(0, 4).Draw(t, "service")),
		Reason:      Reason(rapid.IntRange(0, 6).Draw(t, "reason")),
		Account:     rapid.Uint32().Draw(t, "account"),
		Number:      rapid.Uint64().Draw(t, "number"),
		AmountUnits: money.Amount(rapid.Int64().Draw(t, "amount")),
		Position:    Position{rapid.Int64Range(-1, 1<<53-1).Draw(t, "offset"), rapid.Uint32().Draw(t, "ix")},
		EventMs:     rapid.Int64().Draw(t, "event"), LocalDay: rapid.Int32().Draw(t, "day"),
		DurationSeconds: rapid.Uint32().Draw(t, "duration"), Billed: rapid.Uint32().Draw(t, "billed"),
		Tariff: rapid.Uint32().Draw(t, "tariff"), Row: rapid.Uint32().Draw(t, "row"), IDHash: rapid.Uint64().Draw(t, "hash"),
		ID:   rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "id"),
		Peer: rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "peer"),
	}
	if e.Kind != Usage {
		for i := range e.Args {
			e.Args[i] = rapid.Int64().Draw(t, "arg")
		}
		e.Extra = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "extra")
	}
	return e
}

func drawBlock(t *rapid.T) (*Block, []Entry) {
	b := &Block{}
	source := Source{Partition: rapid.Int32().Draw(t, "partition")}
	copy(source.TopicID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic"))
	b.Reset(source, Position{rapid.Int64Range(-1, 1<<53-1).Draw(t, "prev offset"), rapid.Uint32().Draw(t, "prev ix")})
	entries := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 20).Draw(t, "entries")
	for i := range entries {
		b.Add(&entries[i])
	}
	return b, entries
}

func sameEntry(a, b Entry) bool {
	if !bytes.Equal(a.ID, b.ID) || !bytes.Equal(a.Peer, b.Peer) || !bytes.Equal(a.Extra, b.Extra) {
		return false
	}
	a.ID, a.Peer, a.Extra, b.ID, b.Peer, b.Extra = nil, nil, nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

func TestBlockRoundTrip(t *testing.T) {
	var decoded Block // reused from case to case, as a loop would
	rapid.Check(t, func(t *rapid.T) {
		b, entries := drawBlock(t)
		wire := b.AppendTo([]byte("before"))[6:]
		if err := decoded.Decode(wire); err != nil {
			t.Fatal(err)
		}
		if decoded.Source != b.Source || decoded.Prev != b.Prev || decoded.Len() != len(entries) {
			t.Fatalf("header: %+v, want %+v", decoded, b)
		}
		for i := range entries {
			var e Entry
			decoded.Get(i, &e)
			if !sameEntry(e, entries[i]) {
				t.Fatalf("entry %d: %+v, want %+v", i, e, entries[i])
			}
		}
		if again := decoded.AppendTo(nil); !bytes.Equal(again, wire) {
			t.Fatal("encoding what was decoded gives other bytes")
		}
		sameFacts(t, wire, &decoded)
	})
}

// sameFacts holds DecodeForFold to Decode, which has read the same bytes.
func sameFacts(t interface{ Fatalf(string, ...any) }, wire []byte, b *Block) {
	var facts Block
	if err := facts.DecodeForFold(wire); err != nil {
		t.Fatalf("what Decode accepts, DecodeForFold does not: %v", err)
	}
	for i := range b.Len() {
		if facts.Args(i) != b.Args(i) {
			t.Fatalf("arguments of entry %d: %v, want %v", i, facts.Args(i), b.Args(i))
		}
	}
	if facts.Source != b.Source || facts.Prev != b.Prev || !slices.Equal(facts.Kind, b.Kind) || !slices.Equal(facts.Account, b.Account) ||
		!slices.Equal(facts.AmountUnits, b.AmountUnits) || !slices.Equal(facts.Offset, b.Offset) || !slices.Equal(facts.Ix, b.Ix) ||
		!slices.Equal(facts.EventMs, b.EventMs) || !slices.Equal(facts.LocalDay, b.LocalDay) || !slices.Equal(facts.IDHash, b.IDHash) {
		t.Fatalf("%+v, want %+v", facts, b)
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	var decoded Block
	rapid.Check(t, func(t *rapid.T) {
		b, _ := drawBlock(t)
		wire := b.AppendTo(nil)
		at := rapid.IntRange(0, len(wire)-1).Draw(t, "at")
		damaged := bytes.Clone(wire)
		damaged[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if err := decoded.Decode(damaged); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
		if err := decoded.Decode(wire[:at]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if decoded.Len() != 0 {
			t.Fatal("a refused block is not empty")
		}
		if err := decoded.DecodeForFold(damaged); !errors.Is(err, ErrCorrupt) || decoded.Len() != 0 {
			t.Fatalf("byte %d changed, for the fold: %v", at, err)
		}
	})
}

// FuzzDecode mends the checksum of what the fuzzer makes, so that the layout behind it is reached.
func FuzzDecode(f *testing.F) {
	b := &Block{}
	b.Reset(Source{Partition: 3}, None)
	b.Add(&Entry{Kind: Usage, ID: []byte("call-1"), Peer: []byte("+15551230000"), AmountUnits: -5})
	b.Add(&Entry{Kind: Rejected, Reason: Undecodable, Extra: []byte("{oops")})
	f.Add(b.AppendTo(nil))
	f.Add([]byte("TGE1"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		if len(wire) >= headerLen {
			wire = bytes.Clone(wire)
			copy(wire, magic[:])
			le.PutUint32(wire[8:], uint32(len(wire)))
			le.PutUint32(wire[4:], crc32.Checksum(wire[8:], castagnoli))
		}
		var decoded Block
		if decoded.Decode(wire) != nil {
			return
		}
		sameFacts(t, wire, &decoded)
		var e Entry
		for i := range decoded.Len() {
			decoded.Get(i, &e)
		}
		var again Block // the fuzzer may write a column wider than it must be
		if err := again.Decode(decoded.AppendTo(nil)); err != nil || again.Len() != decoded.Len() {
			t.Fatalf("a block that was accepted is encoded as one of %d entries, not %d: %v", again.Len(), decoded.Len(), err)
		}
		var same Entry
		for i := range decoded.Len() {
			decoded.Get(i, &e)
			if again.Get(i, &same); !sameEntry(e, same) {
				t.Fatalf("entry %d is %+v, and encoded again %+v", i, e, same)
			}
		}
	})
}

func usageBlock(n int) *Block {
	b := &Block{}
	b.Reset(Source{Partition: 1}, None)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		b.Add(&Entry{Kind: Usage, Service: price.VoiceIn + price.Service(rng.IntN(2)), Account: uint32(rng.IntN(100_000)), Number: 12_015_550_000 + rng.Uint64N(7_000_000_000),
			AmountUnits: money.Amount(-rng.Int64N(100_000_000)), Position: Position{1_000_000 + int64(i)*8, 0},
			EventMs: 1_790_000_000_000 + rng.Int64N(3_600_000), LocalDay: 20_717 + rng.Int32N(2), DurationSeconds: uint32(rng.IntN(4000)), Billed: uint32(rng.IntN(4000)),
			Tariff: uint32(rng.IntN(4)), Row: uint32(rng.IntN(1000)), IDHash: rng.Uint64(), ID: []byte("01JD3V8Q8ZK4Y2M5R7T9"), Peer: []byte("+15551230000")})
	}
	return b
}

func TestBlockAllocatesNothing(t *testing.T) {
	b, decoded, wire := usageBlock(1000), Block{}, []byte(nil)
	wire = b.AppendTo(wire[:0])
	if err := decoded.Decode(wire); err != nil {
		t.Fatal(err)
	}
	var e Entry
	allocs := testing.AllocsPerRun(50, func() {
		wire = b.AppendTo(wire[:0])
		_ = decoded.Decode(wire)
		b.Reset(b.Source, None)
		for i := range decoded.Len() {
			decoded.Get(i, &e)
			b.Add(&e)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per block", allocs)
	}
}

func BenchmarkBlock(b *testing.B) {
	block, decoded := usageBlock(1000), Block{}
	wire := block.AppendTo(nil)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			wire = block.AppendTo(wire[:0])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
	})
	b.Run("fold", func(b *testing.B) {
		for b.Loop() {
			_ = decoded.DecodeForFold(wire)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			_ = decoded.Decode(wire)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
		b.ReportMetric(float64(len(wire))/1000, "B/entry")
	})
}
