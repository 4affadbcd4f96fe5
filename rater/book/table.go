package book

import "slices"

// table maps numbers (never 0) to values. A frozen copy costs a slice header; after that, a change copies the one page
// it touches and the list of pages, so that one change among a million costs microseconds. The zero table is empty.
//
// Pages are open-addressed. A key's page is the top bits of its hash, its slot in the page the lowest.
type table[V any] struct {
	pages []page[V]
	shift uint8 // 64 − log₂(number of pages)
	count int
	epoch uint32 // pages of an older epoch are shared with frozen copies
	owned uint32 // epoch in which the list of pages was copied
}

type page[V any] struct {
	slots []slot[V]
	used  int
	epoch uint32
}

type slot[V any] struct {
	key   uint64
	value V
}

const (
	// pageSlots is the number of slots of a new page; a full one is doubled up to maxPageSlots, then the pages are. The
	// list holds pages by value, which saves every lookup a cache miss; so pages are large, to keep the list short.
	pageSlots    = 8
	maxPageSlots = 1024
)

func hashKey(key uint64) uint64 {
	key *= 0x9e3779b97f4a7c15
	key ^= key >> 32
	return key * 0xd6e8feb86659fd93
}

// get gives a pointer to the value of the key, nil if there is none. Nobody may write through it.
func (t *table[V]) get(key uint64) *V {
	if len(t.pages) == 0 {
		return nil
	}
	h := hashKey(key)
	slots := t.pages[h>>t.shift].slots
	mask := uint64(len(slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if s := &slots[i]; s.key == key {
			return &s.value
		} else if s.key == 0 {
			return nil
		}
	}
}

// freeze gives a copy that later changes of t do not reach.
func (t *table[V]) freeze() table[V] {
	t.epoch++
	return *t
}

// put sets the value of the key.
func (t *table[V]) put(key uint64, value V) {
	if len(t.pages) == 0 {
		t.pages, t.shift, t.owned = []page[V]{{slots: make([]slot[V], pageSlots), epoch: t.epoch}}, 64, t.epoch
	}
	h := hashKey(key)
	p := t.own(h >> t.shift)
	if p.used*4 >= len(p.slots)*3 {
		if len(p.slots) == maxPageSlots {
			t.split()
			t.put(key, value)
			return
		}
		p.grow()
	}
	if p.put(h, key, value) {
		t.count++
	}
}

// own gives the page for writing, after copying what is shared.
func (t *table[V]) own(i uint64) *page[V] {
	if t.owned != t.epoch {
		t.pages, t.owned = slices.Clone(t.pages), t.epoch
	}
	p := &t.pages[i]
	if p.epoch != t.epoch {
		p.slots, p.epoch = slices.Clone(p.slots), t.epoch
	}
	return p
}

// put sets the value and tells whether the key is new. The page must be owned and have room.
func (p *page[V]) put(h, key uint64, value V) bool {
	mask := uint64(len(p.slots) - 1)
	i := h & mask
	for p.slots[i].key != 0 && p.slots[i].key != key {
		i = (i + 1) & mask
	}
	isNew := p.slots[i].key == 0
	if isNew {
		p.used++
	}
	p.slots[i] = slot[V]{key, value}
	return isNew
}

func (p *page[V]) grow() {
	old := p.slots
	p.slots, p.used = make([]slot[V], 2*len(old)), 0
	for i := range old {
		if old[i].key != 0 {
			p.put(hashKey(old[i].key), old[i].key, old[i].value)
		}
	}
}

// split doubles the number of pages.
func (t *table[V]) split() {
	old := t.pages
	t.pages, t.shift, t.owned = make([]page[V], 2*len(old)), t.shift-1, t.epoch
	for i := range t.pages {
		t.pages[i] = page[V]{slots: make([]slot[V], maxPageSlots), epoch: t.epoch}
	}
	for _, p := range old {
		for i := range p.slots {
			if key := p.slots[i].key; key != 0 {
				h := hashKey(key)
				t.pages[h>>t.shift].put(h, key, p.slots[i].value)
			}
		}
	}
}

// keys lists all keys in ascending order.
func (t *table[V]) keys() []uint64 {
	keys := make([]uint64, 0, t.count)
	for _, p := range t.pages {
		for i := range p.slots {
			if key := p.slots[i].key; key != 0 {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return keys
}
