package book

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// script applies records one after the other, and remembers the log.
type script struct {
	t   testing.TB
	b   *Builder
	now int64
	log []message
}

func newScript(t testing.TB) *script { return &script{t: t, b: NewBuilder(), now: startMs} }

// decide applies a record, gives it an id if it has none, and lets a second pass.
func (s *script) decide(r Record) Decision {
	s.t.Helper()
	if r.header().ID == "" {
		r.header().ID = "s" + strconv.Itoa(len(s.log))
	}
	value, err := Encode(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = append(s.log, message{s.now, r, value})
	d := s.b.Apply(int64(len(s.log))-1, s.now, value)
	s.now += 1000
	return d
}

// must applies records that are to be accepted.
func (s *script) must(records ...Record) {
	s.t.Helper()
	for _, r := range records {
		if d := s.decide(r); !d.Accepted {
			s.t.Fatalf("%s was refused: %s", r.kind(), d.Refusal)
		}
	}
}

// installation opens two accounts with a number each. One unit of USD is 10⁻⁸ dollars.
func installation(t testing.TB) *script {
	s := newScript(t)
	s.must(
		&AddRows{Tariff: "us", Revision: "1", Currency: "USD", Rows: []Row{
			{Service: "voice-in", Rate: "0.03", Initial: 60, Increment: 60},
			{Service: "voice-out", Prefix: "44", Rate: "0.60", Initial: 1, Increment: 1, Connect: "0.10"},
			{Service: "message-in", Segment: "0.0075"},
			{Service: "voice-in", Prefix: "1800", Rate: "80000000", Initial: 1, Increment: 1},
		}},
		&ActivateTariff{Tariff: "us", Revision: "1", Chunks: 1, Rows: 4},
		&AddPlan{Plan: "standard", Currency: "USD", Tariff: "us"},
		&OpenAccount{Account: 5, Currency: "USD", Plan: "standard", Zone: "America/New_York", Balance: "25", Threshold: "10", RechargeTo: "50"},
		&OpenAccount{Account: 6, Currency: "USD", Plan: "standard", Zone: "Europe/Berlin"},
		&AssignNumber{Number: "+14155550100", Account: 5},
		&AssignNumber{Number: "+18005550100", Account: 5},
		&SetFormat{Topic: "pbx", Format: "tollgate", FormatVersion: 1, Source: "pbx"},
		&Open{Installation: "test", Shards: 4},
	)
	return s
}

func source(t testing.TB, b *Book) *SourceInfo {
	f, ready := b.FormatAt("pbx", b.FrontierMs())
	if !ready || f == nil {
		t.Fatal("topic pbx has no format")
	}
	return &SourceInfo{Source: entry.Source{TopicID: [16]byte{7}, Partition: 3}, Format: f}
}

func TestRate(t *testing.T) {
	s := installation(t)
	b := s.b.Book()
	from := source(t, b)
	now := b.FrontierMs()
	call := decode.Record{Service: price.VoiceIn, Number: 14155550100, Peer: []byte("anonymous"), ID: []byte("c1"), EventMs: now,
		DurationSeconds: 61, Raw: []byte("raw")}
	with := func(change func(r *decode.Record)) decode.Record {
		r := call
		change(&r)
		return r
	}
	sourceShard := b.Reject(entry.NoFormat, nil, from.Source, entry.Position{}, now, &entry.Entry{})
	for name, c := range map[string]struct {
		rec    decode.Record
		kind   entry.Kind
		reason entry.Reason
		amount money.Amount
		billed uint32
		shard  int32
	}{
		"inbound call": {call, entry.Usage, 0, -6_000_000, 120, 1},
		"unanswered":   {with(func(r *decode.Record) { r.DurationSeconds = 0 }), entry.Usage, 0, 0, 0, 1},
		"outbound call, the peer's prefix": {with(func(r *decode.Record) {
			r.Service, r.Peer, r.DurationSeconds = price.VoiceOut, []byte("+44 20 7946 0000"), 10
		}), entry.Usage, 0, -20_000_000, 10, 1},
		"message": {with(func(r *decode.Record) { r.Service, r.DurationSeconds, r.Segments = price.MessageIn, 0, 3 }), entry.Usage, 0, -2_250_000, 3, 1},
		"no row for the peer": {with(func(r *decode.Record) { r.Service, r.Peer = price.VoiceOut, []byte("+33123456789") }),
			entry.Rejected, entry.NoPrice, 0, 0, 1},
		"no row for the service": {with(func(r *decode.Record) { r.Service = price.MessageOut }), entry.Rejected, entry.NoPrice, 0, 0, 1},
		"charge beyond the limit": {with(func(r *decode.Record) { r.Number, r.DurationSeconds = 18005550100, 86_400 }),
			entry.Rejected, entry.OutOfBounds, 0, 0, 1},
		"nobody's number": {with(func(r *decode.Record) { r.Number = 14155550999 }), entry.Rejected, entry.UnknownNumber, 0, 0, sourceShard},
		"ahead of time":   {with(func(r *decode.Record) { r.EventMs = now + FutureMs + 1 }), entry.Rejected, entry.TooFarAhead, 0, 0, sourceShard},
		"undecodable":     {with(func(r *decode.Record) { r.Problem = decode.Undecodable }), entry.Rejected, entry.Undecodable, 0, 0, sourceShard},
		"absurd":          {with(func(r *decode.Record) { r.Problem = decode.OutOfBounds }), entry.Rejected, entry.OutOfBounds, 0, 0, sourceShard},
	} {
		var e entry.Entry
		position := entry.Position{Offset: 9, Ix: 2}
		shard, ready := b.Rate(&c.rec, from, position, now, &e)
		if !ready || e.Kind != c.kind || e.Reason != c.reason || e.AmountUnits != c.amount || e.Billed != c.billed || shard != c.shard ||
			e.Position != position || e.EventMs != c.rec.EventMs || string(e.ID) != "c1" || e.IDHash == 0 {
			t.Errorf("%s: %+v in shard %d, %v", name, e, shard, ready)
		}
		if owned := c.kind == entry.Usage || c.reason == entry.NoPrice; owned && e.Account != 5 || (e.Extra != nil) != (e.Kind == entry.Rejected) {
			t.Errorf("%s: %+v", name, e)
		}
		if e.Kind == entry.Usage && e.Tariff != 1 {
			t.Errorf("%s: priced by %d", name, e.Tariff)
		}
	}
}

func TestRateWaitsForTheBook(t *testing.T) {
	s := installation(t)
	b := s.b.Book()
	from := source(t, b)
	rec := decode.Record{Service: price.VoiceIn, Number: 14155550100, ID: []byte("x"), EventMs: b.FrontierMs() + Margin}
	var e entry.Entry
	if _, ready := b.Rate(&rec, from, entry.Position{}, rec.EventMs, &e); !ready {
		t.Error("a record of just the frontier has to wait")
	}
	rec.EventMs++
	if _, ready := b.Rate(&rec, from, entry.Position{}, rec.EventMs, &e); ready {
		t.Error("a record past the frontier was rated")
	}
	if _, ready := b.FormatAt("pbx", b.FrontierMs()+Margin); !ready {
		t.Error("a message of just the frontier has to wait")
	}
	if _, ready := b.FormatAt("pbx", b.FrontierMs()+Margin+1); ready {
		t.Error("a message past the frontier was given a format")
	}
	if _, ready := NewBuilder().Book().Rate(&rec, from, entry.Position{}, 0, &e); ready {
		t.Error("a record was rated before the installation was open")
	}
	if _, ready := NewBuilder().Book().FormatAt("pbx", 0); ready {
		t.Error("a format was given before the installation was open")
	}
}

func TestTheDayIsTheAccounts(t *testing.T) {
	s := installation(t)
	s.must(&ChangeZone{Account: 5, Zone: "Asia/Tokyo"})
	b := s.b.Book()
	tokyoMs := b.Account(5).zones.newest.fromMs
	for s.b.Book().FrontierMs() < tokyoMs+1000 {
		s.now += 3_600_000
		s.must(&Heartbeat{})
	}
	b = s.b.Book()
	from := source(t, b)
	var e entry.Entry
	for _, c := range []struct {
		eventMs int64
		zone    string
	}{{tokyoMs + Margin - 1, "America/New_York"}, {tokyoMs + Margin, "Asia/Tokyo"}} {
		rec := decode.Record{Service: price.VoiceIn, Number: 14155550100, ID: []byte("x"), EventMs: c.eventMs}
		if _, ready := b.Rate(&rec, from, entry.Position{}, c.eventMs, &e); !ready || FormatDay(e.LocalDay) != dayText(c.zone, c.eventMs) {
			t.Errorf("at %d the day is %s, %v; in %s it is %s", c.eventMs, FormatDay(e.LocalDay), ready, c.zone, dayText(c.zone, c.eventMs))
		}
	}
}

func TestIDHash(t *testing.T) {
	s := installation(t)
	s.must(&SetFormat{Topic: "pbx2", Format: "tollgate", FormatVersion: 1, Source: "pbx"},
		&SetFormat{Topic: "other", Format: "tollgate", FormatVersion: 1, Source: "other"}, &Heartbeat{}, &Heartbeat{}, &Heartbeat{})
	b := s.b.Book()
	hash := func(topic string, partition int32, service price.Service, id string, offset int64) uint64 {
		f, _ := b.FormatAt(topic, b.FrontierMs())
		from := SourceInfo{Source: entry.Source{Partition: partition}, Format: f}
		return from.idHash(&decode.Record{Service: service, ID: []byte(id)}, entry.Position{Offset: offset})
	}
	base := hash("pbx", 0, price.VoiceIn, "a", 1)
	if hash("pbx2", 1, price.VoiceOut, "a", 2) != base {
		t.Error("the same id of the same source hashes differently")
	}
	others := []uint64{base, hash("other", 0, price.VoiceIn, "a", 1), hash("pbx", 0, price.MessageIn, "a", 1), hash("pbx", 0, price.VoiceIn, "b", 1),
		hash("pbx", 0, price.VoiceIn, "", 1), hash("pbx", 0, price.VoiceIn, "", 2), hash("pbx", 1, price.VoiceIn, "", 1)}
	seen := map[uint64]bool{}
	for _, h := range others {
		if h == 0 || seen[h] {
			t.Errorf("hashes %x are 0 or twice the same", others)
		}
		seen[h] = true
	}
}

// Two copies of a record are rated alike by every Book that is ready for them.
func TestRateIsTheSameForEveryBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := append(preamble(t), encoded(t, startMs, &Open{Header: Header{ID: "o"}, Installation: "i", Shards: 4}))
		log = append(log, drawLog(t)...)
		number, err := ParseNumber(modelNumbers[0])
		if err != nil {
			t.Fatal(err)
		}
		b := NewBuilder()
		rec := decode.Record{Service: price.VoiceIn, Number: number, ID: []byte("x"), DurationSeconds: 5,
			EventMs: rapid.SampledFrom(log).Draw(t, "near").appendMs + rapid.Int64Range(-10_000, 10_000).Draw(t, "distance")}
		var first *entry.Entry
		firstShard := int32(0)
		for i, m := range log {
			b.Apply(int64(i), m.appendMs, m.value)
			book := b.Book()
			if !book.Opened() {
				continue
			}
			from := SourceInfo{Format: &Format{}}
			var e entry.Entry
			shard, ready := book.Rate(&rec, &from, entry.Position{Offset: 1}, rec.EventMs, &e)
			if !ready {
				if first != nil {
					t.Fatalf("a record that was rated has to wait at offset %d", i)
				}
				continue
			}
			if first == nil {
				first, firstShard = &e, shard
			}
			if shard != firstShard || e.Account != first.Account || e.AmountUnits != first.AmountUnits || e.Reason != first.Reason ||
				e.LocalDay != first.LocalDay || e.Tariff != first.Tariff || e.Row != first.Row {
				t.Fatalf("at offset %d: %+v in shard %d, was %+v in shard %d", i, e, shard, *first, firstShard)
			}
		}
	})
}

