package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestProduceAndFetch sends to many partitions of two topics over three brokers,
// with every codec, and reads all of it back by one fetcher.
func TestProduceAndFetch(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		t.Run(codec.String(), func(t *testing.T) {
			cluster, _ := newCluster(t, 3)
			produceAndFetch(t, cluster.ListenAddrs(), codec)
		})
	}
}

func produceAndFetch(t *testing.T, brokers []string, codec Codec) {
	ctx := testContext(t)
	c := newClient(t, brokers, func(cfg *Config) { cfg.Codec = codec })
	topics := []string{"entries-" + codec.String(), "postings-" + codec.String()}
	const partitions, rounds, messages = 7, 5, 40
	for _, topic := range topics {
		ensure(t, ctx, c, topic, partitions)
	}
	p := c.NewProducer()
	var positions []Position
	var want [][]string
	for _, topic := range topics {
		for partition := range int32(partitions) {
			positions = append(positions, Position{Topic: topic, Partition: partition})
			want = append(want, nil)
		}
	}
	for round := range rounds {
		p.Reset()
		for m := range messages {
			for i, at := range positions {
				v := value(at.Topic, at.Partition, round*messages+m)
				if err := p.Append(at.Topic, at.Partition, nil, []byte(v)); err != nil {
					t.Fatal(err)
				}
				want[i] = append(want[i], v)
			}
		}
		send(t, ctx, p)
		for i := range p.Len() {
			r := p.Result(i)
			if r.Err != nil || r.BaseOffset != int64(round*messages) || r.Messages != messages || r.Topic != positions[i].Topic || r.Partition != positions[i].Partition {
				t.Fatalf("round %d: %+v", round, r)
			}
		}
	}
	ends := make([]int64, len(positions))
	for i := range ends {
		ends[i] = rounds * messages
	}
	compareValues(t, collect(t, ctx, c, positions, ends), want)

	offsets, err := c.ListOffsets(ctx, topics[0], []int32{6, 0, 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, partition := range []int32{6, 0, 3} {
		if offsets[i] != (Offsets{Partition: partition, Start: 0, LastStable: ends[0], End: ends[0]}) {
			t.Fatalf("offsets %+v", offsets[i])
		}
	}
}

func compareValues(t *testing.T, got, want [][]string) {
	t.Helper()
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("list %d: %d messages, want %d", i, len(got[i]), len(want[i]))
		}
		for j := range want[i] {
			if got[i][j] != want[i][j] {
				t.Fatalf("list %d message %d: %q, want %q", i, j, got[i][j], want[i][j])
			}
		}
	}
}

// TestFetchOthers reads what other producers write: kafka-go with every codec,
// and Java's older snappy framing through kafka-go's.
func TestFetchOthers(t *testing.T) {
	cluster, clock := newCluster(t, 1)
	fetchOthers(t, cluster.ListenAddrs(), clock)
}

func fetchOthers(t *testing.T, brokers []string, clock *appendClock) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	for _, compression := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		topic := fmt.Sprintf("carrier-%d", compression)
		ensure(t, ctx, c, topic, 1)
		transport := &kafka.Transport{}
		w := &kafka.Writer{Transport: transport, Addr: kafka.TCP(brokers...), Topic: topic, Compression: compression, BatchSize: 100, BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafka.RequireAll}
		var batch []kafka.Message
		var want []string
		for i := range 300 {
			want = append(want, value(topic, 0, i))
			batch = append(batch, kafka.Message{Key: []byte("k"), Value: []byte(want[i])})
		}
		if err := w.WriteMessages(ctx, batch...); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		transport.CloseIdleConnections()
		got := collect(t, ctx, c, []Position{{Topic: topic, Offset: 137}}, []int64{300})
		compareValues(t, got, [][]string{want[137:]})
	}
	if clock == nil {
		return
	}
	f := c.NewFetcher()
	if err := f.Fetch(ctx, []Position{{Topic: "carrier-0"}}, time.Second); err != nil {
		t.Fatal(err)
	}
	var m Message
	if !f.Result(0).Next(&m) || m.AppendTime < 1_700_000_000_000 || m.AppendTimeSet || string(m.Key) != "k" {
		t.Fatalf("%+v", m)
	}
}

// TestTransactions holds the read-committed side: aborted messages never come,
// markers never come, and a tail of nothing but markers is passed.
func TestTransactions(t *testing.T) {
	cluster, _ := newCluster(t, 1)
	transactions(t, cluster.ListenAddrs())
}

