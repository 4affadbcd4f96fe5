package stream

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// benchLog is a log of carrier records as an upstream writes them: 500 of 284
// bytes a batch.
func benchLog(t testing.TB, codec Codec, batches int) (log []byte, messages int) {
	record := compressible(284*4096, 1)
	var b Batch
	for i := range batches {
		b.Reset()
		for range 500 {
			at := (messages * 284) % (len(record) - 284)
			b.Append([]byte("+15551234567"), record[at:at+284])
			messages++
		}
		out, err := b.Seal(codec, 1000)
		if err != nil {
			t.Fatal(err)
		}
		Stamp(out, int64(i*500), 2000)
		log = append(log, out...)
	}
	return log, messages
}

// cpuTime is what this process has computed so far, in ns: on a machine that it
// shares, that says more than the time that has passed.
func cpuTime() int64 {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return use.Utime.Nano() + use.Stime.Nano()
}

func BenchmarkDecode(b *testing.B) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		b.Run(codec.String(), func(b *testing.B) {
			log, messages := benchLog(b, codec, 8)
			z := &inflater{limit: 1 << 30}
			var f Fetched
			var m Message
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				z.reset()
				f.reset(Position{}, z)
				f.rest = log
				for f.Next(&m) {
				}
				if f.NextOffset != int64(messages) {
					b.Fatal(f.NextOffset, f.Err)
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N*messages), "cpu-ns/message")
			b.ReportMetric(float64(len(log))/float64(messages), "wire-B/message")
		})
	}
}

// BenchmarkFetch reads a topic of four partitions from brokers in this process,
// whose time is in it.
func BenchmarkFetch(b *testing.B) {
	for _, codec := range []Codec{CodecNone, CodecLZ4} {
		b.Run(codec.String(), func(b *testing.B) {
			ctx := testContext(b)
			cluster, _ := newCluster(b, 1, kfake.SeedTopics(4, "carrier"))
			c := newClient(b, cluster.ListenAddrs(), func(cfg *Config) { cfg.Codec, cfg.FetchMaxBytes = codec, 4<<20 })
			p, f := c.NewProducer(), c.NewFetcher()
			record := compressible(284*4096, 1)
			positions := make([]Position, 4)
			for i := range 40 {
				p.Reset()
				for j := range 4 * 2000 {
					at := ((i*8000 + j) * 284) % (len(record) - 284)
					if err := p.Append("carrier", int32(j%4), nil, record[at:at+284]); err != nil {
						b.Fatal(err)
					}
				}
				send(b, ctx, p)
			}
			messages := 0
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				if positions[3].Offset == 80_000 {
					clear(positions)
				}
				for i := range positions {
					positions[i].Topic, positions[i].Partition = "carrier", int32(i)
				}
				if err := f.Fetch(ctx, positions, time.Millisecond); err != nil {
					b.Fatal(err)
				}
				var m Message
				for i := range positions {
					for f.Result(i).Next(&m) {
						messages++
					}
					positions[i].Offset = f.Result(i).NextOffset
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(messages), "cpu-ns/message")
		})
	}
}

// BenchmarkProduce builds and sends requests for 16 partitions to a broker in this
// process, which throws them away and whose time is in it.
func BenchmarkProduce(b *testing.B) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		for _, size := range []int{284, 32_000} {
			b.Run(fmt.Sprintf("%s-%dB", codec, size), func(b *testing.B) {
				ctx := testContext(b)
				cluster, _ := newCluster(b, 1, kfake.SeedTopics(16, "entries"), kfake.BlackholeProduce())
				c := newClient(b, cluster.ListenAddrs(), func(cfg *Config) { cfg.Codec = codec })
				p := c.NewProducer()
				record := compressible(64<<10, 1)
				messages := 16 * max(1, 100_000/size)
				b.ReportAllocs()
				cpu := cpuTime()
				for b.Loop() {
					p.Reset()
					for i := range messages {
						if err := p.Append("entries", int32(i%16), nil, record[i:i+size]); err != nil {
							b.Fatal(err)
						}
					}
					if err := p.Send(ctx); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N*messages), "cpu-ns/message")
			})
		}
	}
}

// pooled is how many allocations a whole fetch or request is allowed: none, but a
// few for the codecs whose libraries keep their state in pools, which the garbage
// collector and the race detector empty as they like.
func pooled(codec Codec) float64 {
	if codec == CodecSnappy || codec == CodecZstd {
		return 10
	}
	return 0
}

// TestDecodeAllocations: once warm, decoding a fetch allocates nothing.
func TestDecodeAllocations(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		log, messages := benchLog(t, codec, 8)
		z := &inflater{limit: 1 << 30}
		var f Fetched
		var m Message
		read := func() {
			z.reset()
			f.reset(Position{}, z)
			f.rest = log
			for f.Next(&m) {
			}
		}
		read()
		if n := testing.AllocsPerRun(20, read); n > pooled(codec) || f.NextOffset != int64(messages) || f.Err != nil {
			t.Errorf("%s: %v allocations for %d messages, %v", codec, n, messages, f.Err)
		}
	}
}

// building gives what makes one request of 3000 messages for 16 partitions, all
// but the sending.
func building(t testing.TB, codec Codec) (build func(), messages int) {
	c := &Client{cfg: Config{Codec: codec}.withDefaults()}
	p := c.NewProducer()
	l := &layout{topics: map[string]Topic{"entries": {Partitions: make([]Partition, 16)}}}
	record := compressible(64<<10, 1)
	return func() {
		p.Reset()
		for i := range 3000 {
			if err := p.Append("entries", int32(i%16), nil, record[i:i+284]); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.seal(); err != nil {
			t.Fatal(err)
		}
		p.plan(l)
	}, 3000
}

// TestProduceAllocations: once warm, gathering, sealing and encoding a request
// allocates nothing.
func TestProduceAllocations(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		build, messages := building(t, codec)
		build()
		if n := testing.AllocsPerRun(20, build); n > pooled(codec) {
			t.Errorf("%s: %v allocations for %d messages", codec, n, messages)
		}
	}
}

// BenchmarkBuild is what a message costs a producer before it is sent.
func BenchmarkBuild(b *testing.B) {
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		b.Run(codec.String(), func(b *testing.B) {
			build, messages := building(b, codec)
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				build()
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N*messages), "cpu-ns/message")
		})
	}
}
