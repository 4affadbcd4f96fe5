package sink

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/tollgate/tollgate/rater/stream"
)

// Progress is how far the postings of one shard are stored.
type Progress struct {
	// Next is the offset in postings to read next.
	Next int64
	// Last is the offset in entries of the last block stored with all before it, -1 before the first.
	Last int64
}

// Commit gives what the consumer group remembers of a shard: Next as the offset, topic id and Last as the metadata.
func (p Progress) Commit(shard int32, topicID stream.TopicID) stream.CommitOffset {
	return stream.CommitOffset{Partition: shard, Offset: p.Next, Metadata: hex.EncodeToString(topicID[:]) + " " + strconv.FormatInt(p.Last, 10)}
}

// ParseProgress reads what the group remembers. Nothing, or what it remembers of a topic that was made anew since, is the
// progress before the first block.
func ParseProgress(c stream.CommitOffset, topicID stream.TopicID) (Progress, error) {
	none := Progress{Next: 0, Last: -1}
	if c.Offset < 0 {
		return none, nil
	}
	id, lastText, found := strings.Cut(c.Metadata, " ")
	last, err := strconv.ParseInt(lastText, 10, 64)
	if !found || err != nil || last < -1 || len(id) != 2*len(topicID) {
		return none, fmt.Errorf("the commit at offset %d has metadata %q instead of topic id and entry offset: was it made by another tool?", c.Offset, c.Metadata)
	}
	if id != hex.EncodeToString(topicID[:]) {
		return none, nil
	}
	return Progress{Next: c.Offset, Last: last}, nil
}
