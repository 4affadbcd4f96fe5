package book

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/price"
)

// scan finds the longest prefix by looking at every row and comparing text.
func scan(rows []price.Row, service price.Service, digits uint64) (best uint32, found bool) {
	text := ""
	if digits > 0 {
		text = fmt.Sprint(digits)
	}
	length := -1
	for i, r := range rows {
		if r.Service == service && strings.HasPrefix(text, prefixText(r.Prefix)) && int(r.PrefixDigits) > length {
			best, found, length = uint32(i), true, int(r.PrefixDigits)
		}
	}
	return best, found
}

func TestFindIsTheLongestPrefix(t *testing.T) {
	services := rapid.SampledFrom([]price.Service{price.VoiceIn, price.VoiceOut, price.MessageIn, price.MessageOut})
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string]bool{}
		var rows []price.Row
		for range rapid.IntRange(0, 60).Draw(t, "rows") {
			service := services.Draw(t, "service")
			text := rapid.StringMatching(`([1-3][0-3]{0,14})?`).Draw(t, "prefix")
			if key := fmt.Sprint(service, text); !seen[key] {
				seen[key] = true
				prefix, digits, err := parsePrefix(text)
				if err != nil {
					t.Fatal(err)
				}
				rows = append(rows, price.Row{Service: service, Prefix: prefix, PrefixDigits: digits})
			}
		}
		v, err := newVersion(rows)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			service := services.Draw(t, "service")
			digits := rapid.OneOf(rapid.Uint64Range(0, 3333), rapid.Uint64Range(1e10, 3_333_333_333_333_333),
				rapid.Map(rapid.SampledFrom(append(rows, price.Row{})), func(r price.Row) uint64 { return r.Prefix*10 + 1 }),
				rapid.Uint64()).Draw(t, "digits")
			if text := fmt.Sprint(digits); len(text) > price.MaxPrefixDigits {
				continue // no number of E.164 is that long
			}
			want, found := scan(rows, service, digits)
			if got, ok := v.Find(service, digits); ok != found || ok && got != want {
				t.Fatalf("%s %d: row %d, %v; want %d, %v", service, digits, got, ok, want, found)
			}
		}
	})
}

func TestFindTakesAnything(t *testing.T) {
	v, err := newVersion([]price.Row{{Service: price.VoiceIn, Prefix: 1, PrefixDigits: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Find(price.VoiceIn, 1<<64-1); !ok {
		t.Error("a number longer than E.164 allows was not found by its first digit")
	}
	for _, s := range []price.Service{0, 5, 255} {
		if _, ok := v.Find(s, 1); ok {
			t.Errorf("there is a row for %s", s)
		}
	}
}

func TestOnePrefixTwiceIsRefused(t *testing.T) {
	for _, r := range []price.Row{{Service: price.VoiceIn}, {Service: price.VoiceIn, Prefix: 44, PrefixDigits: 2}} {
		if _, err := newVersion([]price.Row{r, {Service: price.VoiceOut}, r}); err == nil || !strings.Contains(err.Error(), "row 2 is the second") {
			t.Errorf("two rows %+v: %v", r, err)
		}
	}
}

// deck is a rate deck of North America: six or seven digits after the country code, and a few other countries.
func deck(n int) []price.Row {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[uint64]bool{}
	rows := []price.Row{{Service: price.VoiceOut}}
	for len(rows) < n {
		prefix, digits := 1_200_000+random.Uint64N(800_000), uint8(7)
		switch random.IntN(100) {
		case 0:
			prefix, digits = 200+random.Uint64N(800), 3
		case 1, 2, 3, 4, 5:
			prefix, digits = prefix*10+random.Uint64N(10), 8
		}
		if !seen[prefix] {
			seen[prefix] = true
			rows = append(rows, price.Row{Service: price.VoiceOut, Prefix: prefix, PrefixDigits: digits})
		}
	}
	return rows
}

func BenchmarkFindIn200kRows(b *testing.B) {
	v, err := newVersion(deck(200_000))
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	numbers := make([]uint64, 4096)
	for i := range numbers {
		numbers[i] = 12_000_000_000 + random.Uint64N(8_000_000_000)
	}
	i := 0
	for b.Loop() {
		i++
		if _, ok := v.Find(price.VoiceOut, numbers[i%len(numbers)]); !ok {
			b.Fatal("a number without a row")
		}
	}
}

func BenchmarkIndex200kRows(b *testing.B) {
	rows := deck(200_000)
	for b.Loop() {
		if _, err := newVersion(rows); err != nil {
			b.Fatal(err)
		}
	}
}

// A version whose rows contradict each other can never be activated: its rows are let go, and nothing else is decided
// otherwise for it.
func TestAVersionThatContradictsItselfIsLetGo(t *testing.T) {
	s := installation(t)
	rows := func(chunk uint32, prefix string) *AddRows {
		return &AddRows{Tariff: "us", Revision: "torn", Currency: "USD", Chunk: chunk, Rows: []Row{{Service: "message-in", Segment: "1", Prefix: prefix}}}
	}
	s.must(rows(0, "1"), rows(1, "1"))
	for _, c := range []struct {
		r   Record
		why string
	}{
		{&ActivateTariff{Tariff: "us", Revision: "torn", Chunks: 2, Rows: 2}, "second for message-in"},
		{rows(0, "2"), "there already"},
		{&ActivateTariff{Tariff: "us", Revision: "torn", Chunks: 2, Rows: 2}, "second for message-in"},
		{&ActivateTariff{Tariff: "us", Revision: "torn", Chunks: 3, Rows: 3}, "2 chunks with 2 rows so far"},
	} {
		if d := s.decide(c.r); d.Accepted || !strings.Contains(d.Refusal, c.why) {
			t.Errorf("%+v: %+v, want %q", c.r, d, c.why)
		}
	}
	s.must(rows(2, "3"))
	if d := s.decide(&ActivateTariff{Tariff: "us", Revision: "torn", Chunks: 3, Rows: 3}); d.Accepted {
		t.Errorf("it was activated: %+v", d)
	}
	for chunk, kept := range s.b.pending[revision{"us", "torn"}].chunks {
		if len(kept) > 0 {
			t.Errorf("rows of chunk %d are still held", chunk)
		}
	}
	if s.b.pendingRows != 3 {
		t.Errorf("%d rows count as pending, want 3: what a log may hold is decided as ever", s.b.pendingRows)
	}
}
