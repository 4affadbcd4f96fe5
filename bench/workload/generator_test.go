package workload

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var noonMs = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli()

var formats = []Format{Tollgate, DIDWW, TwilioCall, TwilioMessage}

// eventful is a mix in which every peculiarity is frequent.
func eventful(format Format) Config {
	c := Default(42, 300)
	c.Format = format
	c.DuplicateShare, c.LateHourShare, c.LateDayShare = 0.05, 0.05, 0.05
	c.UnknownNumberShare, c.MalformedShare, c.NoPriceShare, c.OutOfBoundsShare, c.TooFarAheadShare = 0.05, 0.05, 0.05, 0.05, 0.05
	return c
}

// play appends n records, one a line, a millisecond after the other.
func play(g *Generator, n int) []byte {
	var all []byte
	for i := range n {
		all, _ = g.Append(all, noonMs+int64(i))
		all = append(all, '\n')
	}
	return all
}

func TestSameSeedSameBytes(t *testing.T) {
	for _, format := range formats {
		first := play(mustNew(t, eventful(format)).Generator(3), 5000)
		if !bytes.Equal(first, play(mustNew(t, eventful(format)).Generator(3), 5000)) {
			t.Errorf("format %d: the same seed gives other bytes", format)
		}
		if bytes.Equal(first, play(mustNew(t, eventful(format)).Generator(4), 5000)) {
			t.Errorf("format %d: two streams give the same bytes", format)
		}
	}
}

// The bytes may change only by intent: results of different versions of the benchmark would not compare.
func TestBytesAreThoseOfOtherBuilds(t *testing.T) {
	const want = "a7002a2f7c9ad7fbcfaa40ec5371ec43"
	if got := fmt.Sprintf("%x", sha256.Sum256(play(mustNew(t, Default(1, 1000)).Generator(0), 10_000)))[:32]; got != want {
		t.Errorf("10,000 records have the hash %s, want %s", got, want)
	}
}

func TestDistributions(t *testing.T) {
	const n = 1_000_000
	c := Default(5, 10_000)
	c.OutOfBoundsShare, c.TooFarAheadShare = 0.001, 0.001
	g := mustNew(t, c).Generator(0)
	buffer := make([]byte, 0, 1024)
	size, talks, segments, outbound := 0, []uint32(nil), [4]int{}, 0
	byAccount := map[uint32]int{}
	var counts Counts
	for range n {
		record, info := g.Append(buffer, noonMs)
		size += len(record)
		counts.count(&info)
		byAccount[info.Account]++
		if info.Kind != Valid {
			continue
		}
		if info.DurationSeconds > 0 {
			talks = append(talks, info.DurationSeconds)
		}
		segments[info.Segments]++
		if !info.Service.inbound() {
			outbound++
		}
		if info.EventMs > noonMs || info.EventMs < noonMs-HistoryMs {
			t.Fatalf("record %+v lies outside the history", info)
		}
	}
	if counts != g.Counts() || counts.Records() != n {
		t.Fatalf("counts %+v, want %+v", g.Counts(), counts)
	}
	valid := float64(counts.ByKind[Valid])
	for kind, want := range map[Kind]float64{Duplicate: c.DuplicateShare, UnknownNumber: c.UnknownNumberShare,
		Malformed: c.MalformedShare, NoPrice: c.NoPriceShare, OutOfBounds: c.OutOfBoundsShare, TooFarAhead: c.TooFarAheadShare} {
		near(t, kind.String(), float64(counts.ByKind[kind])/n, want, 5*math.Sqrt(want/n))
	}
	near(t, "messages", float64(counts.Messages)/valid, 0.3, 0.003)
	near(t, "outbound", float64(outbound)/valid, 0.2, 0.003)
	near(t, "answered", float64(counts.Answered)/float64(counts.Calls), 0.75, 0.003)
	near(t, "late by hours", float64(counts.LateHour)/valid, 0.015, 0.001)
	near(t, "late by days", float64(counts.LateDay)/valid, 0.001, 0.0002)
	near(t, "two segments", float64(segments[2])/float64(counts.Messages), 0.15, 0.003)
	near(t, "three segments", float64(segments[3])/float64(counts.Messages), 0.05, 0.003)
	near(t, "bytes per record", float64(size)/n, 284, 8)
	talkTimes(t, talks)
	busiest := 0
	for account, records := range byAccount {
		if account != 0 {
			busiest = max(busiest, records)
		}
	}
	near(t, "share of the busiest account", float64(busiest)/n, 0.15, 0.01)
}

