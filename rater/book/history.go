package book

import (
	"math"
	"slices"
)

// always is earlier than every time that a record can have.
const always int64 = math.MinInt64

// history is a value that changes over time. It is immutable: with gives another one. The newest change lies inline,
// since nearly every lookup is about it. A history has at least one change; since makes it.
type history[T any] struct {
	newest change[T]
	older  *[]change[T] // ascending; nil for one change
}

// change is a value and the time from which it holds.
type change[T any] struct {
	fromMs int64
	value  T
}

func since[T any](fromMs int64, value T) history[T] {
	return history[T]{newest: change[T]{fromMs, value}}
}

// at gives the value in force at a time; ok is false before the first change.
func (h *history[T]) at(ms int64) (value T, ok bool) {
	if h.newest.fromMs <= ms {
		return h.newest.value, true
	}
	if h.older == nil {
		return value, false
	}
	for i := len(*h.older) - 1; i >= 0; i-- {
		if c := &(*h.older)[i]; c.fromMs <= ms {
			return c.value, true
		}
	}
	return value, false
}

// with gives the history with one more change. Of two changes from the same time on the later one counts.
func (h *history[T]) with(fromMs int64, value T) history[T] {
	changes := h.changes()
	i := len(changes)
	for i > 0 && changes[i-1].fromMs > fromMs {
		i--
	}
	changes = slices.Insert(changes, i, change[T]{fromMs, value})
	last := len(changes) - 1
	older := changes[:last:last]
	return history[T]{newest: changes[last], older: &older}
}

// changes lists all changes in the order of their times, as a copy.
func (h *history[T]) changes() []change[T] {
	var all []change[T]
	if h.older != nil {
		all = slices.Clone(*h.older)
	}
	return append(all, h.newest)
}