func transactions(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	ensure(t, ctx, c, "txn", 1)
	var want []string
	end := int64(0)
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		k, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("upstream"), kgo.DefaultProduceTopic("txn"), kgo.ProducerBatchCompression(codec))
		if err != nil {
			t.Fatal(err)
		}
		for i, commit := range []bool{true, false, true, false} {
			if err := k.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			var records []*kgo.Record
			for j := range 50 {
				v := value(fmt.Sprint("committed ", commit, i), 0, j)
				records = append(records, kgo.StringRecord(v))
				if commit {
					want = append(want, v)
				}
			}
			if err := k.ProduceSync(ctx, records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := k.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			end += 51
		}
		k.Close()
	}
	awaitStable(t, ctx, c, "txn", end)
	compareValues(t, collect(t, ctx, c, []Position{{Topic: "txn"}}, []int64{end}), [][]string{want})
	compareValues(t, collect(t, ctx, c, []Position{{Topic: "txn", Offset: 17}}, []int64{end}), [][]string{want[17:]})

	f := c.NewFetcher()
	if err := f.Fetch(ctx, []Position{{Topic: "txn", Offset: end - 1}}, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var m Message
	if r := f.Result(0); r.Next(&m) || r.Err != nil || r.NextOffset != end {
		t.Fatalf("the last marker: err %v, next %d, want %d", r.Err, r.NextOffset, end)
	}
}

// awaitStable waits until the markers of the last transaction are written.
func awaitStable(t *testing.T, ctx context.Context, c *Client, topic string, end int64) {
	t.Helper()
	for {
		o, err := c.ListOffsets(ctx, topic, []int32{0})
		if err != nil {
			t.Fatal(err)
		}
		if o[0].LastStable == end {
			return
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("last stable offset %d, want %d", o[0].LastStable, end)
		}
	}
}

// TestCorruption flips bits all over a log: whatever the checksum covers must be
// seen, after all batches before it were given. It does not cover the first 16
// bytes of a batch, which say where it lies and how long it is.
func TestCorruption(t *testing.T) {
	var log []byte
	var covered []bool
	for batch := range 5 {
		b := sealed(t, CodecLZ4, int64(batch*10), 10)
		log = append(log, b...)
		for at := range b {
			covered = append(covered, at >= atMagic)
		}
	}
	for bit := 0; bit < len(log)*8; bit += 3 {
		broken := append([]byte(nil), log...)
		broken[bit/8] ^= 1 << (bit % 8)
		var f Fetched
		f.Open(Position{Topic: "entries"}, broken)
		var m Message
		n := 0
		for ; f.Next(&m); n++ {
			if covered[bit/8] && string(m.Value) != value("entries", 0, n) {
				t.Fatalf("bit %d: message %d is %q", bit, n, m.Value)
			}
		}
		if covered[bit/8] && (!errors.Is(f.Err, ErrCorrupt) || f.NextOffset != int64(n)) {
			t.Fatalf("bit %d: %d messages, next %d, err %v", bit, n, f.NextOffset, f.Err)
		}
	}
}

func sealed(t testing.TB, codec Codec, base int64, messages int) []byte {
	var b Batch
	b.Reset()
	for i := range messages {
		b.Append(nil, []byte(value("entries", 0, int(base)+i)))
	}
	out, err := b.Seal(codec, 1000)
	if err != nil {
		t.Fatal(err)
	}
	out = append([]byte(nil), out...)
	Stamp(out, base, 2000+base)
	return out
}

// TestPositions opens a log at every offset and cut at every length: what comes
// is always exactly the whole batches' messages from the position on.
func TestPositions(t *testing.T) {
	var log []byte
	var ends []int
	for batch := range 4 {
		log = append(log, sealed(t, Codec([]int8{0, 3, 4, 2}[batch]), int64(batch*8), 8)...)
		ends = append(ends, len(log))
	}
	for cut := range len(log) + 1 {
		whole := 0
		for _, end := range ends {
			if end <= cut {
				whole += 8
			}
		}
		for from := int64(0); from <= 32; from += 5 {
			var f Fetched
			f.Open(Position{Topic: "entries", Offset: from}, log[:cut])
			var m Message
			next := from
			for ; f.Next(&m); next++ {
				if m.Offset != next || string(m.Value) != value("entries", 0, int(next)) {
					t.Fatalf("cut %d from %d: offset %d, want %d", cut, from, m.Offset, next)
				}
				if want := 2000 + next/8*8; !m.AppendTimeSet || m.AppendTime != want {
					t.Fatalf("append time %d (%v), want %d", m.AppendTime, m.AppendTimeSet, want)
				}
			}
			if want := max(from, int64(whole)); f.Err != nil || next != want || f.NextOffset != want {
				t.Fatalf("cut %d from %d: ended at %d, next %d, want %d, err %v", cut, from, next, f.NextOffset, want, f.Err)
			}
		}
	}
}

