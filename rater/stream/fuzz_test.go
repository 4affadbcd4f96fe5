package stream

import (
	"slices"
	"testing"
)

// fuzzFetcher waits for answers about four partitions of two topics.
func fuzzFetcher() (*Fetcher, []int) {
	f := &Fetcher{client: &Client{cfg: Config{}.withDefaults()}, plain: inflater{limit: 1 << 20}}
	f.reset([]Position{{"a", 0, 3}, {"a", 1, 0}, {"b", 0, 0}, {"a", 2, 5}})
	return f, []int{0, 1, 3, 2}
}

func fetchAnswer(t testing.TB) []byte {
	b := make([]byte, 10) // throttle time, code, session
	b = be.AppendUint32(b, 2)
	for topic, partitions := range map[string]uint32{"a": 3, "b": 1} {
		b = appendString(b, topic)
		b = be.AppendUint32(b, partitions)
		for p := range partitions {
			b = be.AppendUint32(b, p)
			b = be.AppendUint16(b, 0)
			b = be.AppendUint64(be.AppendUint64(be.AppendUint64(b, 20), 20), 0)
			b = be.AppendUint32(b, 1) // aborted
			b = be.AppendUint64(be.AppendUint64(b, 7), 1)
			b = be.AppendUint32(b, 0xffffffff)
			records := sealed(t, Codec(p), 0, 20)
			if p == 1 {
				records = sealed(t, CodecLZ4, 0, 20)
			}
			b = be.AppendUint32(b, uint32(len(records)))
			b = append(b, records...)
		}
	}
	return b
}

func FuzzFetchAnswer(f *testing.F) {
	whole := fetchAnswer(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		fetcher, indices := fuzzFetcher()
		if _, err := fetcher.decode(indices, b); err != nil {
			return
		}
		for i := range indices {
			drain(t, fetcher.Result(i))
		}
	})
}

func TestFetchAnswer(t *testing.T) {
	fetcher, indices := fuzzFetcher()
	if stale, err := fetcher.decode(indices, fetchAnswer(t)); err != nil || stale {
		t.Fatal(stale, err)
	}
	for i, want := range []int{17, 20, 20, 15} {
		if n := drain(t, fetcher.Result(i)); n != want || fetcher.Result(i).Err != nil {
			t.Fatalf("result %d: %d messages, want %d: %v", i, n, want, fetcher.Result(i).Err)
		}
	}
}

// drain takes all messages and holds what every decoded result must hold.
func drain(t *testing.T, r *Fetched) int {
	var m Message
	n := 0
	for ; r.Next(&m); n++ {
		if m.Offset < r.Offset || r.NextOffset < r.Offset {
			t.Fatalf("offset %d, next %d, asked for %d", m.Offset, r.NextOffset, r.Offset)
		}
	}
	if r.Next(&m) || r.NextOffset < r.Offset {
		t.Fatalf("not at its end: next %d", r.NextOffset)
	}
	return n
}

// FuzzBatches decodes anything as a log, with checksums made right, so that what
// lies behind them is reached.
func FuzzBatches(f *testing.F) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		f.Add(append(sealed(f, codec, 0, 5), sealed(f, codec, 5, 3)...), int64(2))
	}
	gzipped := sealed(f, CodecNone, 0, 3)
	packed := compressors["gzip"].compress(gzipped[batchHeader:])
	gzipped = append(slices.Clone(gzipped[:batchHeader]), packed...)
	gzipped[atAttributes+1] |= byte(CodecGzip)
	be.PutUint32(gzipped[atLength:], uint32(len(gzipped)-lengthPrefix))
	f.Add(gzipped, int64(0))
	control := sealed(f, CodecNone, 0, 1)
	control[atAttributes+1] |= bitControl | bitTransactional
	f.Add(append(control, sealed(f, CodecNone, 1, 1)...), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, from int64) {
		for rest := b; len(rest) >= batchHeader; {
			n := int64(int32(be.Uint32(rest[atLength:]))) + lengthPrefix
			if n < batchHeader || n > int64(len(rest)) {
				break
			}
			checksum(rest[:n])
			rest = rest[n:]
		}
		var r Fetched
		r.reset(Position{Topic: "t", Offset: from}, &inflater{limit: 1 << 20})
		r.rest = b
		r.aborted = append(r.aborted, abortedTxn{-1, 0}, abortedTxn{7, 3})
		drain(t, &r)
	})
}

func FuzzProduceAnswer(f *testing.F) {
	b := be.AppendUint32(nil, 1)
	b = be.AppendUint32(appendString(b, "a"), 2)
	for p, code := range []uint16{0, 87} {
		b = be.AppendUint16(be.AppendUint32(b, uint32(p)), code)
		b = be.AppendUint64(be.AppendUint64(be.AppendUint64(b, 100), 1000), 0)
		b = be.AppendUint32(b, uint32(p))
		for range p {
			b = appendString(be.AppendUint32(b, 0), "bad record")
		}
		b = appendString(b, "why")
	}
	f.Add(append(b, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Client{cfg: Config{}.withDefaults()}
		p := c.NewProducer()
		for partition := range int32(2) {
			if err := p.Append("a", partition, nil, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		_, err := p.decode(b)
		for i := range p.Len() {
			if r := p.Result(i); err == nil && p.outlets[i].acked != (r.BaseOffset >= 0) && r.BaseOffset >= 0 {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func FuzzMetadataAnswer(f *testing.F) {
	b := []byte{0, 0, 0, 0, 0, 2} // no tags, throttle time, one broker
	b = be.AppendUint32(appendCompactString(be.AppendUint32(b, 3), "host"), 9092)
	b = append(b, 0, 0) // no rack, no tags
	b = be.AppendUint32(appendCompactString(b, "cluster"), 3)
	b = append(b, 2, 0, 0) // one topic, no error
	b = appendCompactString(b, "entries")
	b = append(b, "0123456789abcdef\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01"...)
	b = append(b, 2, 0, 0, 0, 3, 2, 0, 0, 0, 3, 1, 0) // replicas, in sync, offline, no tags
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)       // authorised operations, tags, twice
	l, err := decodeMetadata(b)
	if err != nil || l.topics["entries"].Partitions[0].Leader != 3 || l.topics["entries"].ID != TopicID([]byte("0123456789abcdef")) {
		f.Fatalf("%+v %v", l, err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeMetadata(b)
		if err != nil {
			return
		}
		for name, topic := range l.topics {
			for partition := range topic.Partitions {
				_, _ = l.leader(name, int32(partition))
			}
		}
	})
}
