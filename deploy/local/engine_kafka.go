package local

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Places in a Kafka record batch of version 2. The checksum covers everything behind it.
const (
	batchCRC            = 17
	batchAttributes     = 21
	batchFirstTimestamp = 27
	batchMaxTimestamp   = 35
	batchHeaderBytes    = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// serveKafka is the embedded Kafka, until SIGTERM.
func serveKafka(job engineJob) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	cluster, err := kfake.NewCluster(
		kfake.Ports(job.Ports[0]),
		kfake.DataDir(job.Dir),
		kfake.DefaultNumPartitions(1),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelError)),
		kfake.BrokerConfigs(map[string]string{
			"message.max.bytes":          strconv.Itoa(messageMaxBytes),
			"log.message.timestamp.type": "LogAppendTime",
		}),
	)
	if err != nil {
		return fmt.Errorf("cannot start kfake: %w", err)
	}
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		stampRequest(request.(*kmsg.ProduceRequest), time.Now().UnixMilli())
		return nil, nil, false // go on as usual
	})
	<-stop
	cluster.Close()
	return nil
}

// stampRequest does what kfake leaves out: it makes every topic one of LogAppendTime.
func stampRequest(request *kmsg.ProduceRequest, nowMillis int64) {
	for i := range request.Topics {
		for j := range request.Topics[i].Partitions {
			stampBatch(request.Topics[i].Partitions[j].Records, nowMillis)
		}
	}
}

// stampBatch writes the append time into both timestamps of a batch and computes its checksum anew. A batch whose checksum
// is wrong stays as it is, so that kfake refuses it. Attribute bit 3 stays unset: clients read the records' own times by it,
// and kfake would change the timestamps of such a batch again without a new checksum.
func stampBatch(batch []byte, nowMillis int64) {
	if len(batch) < batchHeaderBytes {
		return
	}
	crc := batch[batchCRC:batchAttributes]
	if binary.BigEndian.Uint32(crc) != crc32.Checksum(batch[batchAttributes:], castagnoli) {
		return
	}
	binary.BigEndian.PutUint64(batch[batchFirstTimestamp:], uint64(nowMillis))
	binary.BigEndian.PutUint64(batch[batchMaxTimestamp:], uint64(nowMillis))
	binary.BigEndian.PutUint32(crc, crc32.Checksum(batch[batchAttributes:], castagnoli))
}