func TestOutOfRangeAndUnknown(t *testing.T) {
	cluster, _ := newCluster(t, 1)
	outOfRange(t, cluster.ListenAddrs())
}

func outOfRange(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	ensure(t, ctx, c, "short", 2)
	f := c.NewFetcher()
	positions := []Position{{Topic: "short", Offset: 5}, {Topic: "short", Partition: 9}, {Topic: "nowhere"}, {Topic: "short", Partition: 1}}
	if err := f.Fetch(ctx, positions, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{ErrOffsetOutOfRange, ErrUnknownTopic, ErrUnknownTopic, nil} {
		var m Message
		if r := f.Result(i); r.Next(&m) || !errors.Is(r.Err, want) || r.NextOffset != positions[i].Offset {
			t.Fatalf("%v: %v, want %v", positions[i], r.Err, want)
		}
	}
	if Retriable(f.Result(0).Err) || !Retriable(f.Result(1).Err) {
		t.Fatal("an offset out of range is for good, an unknown topic is not")
	}
	p := c.NewProducer()
	if err := errors.Join(p.Append("nowhere", 0, nil, []byte("x")), p.Append("short", 0, nil, []byte("y"))); err != nil {
		t.Fatal(err)
	}
	if err := p.Send(ctx); !errors.Is(err, ErrUnknownTopic) {
		t.Fatal(err)
	}
	if r := p.Result(1); r.Err != nil || r.BaseOffset != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestLeaderMoves moves leaders all the time while one loop writes and another
// reads: nothing is lost, and what comes twice comes from repeats only.
func TestLeaderMoves(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 3, kfake.SeedTopics(4, "entries"))
	c := newClient(t, cluster.ListenAddrs())
	p := c.NewProducer()
	const rounds = 60
	for round := range rounds {
		p.Reset()
		for partition := range int32(4) {
			if err := p.Append("entries", partition, nil, []byte(value("entries", partition, round))); err != nil {
				t.Fatal(err)
			}
		}
		if err := cluster.MoveTopicPartition("entries", int32(round%4), int32(round%3)); err != nil {
			t.Fatal(err)
		}
		send(t, ctx, p)
	}
	positions := make([]Position, 4)
	want := make([][]string, 4)
	ends := make([]int64, 4)
	for i := range positions {
		positions[i] = Position{Topic: "entries", Partition: int32(i)}
		ends[i] = rounds
		for round := range rounds {
			want[i] = append(want[i], value("entries", int32(i), round))
		}
		if err := cluster.MoveTopicPartition("entries", int32(i), int32((i+1)%3)); err != nil {
			t.Fatal(err)
		}
	}
	compareValues(t, collect(t, ctx, c, positions, ends), want)
}

// TestFairness reads a backlog through limits that let one partition fill a whole
// answer: all partitions must come to their end in turn, not one by one.
func TestFairness(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(4, "entries"))
	c := newClient(t, cluster.ListenAddrs(), func(cfg *Config) { cfg.FetchMaxBytes, cfg.PartitionMaxBytes = 4000, 4000 })
	p := c.NewProducer()
	for range 10 {
		p.Reset()
		for partition := range int32(4) {
			if err := p.Append("entries", partition, nil, make([]byte, 3900)); err != nil {
				t.Fatal(err)
			}
		}
		send(t, ctx, p)
	}
	positions := []Position{{Topic: "entries"}, {Topic: "entries", Partition: 1}, {Topic: "entries", Partition: 2}, {Topic: "entries", Partition: 3}}
	f := c.NewFetcher()
	for range 20 {
		if err := f.Fetch(ctx, positions, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for i := range positions {
			var m Message
			for f.Result(i).Next(&m) {
			}
			positions[i].Offset = f.Result(i).NextOffset
		}
	}
	for _, at := range positions {
		if at.Offset < 4 {
			t.Fatalf("after 20 fetches: %v", positions)
		}
	}
}

// TestUnknownOutcome breaks connections at the produce request, before and after
// the broker has appended: each message is in the log once or twice, in order.
func TestUnknownOutcome(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(1, "entries"))
	proxy := newCuttingDialer()
	c := newClient(t, cluster.ListenAddrs(), func(cfg *Config) { cfg.Dial = proxy.dial })
	p := c.NewProducer()
	unknown := 0
	const rounds = 40
	for round := range rounds {
		p.Reset()
		if err := p.Append("entries", 0, nil, []byte(value("entries", 0, round))); err != nil {
			t.Fatal(err)
		}
		if round%4 == 1 {
			proxy.cutAnswers.Store(true)
		}
		for err := p.Send(ctx); err != nil; err = p.Send(ctx) {
			proxy.cutAnswers.Store(false)
			if !Retriable(err) {
				t.Fatal(err)
			}
			if errors.Is(err, ErrUnknownOutcome) {
				unknown++
			}
		}
	}
	if unknown < rounds/4 {
		t.Fatalf("%d unknown outcomes", unknown)
	}
	o, err := c.ListOffsets(ctx, "entries", []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, ctx, c, []Position{{Topic: "entries"}}, []int64{o[0].End})[0]
	seen := -1
	for _, v := range got {
		if v == value("entries", 0, seen+1) {
			seen++
		} else if v != value("entries", 0, seen) {
			t.Fatalf("%q after message %d", v, seen)
		}
	}
	if seen != rounds-1 || len(got) == rounds {
		t.Fatalf("%d messages, the last is %d, want repeats and %d", len(got), seen, rounds-1)
	}
}

