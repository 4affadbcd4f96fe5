package oracle

import "sync"

// place is where an entry lies in the log of a shard: shard, offset, index. 0 is none; within a shard, places ascend.
type place uint64

// newPlace packs a place. It is not ok if the log is longer, or a block of it, than a place can say.
func newPlace(shard uint16, offset int64, ix uint32) (p place, ok bool) {
	return place(shard)<<48 | place(offset)<<16 | place(ix+1), offset >= 0 && offset < 1<<32 && ix < 1<<16-1
}

func (p place) shard() uint16 { return uint16(p >> 48) }
func (p place) offset() int64 { return int64(p >> 16 & 0xffffffff) }
func (p place) ix() uint32    { return uint32(p&0xffff) - 1 }

// fate is what became of all copies of one record id, in 24 bytes.
type fate struct {
	key       uint64 // hash of source name, calls or messages, and id; 0 is a free slot
	charged   place  // the copy that was charged
	duplicate place  // the first copy that was not, late ones aside
}

// idTable holds the fates of all record ids: 256 tables of open addressing, so that none ever grows by much at once. A
// table is at most three quarters full, so an id takes 32 to 64 bytes.
type idTable [256]struct {
	mu    sync.Mutex
	fates []fate
	used  int
}

// with calls do with the fate of a key while nobody else has it.
func (t *idTable) with(key uint64, do func(*fate)) {
	key = max(key, 1)
	part := &t[key>>56]
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.used >= len(part.fates)/4*3 {
		old := part.fates
		part.fates = make([]fate, max(64, 2*len(old)))
		for _, f := range old {
			if f.key != 0 {
				*slotOf(part.fates, f.key) = f
			}
		}
	}
	f := slotOf(part.fates, key)
	if f.key == 0 {
		f.key = key
		part.used++
	}
	do(f)
}

// slotOf finds the slot of a key, or the free one where it belongs. The number of slots is a power of two.
func slotOf(fates []fate, key uint64) *fate {
	mask := uint64(len(fates) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if f := &fates[i]; f.key == key || f.key == 0 {
			return f
		}
	}
}

// charge notes a charged copy, and gives the one that was charged before, if any.
func (t *idTable) charge(key uint64, at place) (before place) {
	t.with(key, func(f *fate) {
		if before = f.charged; before == 0 {
			f.charged = at
		}
	})
	return before
}

// repeat notes a copy that was found a duplicate.
func (t *idTable) repeat(key uint64, at place) {
	t.with(key, func(f *fate) {
		if f.duplicate == 0 || f.duplicate.shard() == at.shard() && at < f.duplicate {
			f.duplicate = at
		}
	})
}

// charged tells whether a copy of the id was charged.
func (t *idTable) charged(key uint64) (was bool) {
	t.with(key, func(f *fate) { was = f.charged != 0 })
	return was
}

// each gives every fate.
func (t *idTable) each(do func(fate)) {
	for i := range t {
		for _, f := range t[i].fates {
			if f.key != 0 {
				do(f)
			}
		}
	}
}
