package simulation

import (
	"encoding/binary"
	"slices"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/book"
)

// cutLogs lets retention take what is older than the second newest image and was read by all.
func (w *world) cutLogs() {
	for shard := range int32(shardCount) {
		w.cutShard(shard)
	}
	for _, name := range w.carrierTopics() {
		t := w.topics[name]
		for _, p := range t.partitions {
			p.cut(w.rated[sourceKey{t.id, p.key.partition}])
		}
	}
	w.cutBook()
}

// cutShard cuts the logs of a shard.
func (w *world) cutShard(shard int32) {
	image, first := w.secondImage(shard)
	next := w.log("postings", shard).end
	for _, group := range []string{"store", "late", "act"} {
		cursor := w.cursor(group, shard)
		image, next = min(image, cursor.Last), min(next, cursor.Next)
	}
	if image < 0 {
		return
	}
	w.count("log cut")
	w.log("snapshots", shard).cut(first)
	w.log("entries", shard).cut(image + 1)
	postings := w.log("postings", shard)
	postings.decode()
	start := postings.start
	for ; start < next; start++ {
		if offset, _ := posting.EntryOffset(postings.messages[start].value); offset > image {
			break
		}
	}
	postings.cut(start)
}

// wholeImage is an image of which all chunks are in a log: what it is of, and where its first chunk is.
type wholeImage struct{ of, first int64 }

// second gives the second newest image: what it is of, and where that and the newest begin. It is of -1 if there are less
// than two.
func second(images []wholeImage) (of, first int64) {
	if len(images) < 2 {
		return -1, 0
	}
	slices.SortStableFunc(images, func(a, b wholeImage) int { return int(b.of - a.of) })
	return images[1].of, min(images[0].first, images[1].first)
}

// secondImage finds the second newest whole image of a shard.
func (w *world) secondImage(shard int32) (of, first int64) {
	l := w.log("snapshots", shard)
	l.decode()
	var a ledger.Assembler
	var images []wholeImage
	begins := map[string]int64{}
	for i, m := range l.messages[l.start:] {
		const idFrom, idTo = 16, 32 // of the image, in each of its chunks
		id := string(m.value[idFrom:idTo])
		if _, begun := begins[id]; !begun {
			begins[id] = l.start + int64(i)
		}
		before := a.Newest()
		if a.Add(m.value) == nil && a.Newest() != before && (before == nil || a.Newest().State.WM > before.State.WM) {
			images = append(images, wholeImage{a.Newest().State.WM, begins[id]})
		}
	}
	return second(images)
}

// cutBook cuts the book and the log of its images.
func (w *world) cutBook() {
	l := w.log("book-images", 0)
	l.decode()
	var images []wholeImage
	begins, chunks := map[string]int64{}, map[string]uint32{}
	for i, m := range l.messages[l.start:] {
		key := string(m.key)
		if _, begun := begins[key]; !begun {
			begins[key] = l.start + int64(i)
		}
		if !book.Closes(m.value) {
			chunks[key]++
			continue
		}
		const countAt, offsetAt = 4, 16 // in the closing chunk
		if binary.LittleEndian.Uint32(m.value[countAt:]) == chunks[key] {
			images = append(images, wholeImage{int64(binary.LittleEndian.Uint64(m.value[offsetAt:])), begins[key]})
		}
		delete(chunks, key)
	}
	of, first := second(images)
	of = min(of, w.rated[sourceKey{w.topics["book"].id, 0}])
	if of > w.log("book", 0).start {
		w.count("book cut")
		l.cut(first)
		w.log("book", 0).cut(of)
	}
}