// TestContextEnds cancels fetches and produces in flight and goes on with the
// same fetcher and producer: the race detector sees that no buffer is shared with
// the connection that still works on the old request.
func TestContextEnds(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 2, kfake.SeedTopics(2, "entries"))
	c := newClient(t, cluster.ListenAddrs())
	f, p := c.NewFetcher(), c.NewProducer()
	positions := []Position{{Topic: "entries"}, {Topic: "entries", Partition: 1}}
	for range 30 {
		short, cancel := context.WithCancel(ctx)
		time.AfterFunc(2*time.Millisecond, cancel)
		if err := f.Fetch(short, positions, 20*time.Millisecond); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		gone, cancelNow := context.WithCancel(ctx)
		p.Reset()
		for partition := range int32(2) {
			if err := p.Append("entries", partition, nil, make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(50*time.Microsecond, cancelNow)
		if err := p.Send(gone); err != nil {
			send(t, ctx, p)
		}
		cancel()
		cancelNow()
	}
	o, err := c.ListOffsets(ctx, "entries", []int32{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range positions {
		n := len(collect(t, ctx, c, positions[i:i+1], []int64{o[i].End})[0])
		if n < 30 || int64(n) < o[i].End { // a cancelled produce may still arrive meanwhile
			t.Fatalf("%d messages, end %d", n, o[i].End)
		}
	}
}

// TestBatchFull fills a partition's batch and goes on after sending it.
func TestBatchFull(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(1, "entries"))
	c := newClient(t, cluster.ListenAddrs(), func(cfg *Config) { cfg.BatchMaxBytes = 1000 })
	p := c.NewProducer()
	sent := 0
	for i := 0; i < 50; {
		err := p.Append("entries", 0, nil, []byte(value("entries", 0, i)))
		if errors.Is(err, ErrBatchFull) {
			send(t, ctx, p)
			sent += p.Result(0).Messages
			p.Reset()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		i++
	}
	if sent < 40 || Retriable(ErrBatchFull) {
		t.Fatalf("%d messages sent", sent)
	}
}

// TestSilentBroker meets a machine that accepts connections and never answers:
// every call ends in time, with an error that is worth a retry.
func TestSilentBroker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx := testContext(t)
	c := newClient(t, []string{listener.Addr().String()}, func(cfg *Config) {
		cfg.RequestTimeout, cfg.DialTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	p := c.NewProducer()
	if err := p.Append("entries", 0, nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	_, offsetsErr := c.ListOffsets(ctx, "entries", []int32{0})
	_, committedErr := c.Committed(ctx, "g", "entries", []int32{0})
	errs := []error{
		c.NewFetcher().Fetch(ctx, []Position{{Topic: "entries"}}, time.Millisecond), p.Send(ctx), offsetsErr, committedErr,
		c.Commit(ctx, "g", GenerationRef{}, map[string][]CommitOffset{"entries": {{0, 1, ""}}}), c.DeleteTopic(ctx, "entries"),
	}
	for i, err := range errs {
		if !Retriable(err) || ctx.Err() != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}
