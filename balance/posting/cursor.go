package posting

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Cursor is how far a reader of one shard's postings has come. Every stage behind debit keeps one: it takes each block
// of postings once, in the order of the entries, although the log may hold some of them twice (protocol rule 10).
type Cursor struct {
	// Next is the offset in `postings` to read next.
	Next int64
	// Last is the offset in `entries` of the last block that was taken with all before it.
	Last int64
}

// Start is the cursor before the first block of a log.
var Start = Cursor{Next: 0, Last: -1}

// Verdict says what a reader does with a block of postings.
type Verdict int8

// The verdicts.
const (
	// Skip is for a block that was taken before.
	Skip Verdict = iota
	// Take is for the block that follows the last one taken.
	Take
	// Gap is for a block that does not follow: postings are missing, the reader must halt.
	Gap
)

// Accept tells what to do with the block of postings of the entries at entryOffset.
func (c Cursor) Accept(entryOffset int64) Verdict {
	switch {
	case entryOffset <= c.Last:
		return Skip
	case entryOffset == c.Last+1:
		return Take
	}
	return Gap
}

// Metadata is the text to commit together with the offset Next: the id of the topic and Last. An offset without its
// Last would lose the order, one without its topic would count for a log that was made anew.
func (c Cursor) Metadata(topicID [16]byte) string {
	return hex.EncodeToString(topicID[:]) + " " + strconv.FormatInt(c.Last, 10)
}

// ParseCursor reads a committed offset and its metadata. Nothing committed (offset -1), or something that was committed
// for a topic of another id, gives Start. The error says that the metadata is not what Metadata writes.
func ParseCursor(offset int64, metadata string, topicID [16]byte) (Cursor, error) {
	if offset < 0 {
		return Start, nil
	}
	id, text, _ := strings.Cut(metadata, " ")
	last, err := strconv.ParseInt(text, 10, 64)
	if err != nil || last < Start.Last || len(id) != 2*len(topicID) {
		return Start, fmt.Errorf("the commit at offset %d has metadata %q instead of a topic id and an entry offset: was it made by another tool?", offset, metadata)
	}
	if id != hex.EncodeToString(topicID[:]) {
		return Start, nil
	}
	return Cursor{Next: offset, Last: last}, nil
}