// talkTimes compares talk times with the month of calls that they follow.
func talkTimes(t *testing.T, talks []uint32) {
	slices.Sort(talks)
	total, short := 0.0, 0
	for _, seconds := range talks {
		total += float64(seconds)
		if seconds <= 10 {
			short++
		}
	}
	quantile := func(q float64) float64 { return float64(talks[int(q*float64(len(talks)))]) }
	near(t, "mean talk time", total/float64(len(talks)), 184, 10)
	near(t, "median talk time", quantile(0.5), 110, 8)
	near(t, "90th percentile of talk time", quantile(0.9), 387, 20)
	near(t, "99th percentile of talk time", quantile(0.99), 1181, 200)
	near(t, "share of calls of at most 10 s", float64(short)/float64(len(talks)), 0.057, 0.003)
}

// A copy repeats a valid record byte for byte; nothing else repeats an id.
func TestDuplicatesAreExactCopies(t *testing.T) {
	for _, format := range formats {
		c := eventful(format)
		c.DuplicateReach = 2000
		g := mustNew(t, c).Generator(0)
		originals := map[uint64]string{}
		ids := map[string]bool{}
		copies, far := 0, 0
		for i := range 10_000 {
			record, info := g.Append(nil, noonMs+int64(i))
			switch info.Kind {
			case Valid:
				originals[info.Sequence] = string(record)
				if id := read(t, format, record).id; ids[id] {
					t.Fatalf("format %d: id %s was given twice", format, id)
				} else {
					ids[id] = true
				}
			case Duplicate:
				copies++
				if originals[info.Sequence] != string(record) {
					t.Fatalf("format %d: copy %s of record %d: %s", format, record, info.Sequence, originals[info.Sequence])
				}
				if uint64(i)-info.Sequence > 200 {
					far++
				}
			}
		}
		if copies < 400 || far < copies/3 {
			t.Errorf("format %d: %d copies, %d of them of records long ago", format, copies, far)
		}
	}
}

func TestStreamsShareNoID(t *testing.T) {
	w := mustNew(t, Default(1, 10))
	ids := map[string]bool{}
	for stream := range uint16(4) {
		g := w.Generator(stream)
		for range 2000 {
			record, info := g.Append(nil, noonMs)
			if info.Kind != Valid {
				continue
			}
			id := read(t, Tollgate, record).id
			if ids[id] {
				t.Fatalf("id %s was given twice", id)
			}
			ids[id] = true
		}
	}
}

// shape is what a test reads of a record, with encoding/json and the formats' public documentation only.
type shape struct {
	id, number, peer string
	service          Service
	eventMs          int64
	duration         uint32
	segments         uint32
}

// read understands a record that is not malformed.
func read(t *testing.T, format Format, record []byte) shape {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(record, &fields); err != nil {
		t.Fatalf("%s: %v", record, err)
	}
	if format == DIDWW {
		inner := fields["attributes"].(map[string]any)
		inner["id"], inner["from"], inner["to"] = fields["id"], inner["src_number"], inner["did_number"]
		inner["direction"], inner["start"], inner["sid"] = "inbound", inner["time_start"], "CA"
		fields = inner
	}
	text := func(key string) string {
		if fields[key] == nil {
			return ""
		}
		return strings.TrimPrefix(fmt.Sprintf("%v", fields[key]), "+")
	}
	count := func(key string) uint32 {
		n, _ := strconv.ParseFloat(text(key), 64)
		return uint32(n)
	}
	s := shape{id: text("id") + text("sid"), number: text("to"), peer: text("from"), service: VoiceIn,
		duration: count("duration"), segments: count("segments") + count("num_segments")}
	if text("type") == "message" || strings.HasPrefix(text("sid"), "SM") {
		s.service = MessageIn
	}
	if strings.HasPrefix(text("direction"), "outbound") {
		s.service++
		s.number, s.peer = s.peer, s.number
	}
	if fields["answered"] == false {
		s.duration = 0
	}
	for layout, key := range map[string]string{time.RFC3339: "start", "2006-01-02 15:04:05": "start",
		time.RFC1123Z: "start_time", time.RFC1123Z + " ": "date_sent"} {
		if at, err := time.Parse(strings.TrimSpace(layout), text(key)); err == nil {
			s.eventMs = at.UnixMilli()
		}
	}
	return s
}

// What Info says of a record is what the record says.
func TestRecordsSayWhatInfoSays(t *testing.T) {
	for _, format := range formats {
		g := mustNew(t, eventful(format)).Generator(0)
		for i := range 10_000 {
			record, info := g.Append(nil, noonMs+int64(i)*977)
			if info.Kind == Malformed {
				continue
			}
			got := read(t, format, record)
			peer := strconv.FormatUint(info.Peer, 10)
			if info.Peer == 0 {
				peer = got.peer
			}
			want := shape{id: got.id, number: strconv.FormatUint(info.Number, 10), peer: peer, service: info.Service,
				eventMs: info.EventMs, duration: info.DurationSeconds, segments: info.Segments}
			if got != want || len(got.id) < 20 || len(got.id) > 40 {
				t.Fatalf("format %d: record %s is %+v, want %+v", format, record, got, want)
			}
		}
	}
}

