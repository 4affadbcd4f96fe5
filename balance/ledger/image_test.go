package ledger_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// randomState fills every part of a state.
func randomState(rng *rand.Rand, size int) *ledger.Shard {
	s := ledger.New()
	s.WM, s.NowMs, s.Generation = rng.Int64N(1<<40), rng.Int64N(1<<50), rng.Int64N(1000)
	s.GenerationStartMs, s.CoveredSinceMs = rng.Int64N(1<<50), rng.Int64N(1<<50)
	s.Params[ledger.Attempts] = rng.Int64N(255)
	for range size {
		a := &ledger.Account{Open: rng.IntN(2) == 0, Failures: uint8(rng.IntN(255)), Zone: rng.Uint32(), Floor: int32(rng.Uint32()),
			BalanceUnits: money.Amount(rng.Int64N(1<<53) - 1<<52), DeclinedMs: rng.Int64N(1 << 50)}
		if a.HasIntent = rng.IntN(2) == 0; a.HasIntent {
			a.Intent = ledger.Intent{Offset: rng.Int64N(1 << 50), Ix: rng.Uint32(), Attempt: uint8(rng.IntN(256)), AmountUnits: 5, OpenedMs: 6}
		}
		for range rng.IntN(ledger.TokensKept + 1) {
			a.Tokens = append(a.Tokens, ledger.Token{Offset: rng.Int64N(1 << 50), Ix: rng.Uint32(), Attempt: uint8(rng.IntN(256))})
		}
		s.Accounts[rng.Uint32()] = a
		s.Closed[rng.Uint32()] = int32(rng.Uint32())
		s.Sources[entry.Source{TopicID: [16]byte{byte(rng.IntN(256))}, Partition: int32(rng.Uint32())}] = entry.Position{Offset: rng.Int64N(1 << 50), Ix: rng.Uint32()}
		s.Current.Add(rng.Uint64())
		s.Previous.Add(rng.Uint64())
		id := rng.Uint64()
		o := posting.Outcome{Result: posting.Applied, StatementDay: int32(rng.Uint32()), BalanceUnits: money.Amount(rng.Int64N(1 << 50))}
		if rng.IntN(2) == 0 {
			o.Flags, o.IntentUnits = posting.OpenedIntent, 77
		}
		s.Results[id] = ledger.APIResult{Offset: rng.Int64N(1 << 50), BodyHash: int64(rng.Uint64()), Outcome: o}
		s.ResultOrder = append(s.ResultOrder, id)
	}
	return s
}

func chunksOf(t testing.TB, m ledger.Image, id byte, limit int) (chunks [][]byte) {
	t.Helper()
	err := m.Write([16]byte{id}, limit, func(chunk []byte) error {
		if len(chunk) > max(limit, 16<<10) {
			t.Errorf("a chunk of %d bytes with the limit %d", len(chunk), limit)
		}
		chunks = append(chunks, bytes.Clone(chunk))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// TestImagesComeBackWhole holds I7: whatever images are mixed in the log, the newest whole one is found, unchanged.
func TestImagesComeBackWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		var queues [][][]byte
		var newest *ledger.Shard
		for i := range rapid.IntRange(1, 4).Draw(rt, "images") {
			s := randomState(rng, rapid.IntRange(0, 300).Draw(rt, "size"))
			chunks := chunksOf(t, ledger.Image{State: s, NextPosting: s.WM + 7}, byte(i), rapid.IntRange(0, 100_000).Draw(rt, "limit"))
			switch lost := rapid.IntRange(-3, len(chunks)-1).Draw(rt, "lost"); {
			case lost >= 0:
				chunks = append(chunks[:lost], chunks[lost+1:]...)
			case newest == nil || s.WM >= newest.WM:
				newest = s
			}
			queues = append(queues, chunks)
		}
		var a ledger.Assembler
		for len(queues) > 0 {
			q := rng.IntN(len(queues))
			if len(queues[q]) == 0 {
				queues = append(queues[:q], queues[q+1:]...)
				continue
			}
			for range 1 + rng.IntN(2) { // sometimes twice
				if err := a.Add(queues[q][0]); err != nil {
					rt.Fatal(err)
				}
			}
			queues[q] = queues[q][1:]
		}
		switch got := a.Newest(); {
		case (got == nil) != (newest == nil):
			rt.Fatalf("found %v, written %v", got != nil, newest != nil)
		case got == nil:
		case got.NextPosting != newest.WM+7:
			rt.Fatalf("next posting %d after %d", got.NextPosting, newest.WM)
		default:
			if difference := ledger.Equal(newest, got.State); difference != "" {
				rt.Fatal(difference)
			}
		}
	})
}

