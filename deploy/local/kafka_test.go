package local

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever time a producer claims, the embedded Kafka gives its own as the record's, and Apache Kafka tells its own in the
// answer, which it does for topics of LogAppendTime only; here that is the default for every topic.
func TestAppendTimeIsTheBrokers(t *testing.T) {
	for _, part := range []Part{EmbeddedKafka, ApacheKafka} {
		t.Run(part.String(), func(t *testing.T) {
			stack := ForTest(t, part)
			must(t, createTopic(t.Context(), stack, "times"))
			before := time.Now().Truncate(time.Millisecond)
			response, err := produce(t.Context(), stack, "times", "claims 1970")
			must(t, err)
			record, err := fetch(t.Context(), stack, "times")
			must(t, err)
			appended := record.Time
			if stack.AppendTimeBit {
				appended = response.LogAppendTime
			}
			if appended.Before(before) || appended.After(time.Now()) {
				t.Fatalf("append time %s lies outside of the call, which began %s", appended, before)
			}
		})
	}
}

// Stamping changes the two timestamps and the checksum of a sound batch, and not a byte of any other.
func TestStampBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "batch")
		nowMillis := rapid.Int64Range(0, 1<<48).Draw(t, "nowMillis")
		sound := len(batch) >= batchHeaderBytes && rapid.Bool().Draw(t, "sound")
		if sound {
			binary.BigEndian.PutUint32(batch[batchCRC:], crc32.Checksum(batch[batchAttributes:], castagnoli))
		}
		stamped := bytes.Clone(batch)
		stampBatch(stamped, nowMillis)
		if !sound {
			if !bytes.Equal(batch, stamped) {
				t.Fatal("an unsound batch was changed")
			}
			return
		}
		if crc32.Checksum(stamped[batchAttributes:], castagnoli) != binary.BigEndian.Uint32(stamped[batchCRC:]) {
			t.Fatal("the checksum is wrong after stamping")
		}
		for _, at := range []int{batchFirstTimestamp, batchMaxTimestamp} {
			if got := binary.BigEndian.Uint64(stamped[at:]); got != uint64(nowMillis) {
				t.Fatalf("timestamp at byte %d is %d", at, got)
			}
			copy(stamped[at:at+8], batch[at:])
		}
		copy(stamped[batchCRC:batchAttributes], batch[batchCRC:])
		if !bytes.Equal(batch, stamped) {
			t.Fatal("other bytes changed")
		}
	})
}
