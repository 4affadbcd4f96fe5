package simulation

import (
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/entry"
)

// place names a record of a source: where it came from.
type place struct {
	source   entry.Source
	position entry.Position
}

// oracle is the naive second opinion on everything that happened.
type oracle struct {
	w        *world
	book     *oracleBook
	places   map[place]*wanted
	rows     map[place]map[int32]int // outcomes other than Repeated, by shard
	shards   map[entry.Source]int32  // where records of no account go
	keys     map[uint64]string       // id hashes and what they stand for
	hashes   map[string]uint64
	due      map[string]bool // records that must be charged
	charges  map[string]int
	intents  map[recharge.Intent]int64
	credited map[uint32]int64
	first    map[uint64]answer // of API entries by id: what became of the first
	kept     [shardCount]keeping
}

// check asks the oracle about the whole run.
func (w *world) check() {
	if len(w.violations) > 0 {
		return
	}
	o := &oracle{w: w, book: newOracleBook(), places: map[place]*wanted{}, rows: map[place]map[int32]int{}, shards: map[entry.Source]int32{}, keys: map[uint64]string{},
		hashes: map[string]uint64{}, due: map[string]bool{}, charges: map[string]int{}, intents: map[recharge.Intent]int64{},
		credited: map[uint32]int64{}, first: map[uint64]answer{}}
	o.readBook()
	o.readCarriers()
	for shard := range int32(shardCount) {
		w.postedTo(shard)
		newOracleShard(o, shard).run()
	}
	o.checkRows()
	o.checkPlaces()
	o.checkCharges()
	o.checkGateway()
	o.checkAnswers()
}

// readBook reads the book's log, and what its records become.
func (o *oracle) readBook() {
	t := o.w.topics["book"]
	l := t.partitions[0]
	l.decode()
	for offset, m := range l.messages {
		o.book.read(int64(offset), m.appendMs, m.value)
	}
	for _, f := range o.book.later {
		f()
	}
	for offset, e := range o.book.entries {
		o.places[place{entry.Source{TopicID: t.id}, entry.Position{Offset: offset}}] = e
	}
}

// readCarriers reads what carriers sent, and what it must have become.
func (o *oracle) readCarriers() {
	for _, t := range o.w.allTopics {
		if t.name != "carrier-a" && t.name != "carrier-b" {
			continue
		}
		for _, l := range t.partitions {
			l.decode()
			for offset, m := range l.messages {
				at := place{entry.Source{TopicID: t.id, Partition: l.key.partition}, entry.Position{Offset: int64(offset)}}
				f, ok := o.book.formats[t.name].at(m.appendMs - 2000)
				if !ok {
					o.places[at] = unread(2, string(m.value), m.appendMs)
					continue
				}
				for ix, text := range split(string(m.value)) {
					at.position.Ix = uint32(ix)
					o.places[at] = o.book.route(text, f, m.appendMs)
				}
			}
		}
	}
}

// checkRows is the other half of compareRow: there is no row but those of entries.
func (o *oracle) checkRows() {
	if o.w.hopeless() {
		return // not all entries were looked at
	}
	for key, r := range o.w.rows {
		if !r.known {
			o.w.violate("I10", "there is a row of %s at %v, where there is no entry", r.table, key)
		}
	}
}

// checkPlaces is I10: every record below what was committed has one row, none has two.
func (o *oracle) checkPlaces() {
	for at, e := range o.places {
		below := at.position.Offset < o.w.rated[sourceKey{at.source.TopicID, at.source.Partition}]
		rows, wantedRows := 0, 1
		for _, n := range o.rows[at] {
			rows += n
			if n > 1 {
				o.w.violate("I10", "record %v has %d rows in one shard", at, n)
			}
		}
		if e.shard == -1 {
			wantedRows = shardCount
		}
		if rows > wantedRows || below && rows < wantedRows {
			o.w.violate("I10", "record %v has %d rows instead of %d: %+v", at, rows, wantedRows, *e)
		}
	}
}

// checkCharges is I5: every record that was to be charged was, once.
func (o *oracle) checkCharges() {
	for key := range o.due {
		if n := o.charges[key]; n != 1 {
			o.w.violate("I5", "record %s was charged %d times", key, n)
		}
	}
	for key, n := range o.charges {
		if n > 1 {
			o.w.violate("I5", "record %s was charged %d times", key, n)
		}
	}
}

// checkGateway is I8: what was captured was credited, and nothing was captured twice for one recharge.
func (o *oracle) checkGateway() {
	captured, successes := map[uint32]int64{}, map[recharge.Intent]int{}
	for _, p := range o.w.payments {
		amount, decided := o.intents[p.Intent]
		if !decided {
			o.w.violate("I8", "a charge of account %d for %v, which nobody decided", p.Account, p.Intent)
		} else if amount != int64(p.AmountUnits) {
			o.w.violate("I8", "intent %v is of %d, charged was %d", p.Intent, amount, p.AmountUnits)
		}
		if p.at(o.w.nowMs).Status != recharge.Succeeded {
			continue
		}
		captured[p.Account] += int64(p.AmountUnits)
		if !p.reversed {
			if successes[p.Intent]++; successes[p.Intent] > 1 {
				o.w.violate("I8", "intent %v was captured twice", p.Intent)
			}
		}
	}
	for account := uint32(1); account <= accountCount; account++ {
		if captured[account] != o.credited[account] {
			o.w.violate("I8", "account %d: captured %d, credited %d", account, captured[account], o.credited[account])
		}
	}
}

// bind notes which id a hash stands for: one to one.
func (o *oracle) bind(hash uint64, key string) {
	if key == "" {
		return
	}
	if other, known := o.keys[hash]; known && other != key {
		o.w.violate("I6", "id hash %x stands for %s and %s", hash, other, key)
	}
	if other, known := o.hashes[key]; known && other != hash {
		o.w.violate("I6", "%s is hashed as %x and %x", key, other, hash)
	}
	o.keys[hash], o.hashes[key] = key, hash
}
