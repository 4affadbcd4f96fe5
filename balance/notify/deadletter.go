package notify

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tollgate/tollgate/rater/entry"
)

// RecordRejected is the type under which dead letters are counted.
const RecordRejected = "record.rejected"

// DeadLetter is a record that could not be rated, as the dead-letter topic carries it for the carrier's integrator: JSON,
// one message a record, in the partition of its shard. The table dead_letters has the same.
type DeadLetter struct {
	// ID is installation/shard/offset/index of the entry: a dead letter that is sent again has the same.
	ID     string `json:"id"`
	Reason string `json:"reason"`
	// TopicID, Partition, Offset and Ix are where the carrier's record came from.
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Ix        uint32 `json:"ix"`
	// RecordID, Number, Account and Time are what could be read or found of it.
	RecordID string `json:"record_id,omitempty"`
	Number   string `json:"number,omitempty"`
	Account  uint32 `json:"account,omitempty"`
	Time     string `json:"time"`
	// Raw is the record's bytes, in base64.
	Raw []byte `json:"raw"`
}

// deadLetter describes a rejected entry.
func deadLetter(at place, source entry.Source, e *entry.Entry) DeadLetter {
	d := DeadLetter{
		ID:     fmt.Sprintf("%s/%d/%d/%d", at.installation, at.shard, at.offset, at.ix),
		Reason: e.Reason.String(), TopicID: hex.EncodeToString(source.TopicID[:]), Partition: source.Partition,
		Offset: e.Position.Offset, Ix: e.Position.Ix, RecordID: string(e.ID), Account: e.Account,
		Time: time.UnixMilli(e.EventMs).UTC().Format("2006-01-02T15:04:05.000Z"), Raw: e.Extra,
	}
	if e.Number != 0 {
		d.Number = fmt.Sprintf("+%d", e.Number)
	}
	return d
}

// appendTo appends the dead letter's JSON.
func (d *DeadLetter) appendTo(dst []byte) ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return dst, fmt.Errorf("cannot write dead letter %s: %w", d.ID, err)
	}
	return append(dst, text...), nil
}
