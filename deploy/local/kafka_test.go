package local

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
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

// Clients of a listener behind a proxy are sent to the proxy, those of the plain listener are not.
func TestKafkaSendsClientsToTheirProxy(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	var proxies []string
	for range 2 {
		address, err := FreeAddress()
		must(t, err)
		proxies = append(proxies, address)
	}
	stack, err := Start(t.Context(), Config{Parts: []Part{ApacheKafka}, KafkaProxies: proxies, Report: func(line string) { t.Log(line) }})
	must(t, err)
	defer func() { must(t, stack.Stop()) }()
	sentTo := func(listener string) string {
		conn, err := kafka.DialContext(t.Context(), "tcp", listener)
		must(t, err)
		defer conn.Close()
		brokers, err := conn.Brokers()
		must(t, err)
		return loopback(brokers[0].Port)
	}
	if got := sentTo(stack.KafkaAddr); got != stack.KafkaAddr {
		t.Errorf("the plain listener sends to %s", got)
	}
	if len(stack.KafkaBehind) != len(proxies) {
		t.Fatalf("there are %d listeners behind %d proxies", len(stack.KafkaBehind), len(proxies))
	}
	for i, listener := range stack.KafkaBehind {
		if got := sentTo(listener); got != proxies[i] {
			t.Errorf("listener %d sends to %s instead of %s", i, got, proxies[i])
		}
	}
}