// Kinds keep their promise: what is refused has a reason to be.
func TestKindsHaveTheirReasons(t *testing.T) {
	for _, format := range formats {
		w := mustNew(t, eventful(format))
		owners := map[uint64]uint32{}
		for n := range w.Numbers() {
			owners[n.E164] = n.Account
		}
		g := w.Generator(0)
		for range 10_000 {
			record, info := g.Append(nil, noonMs)
			if owners[info.Number] != info.Account || (info.Account == 0) != (info.Kind == UnknownNumber) {
				t.Fatalf("format %d: %s of %d with account %d, owner %d", format, info.Kind, info.Number, info.Account, owners[info.Number])
			}
			tooMuch := info.DurationSeconds > 86_400 || info.Segments > 255
			ahead := info.EventMs >= noonMs+5*minuteMs
			satellite := strings.HasPrefix(strconv.FormatUint(info.Peer, 10), "8816")
			if tooMuch != (info.Kind == OutOfBounds) || ahead != (info.Kind == TooFarAhead) || satellite != (info.Kind == NoPrice) {
				t.Fatalf("format %d: %+v", format, info)
			}
			if json.Valid(record) && info.Kind == Malformed && !bytes.Contains(record, []byte(impossibleTime)) {
				t.Fatalf("format %d: %s is not malformed", format, record)
			}
			if !json.Valid(record) && info.Kind != Malformed {
				t.Fatalf("format %d: %s record is malformed: %s", format, info.Kind, record)
			}
		}
		counts := g.Counts()
		if impossible := format == DIDWW || format == TwilioMessage; (counts.ByKind[NoPrice] == 0) != impossible {
			t.Errorf("format %d: %d records without a price", format, counts.ByKind[NoPrice])
		}
	}
}

func TestMessagesOfSeveralRecords(t *testing.T) {
	for _, layout := range []Layout{Lines, Array} {
		g := mustNew(t, eventful(Tollgate)).Generator(0)
		message, infos := g.AppendMessage(nil, nil, noonMs, layout, 1000)
		var records []json.RawMessage
		if layout == Array {
			if err := json.Unmarshal(message, &records); err != nil {
				t.Fatal(err)
			}
		} else {
			for line := range bytes.SplitSeq(message, []byte{'\n'}) {
				records = append(records, line)
			}
		}
		if len(records) != 1000 || len(infos) != 1000 {
			t.Fatalf("%d records and %d infos, want 1000", len(records), len(infos))
		}
		for i, record := range records {
			if !json.Valid(record) || bytes.Contains(record, []byte(impossibleTime)) != (infos[i].Kind == Malformed) {
				t.Fatalf("record %d is %s, info %+v", i, record, infos[i])
			}
		}
		counts := g.Counts()
		if counts.Records() != 1000 || counts.Refused() != 1000-counts.ByKind[Valid]-counts.ByKind[Duplicate] {
			t.Fatalf("counts %+v", counts)
		}
	}
}

func TestCountsAdd(t *testing.T) {
	w := mustNew(t, eventful(Tollgate))
	first, second := w.Generator(0), w.Generator(1)
	play(first, 1000)
	play(second, 1000)
	total, one, other := first.Counts(), first.Counts(), second.Counts()
	total.Add(&other)
	if total.Records() != 2000 || total.TalkSeconds != one.TalkSeconds+other.TalkSeconds || total.Segments != one.Segments+other.Segments ||
		total.Answered != one.Answered+other.Answered || total.Calls+total.Messages != total.ByKind[Valid] {
		t.Fatalf("%+v and %+v add up to %+v", one, other, total)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	for _, format := range formats {
		g := mustNew(t, eventful(format)).Generator(0)
		buffer, nowMs := make([]byte, 0, 2048), noonMs
		if allocs := testing.AllocsPerRun(5000, func() {
			g.Append(buffer, nowMs)
			nowMs += 17
		}); allocs != 0 {
			t.Errorf("format %d: %v allocations per record", format, allocs)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, format := range map[string]Format{"tollgate": Tollgate, "didww": DIDWW, "twilio-call": TwilioCall, "twilio-message": TwilioMessage} {
		b.Run(name, func(b *testing.B) {
			c := Default(1, 100_000)
			c.Format = format
			g := mustNew(b, c).Generator(0)
			buffer, bytes := make([]byte, 0, 2048), 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				record, _ := g.Append(buffer, noonMs+int64(i)/100)
				bytes += len(record)
			}
			b.ReportMetric(float64(bytes)/float64(b.N), "bytes/record")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