// TestImagesAreDeterministic holds that equal states make equal bytes.
func TestImagesAreDeterministic(t *testing.T) {
	one := chunksOf(t, ledger.Image{State: randomState(rand.New(rand.NewPCG(1, 1)), 500)}, 1, 0)
	two := chunksOf(t, ledger.Image{State: randomState(rand.New(rand.NewPCG(1, 1)), 500)}, 1, 0)
	if !bytes.Equal(bytes.Join(one, nil), bytes.Join(two, nil)) {
		t.Fatal("the bytes differ")
	}
}

// TestWriteStops holds that an image is not written on after an error.
func TestWriteStops(t *testing.T) {
	full := errors.New("full")
	sent := 0
	err := ledger.Image{State: randomState(rand.New(rand.NewPCG(1, 1)), 500)}.Write([16]byte{}, 0, func([]byte) error {
		if sent++; sent == 2 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || sent != 2 {
		t.Fatalf("%v after %d chunks", err, sent)
	}
}

// TestBrokenChunksAreRefused holds that no flipped bit and no cut passes.
func TestBrokenChunksAreRefused(t *testing.T) {
	chunk := chunksOf(t, ledger.Image{State: randomState(rand.New(rand.NewPCG(1, 1)), 3)}, 1, 0)[0]
	for i := range chunk {
		broken := bytes.Clone(chunk)
		broken[i] ^= 0x40
		var a ledger.Assembler
		if err := a.Add(broken); !errors.Is(err, ledger.ErrCorruptImage) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if err := a.Add(chunk[:i]); !errors.Is(err, ledger.ErrCorruptImage) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// FuzzAssembler holds that no bytes make the assembler panic.
func FuzzAssembler(f *testing.F) {
	chunks := chunksOf(f, ledger.Image{State: randomState(rand.New(rand.NewPCG(1, 1)), 3)}, 1, 0)
	for _, chunk := range chunks {
		f.Add(chunk)
	}
	f.Fuzz(func(t *testing.T, chunk []byte) {
		var a ledger.Assembler
		if err := a.Add(chunks[0]); err != nil {
			t.Fatal(err)
		}
		if err := a.Add(ledger.Sealed(chunk, chunks[0])); err != nil && !errors.Is(err, ledger.ErrCorruptImage) {
			t.Fatal(err)
		}
	})
}

// FuzzUnpackAccount holds that what unpacks packs to the same bytes.
func FuzzUnpackAccount(f *testing.F) {
	for _, a := range randomState(rand.New(rand.NewPCG(1, 1)), 4).Accounts {
		f.Add(a.AppendPacked(nil))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		a, err := ledger.UnpackAccount(packed)
		if err == nil && packed[1] < 16 && !bytes.Equal(a.AppendPacked(nil), packed) {
			t.Fatalf("%x packs to %x", packed, a.AppendPacked(nil))
		}
	})
}

func TestEqualNamesTheDifference(t *testing.T) {
	a, b := randomState(rand.New(rand.NewPCG(1, 1)), 20), randomState(rand.New(rand.NewPCG(1, 1)), 20)
	if d := ledger.Equal(a, b); d != "" {
		t.Fatalf("equal states differ: %s", d)
	}
	b.ResultOrder[0], b.ResultOrder[1] = b.ResultOrder[1], b.ResultOrder[0]
	if ledger.Equal(a, b) == "" {
		t.Error("an order of results passed")
	}
	b.Accounts[7] = &ledger.Account{}
	if d := ledger.Equal(a, b); d[:10] != "account 7:" {
		t.Errorf("account 7 is named %q", d)
	}
	b.WM++
	if d := ledger.Equal(a, b); d[:3] != "wm:" {
		t.Errorf("wm is named %q", d)
	}
}