func TestLookupsDoNotAllocate(t *testing.T) {
	b := installation(t).b.Book()
	from := source(t, b)
	rec := decode.Record{Service: price.VoiceOut, Number: 14155550100, Peer: []byte("+44 20 7946 0000"), ID: []byte("CA0123456789abcdef0123456789abcdef"),
		EventMs: b.FrontierMs(), DurationSeconds: 61, Raw: []byte("raw")}
	unknown := rec
	unknown.Number = 1
	var e entry.Entry
	if n := testing.AllocsPerRun(100, func() {
		b.Rate(&rec, from, entry.Position{}, rec.EventMs, &e)
		b.Rate(&unknown, from, entry.Position{}, rec.EventMs, &e)
		b.Reject(entry.NoFormat, rec.Raw, from.Source, entry.Position{}, 5, &e)
		b.FormatAt("pbx", rec.EventMs)
		a := b.Account(5)
		b.PlanAt(a, rec.EventMs)
		b.LocalDay(a, rec.EventMs, rec.EventMs)
		b.ZoneNamed("Europe/Berlin")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// bigBook has the size of a large provider: a million numbers of 100,000 accounts, a deck of 200,000 rows.
func bigBook(t testing.TB) *Book {
	s := installation(t)
	v, err := newVersion(append(deck(200_000), price.Row{Service: price.VoiceIn, RateSeconds: 60, InitialSeconds: 60, IncrementSeconds: 60, RateUnits: 5}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.Rows {
		v.Rows[i].RateSeconds, v.Rows[i].InitialSeconds, v.Rows[i].IncrementSeconds = 60, 60, 60
	}
	v.Number = 2
	s.b.book.tariffs[0].versions = since(always, v)
	for a := uint64(100); a < 100_100; a++ {
		s.b.book.accounts.put(a, hold(&Account{Number: uint32(a), plans: since(always, uint32(0)), zones: since(always, uint32(1))}))
	}
	for n := range uint64(1_000_000) {
		s.b.book.numbers.put(12_000_000_000+n*7919, since(always, uint32(100+n%100_000)))
	}
	return s.b.Book()
}

func BenchmarkRate(b *testing.B) {
	book := bigBook(b)
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.1, 1, 999_999)
	recs := make([]decode.Record, 1<<14)
	for i := range recs {
		recs[i] = decode.Record{Service: price.VoiceIn, Number: 12_000_000_000 + zipf.Uint64()*7919, DurationSeconds: uint32(random.IntN(600)),
			Peer: []byte("+1415555" + strconv.Itoa(1000+random.IntN(9000))), ID: []byte("CA0123456789abcdef" + strconv.Itoa(i)), EventMs: book.FrontierMs()}
		if i%4 == 0 {
			recs[i].Service = price.VoiceOut
		}
	}
	from := source(b, book)
	var e entry.Entry
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, ready := book.Rate(&recs[i%len(recs)], from, entry.Position{}, book.FrontierMs(), &e); !ready || e.Kind != entry.Usage {
			b.Fatalf("%+v, %v", e, ready)
		}
	}
}
