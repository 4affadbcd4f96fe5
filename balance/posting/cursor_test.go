package posting

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A reader that obeys Accept takes every block once and in order, however often the log repeats a tail of it, and
// wherever the reader is restarted from what it committed.
func TestCursorTakesEachBlockOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 30).Draw(t, "blocks")
		var log []int64 // entry offsets: first appearances are in order, repeats anywhere behind them
		for next := int64(0); next < n; {
			if next > 0 && rapid.Bool().Draw(t, "repeat") {
				log = append(log, rapid.Int64Range(0, next-1).Draw(t, "old"))
				continue
			}
			log, next = append(log, next), next+1
		}
		topic := [16]byte{1, 2, 3}
		cursor, committed, metadata := Start, int64(-1), ""
		var taken []int64
		for cursor.Next < int64(len(log)) {
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				c, err := ParseCursor(committed, metadata, topic)
				if err != nil {
					t.Fatal(err)
				}
				cursor, taken = c, taken[:c.Last+1]
			}
			offset := log[cursor.Next]
			switch cursor.Accept(offset) {
			case Take:
				taken, cursor.Last = append(taken, offset), offset
			case Gap:
				t.Fatalf("gap at %d after %d", offset, cursor.Last)
			}
			cursor.Next++
			if rapid.Bool().Draw(t, "commit") {
				committed, metadata = cursor.Next, cursor.Metadata(topic)
			}
		}
		if int64(len(taken)) != n || !slices.IsSorted(taken) {
			t.Fatalf("took %v of %v", taken, log)
		}
		if cursor.Accept(n+1) != Gap {
			t.Fatal("a missing block is not noticed")
		}
	})
}

func TestParseCursor(t *testing.T) {
	topic, other := [16]byte{7}, [16]byte{8}
	c := Cursor{Next: 12, Last: 9}
	for name, test := range map[string]struct {
		offset   int64
		metadata string
		want     Cursor
		refused  bool
	}{
		"nothing committed": {-1, "", Start, false},
		"this topic":        {12, c.Metadata(topic), c, false},
		"another topic":     {12, c.Metadata(other), Start, false},
		"no metadata":       {12, "", Start, true},
		"another tool's":    {12, "consumer-1 5", Start, true},
		"below the start":   {12, Cursor{Last: -2}.Metadata(topic), Start, true},
	} {
		if got, err := ParseCursor(test.offset, test.metadata, topic); got != test.want || (err != nil) != test.refused {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(int64(5), Cursor{Next: 5, Last: 3}.Metadata([16]byte{}))
	f.Add(int64(-1), "")
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		c, err := ParseCursor(offset, metadata, [16]byte{})
		if err == nil && c != Start {
			if again, err := ParseCursor(c.Next, c.Metadata([16]byte{}), [16]byte{}); err != nil || again != c {
				t.Fatalf("%+v reads back as %+v, %v", c, again, err)
			}
		}
	})
}
