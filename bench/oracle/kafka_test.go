package oracle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// batchOf makes a batch as a broker stores it: the values at offsets from base on, appended at a time.
func batchOf(base, appendMs int64, attributes uint16, values ...string) []byte {
	b := make([]byte, atRecords)
	binary.BigEndian.PutUint64(b, uint64(base))
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(len(values)-1))
	binary.BigEndian.PutUint64(b[atLastDelta+4:], 1) // the producer's first time, which says nothing
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(appendMs))
	binary.BigEndian.PutUint32(b[atCount:], uint32(len(values)))
	for i, value := range values {
		record := []byte{0, 0}                         // attributes, time
		record = binary.AppendVarint(record, int64(i)) // offset
		record = append(binary.AppendVarint(record, 3), "key"...)
		record = append(binary.AppendVarint(record, int64(len(value))), value...)
		record = append(record, 0) // headers
		b = append(binary.AppendVarint(b, int64(len(record))), record...)
	}
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthFrom))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

// readAll reads batches, and writes down what they hold.
func readAll(data []byte, from int64) (text string, next int64, err error) {
	var b strings.Builder
	next, err = readBatches(data, from, func(offset, appendMs int64, value []byte) error {
		fmt.Fprintf(&b, "%d@%d=%s ", offset, appendMs, value)
		return nil
	})
	return strings.TrimSpace(b.String()), next, err
}

func TestBatches(t *testing.T) {
	const stamped = 1 << 3
	first, second := batchOf(10, 5000, stamped, "a", "b"), batchOf(12, 6000, stamped, "c")
	both := append(append([]byte{}, first...), second...)
	control := batchOf(13, 7000, stamped|isControl, "commit")
	for name, c := range map[string]struct {
		data []byte
		from int64
		want string
		next int64
	}{
		"both":                     {both, 10, "10@5000=a 11@5000=b 12@6000=c", 13},
		"from within":              {both, 11, "11@5000=b 12@6000=c", 13},
		"the second cut short":     {both[:len(both)-1], 10, "10@5000=a 11@5000=b", 12},
		"the head cut short":       {both[:len(first)+20], 10, "10@5000=a 11@5000=b", 12},
		"nothing":                  {nil, 10, "", 10},
		"the end of a transaction": {append(append([]byte{}, second...), control...), 12, "12@6000=c", 14},
	} {
		text, next, err := readAll(c.data, c.from)
		if err != nil || text != c.want || next != c.next {
			t.Errorf("%s: %q, next %d, %v; want %q, next %d", name, text, next, err, c.want, c.next)
		}
	}
	damaged := append([]byte{}, first...)
	damaged[len(damaged)-3] ^= 1
	if _, _, err := readAll(damaged, 10); err == nil {
		t.Error("a damaged batch is read")
	}
}

// TestAnswersOfKafka has answers that are anything: they are read or refused, and never more is read than is there.
func TestAnswersOfKafka(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "answer")
		_, _, _ = readMetadata(&reader{data: data})
		_, _ = readFetch(&reader{data: data})
		_, _, _ = readAll(data, 0)
	})
}

func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shard, offset, ix := rapid.Uint16().Draw(t, "shard"), rapid.Int64Range(0, 1<<32-1).Draw(t, "offset"), rapid.Uint32Range(0, 1<<16-2).Draw(t, "ix")
		p, ok := newPlace(shard, offset, ix)
		if !ok || p == 0 || p.shard() != shard || p.offset() != offset || p.ix() != ix {
			t.Fatalf("shard %d, offset %d, index %d become %d, %d, %d, %v", shard, offset, ix, p.shard(), p.offset(), p.ix(), ok)
		}
	})
	for _, beyond := range []struct {
		offset int64
		ix     uint32
	}{{-1, 0}, {1 << 32, 0}, {0, 1<<16 - 1}} {
		if _, ok := newPlace(0, beyond.offset, beyond.ix); ok {
			t.Errorf("%+v has a place", beyond)
		}
	}
}

// TestIDs holds the table to a map.
func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, want := &idTable{}, map[uint64]fate{}
		keys := rapid.Uint64Range(0, 300)
		for range rapid.IntRange(0, 2000).Draw(t, "steps") {
			key := keys.Draw(t, "key") * 0x9e3779b97f4a7c15
			at := place(rapid.Uint64Range(1, 1000).Draw(t, "place"))
			f := want[max(key, 1)]
			f.key = max(key, 1)
			if rapid.Bool().Draw(t, "charged") {
				if before := table.charge(key, at); before != f.charged {
					t.Fatalf("key %x was charged at %d, the table says %d", key, f.charged, before)
				}
				if f.charged == 0 {
					f.charged = at
				}
			} else {
				if table.repeat(key, at); f.duplicate == 0 || at < f.duplicate {
					f.duplicate = at
				}
			}
			want[f.key] = f
		}
		count := 0
		table.each(func(f fate) {
			if count++; want[f.key] != f {
				t.Fatalf("the table has %+v, want %+v", f, want[f.key])
			}
		})
		if count != len(want) {
			t.Fatalf("the table has %d keys, want %d", count, len(want))
		}
	})
}

func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		name    string
		attempt attempt
		want    bool
	}{
		{"succeeded", attempt{Status: gatewaySucceeded}, true}, {"declined", attempt{Status: gatewayDeclined}, false},
		{"lost", attempt{Status: gatewaySucceeded, Lost: true}, false}, {"pending", attempt{Status: 1}, false},
		{"late", attempt{Status: 1, Then: gatewaySucceeded, ThenMs: 900}, true}, {"not yet", attempt{Status: 1, Then: gatewaySucceeded, ThenMs: 1001}, false},
		{"late decline", attempt{Status: 1, Then: gatewayDeclined, ThenMs: 900}, false},
		{"reversed", attempt{Status: gatewayDeclined, Then: gatewaySucceeded, ThenMs: 1000}, true},
	} {
		if got := c.attempt.captured(1000); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
