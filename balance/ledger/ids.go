package ledger

import (
	"iter"
	"slices"
)

// IDs is a set of ids: the zero value is empty, and 0, which is no id, is never in it. A shard holds millions of them, and
// looks each entry's up; so they lie side by side in one array without pointers, at most three quarters full, and an id
// costs one cache line instead of the several of a map.
type IDs struct {
	slots []uint64 // as many as a power of two, 0 where nothing is; an id lies at or after its home
	shift uint8    // 64 − log₂(number of slots)
	count int
}

// leastSlots is the number of slots of a set with one id.
const leastSlots = 8

// home is the slot that an id is looked for in first. It is the top bits of its hash, so that a larger array has the ids
// in the order of the smaller one, and to grow is to walk through both.
func (s *IDs) home(id uint64) uint64 { return id * 0x9e3779b97f4a7c15 >> s.shift }

// Len is the number of ids.
func (s *IDs) Len() int { return s.count }

// Has tells whether an id is in the set.
func (s *IDs) Has(id uint64) bool {
	if s.count == 0 || id == 0 {
		return false
	}
	_, found := s.find(id)
	return found
}

// find gives the slot of an id, or the free one that it would take.
func (s *IDs) find(id uint64) (i uint64, found bool) {
	mask := uint64(len(s.slots) - 1)
	for i = s.home(id) & mask; ; i = (i + 1) & mask {
		if s.slots[i] == id {
			return i, true
		}
		if s.slots[i] == 0 {
			return i, false
		}
	}
}

// Add puts an id into the set.
func (s *IDs) Add(id uint64) {
	if id == 0 {
		return
	}
	if 4*s.count >= 3*len(s.slots) {
		s.grow()
	}
	if i, found := s.find(id); !found {
		s.slots[i] = id
		s.count++
	}
}

func (s *IDs) grow() {
	old := s.slots
	s.slots = make([]uint64, max(leastSlots, 2*len(old)))
	s.shift = 64
	for n := len(s.slots); n > 1; n /= 2 {
		s.shift--
	}
	for _, id := range old {
		if id != 0 {
			i, _ := s.find(id)
			s.slots[i] = id
		}
	}
}

// All lists the ids, in no order that means anything.
func (s *IDs) All() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, id := range s.slots {
			if id != 0 && !yield(id) {
				return
			}
		}
	}
}

// Sorted gives the ids in ascending order.
func (s *IDs) Sorted() []uint64 {
	ids := slices.AppendSeq(make([]uint64, 0, s.count), s.All())
	slices.Sort(ids)
	return ids
}

// Clone gives a copy of the set.
func (s *IDs) Clone() IDs {
	c := *s
	c.slots = slices.Clone(s.slots)
	return c
}
