package stream

import (
	"slices"

	kafka "github.com/segmentio/kafka-go"
)

// leg is the part of a fetch or a produce that goes to one broker: the indices
// of the partitions it is about, those of one topic side by side, as requests
// list them.
type leg struct {
	broker  int32
	indices []int
	call    *call
}

// legs are the requests of one fetch or produce. They are kept, with their
// buffers, from one to the next.
type legs struct {
	all  []leg
	used int
}

// to gives the leg that goes to the broker.
func (ls *legs) to(broker int32) *leg {
	for i := range ls.all[:ls.used] {
		if ls.all[i].broker == broker {
			return &ls.all[i]
		}
	}
	if ls.used == len(ls.all) {
		ls.all = append(ls.all, leg{})
	}
	l := &ls.all[ls.used]
	ls.used++
	l.broker, l.indices = broker, l.indices[:0]
	if l.call == nil {
		l.call = &call{}
	}
	return l
}

// add puts index i behind the others of its topic.
func (l *leg) add(i int, sameTopic func(i, j int) bool) {
	at := len(l.indices)
	for at > 0 && !sameTopic(l.indices[at-1], i) {
		at--
	}
	if at == 0 {
		at = len(l.indices)
	}
	l.indices = slices.Insert(l.indices, at, i)
}

// blames says whether an error may come from leaders that have moved, so that
// they must be looked up again.
func blames(code int16) bool {
	return code != 0 && code != int16(kafka.OffsetOutOfRange)
}
