package simulation

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// Mutants of the book, and of those who read it.

// heartbeat is a record of the book that changes nothing.
var heartbeat = []byte(`{"v":1,"kind":"heartbeat"}`)

// otherBook is a book that a mutant makes of the log.
type otherBook struct {
	f    *follower
	make func(w *world, until int64) *book.Book
	at   int64
	made *book.Book
}

// Book gives the mutant's book of what the process has read.
func (o *otherBook) Book() *book.Book {
	until := o.f.f.Book().Offset()
	if o.made == nil || o.at != until {
		o.made, o.at = o.make(o.f.w, until), until
	}
	return o.made
}

// impatientBooks know the future: they say that they have read all that anybody may ask.
func impatientBooks(f *follower) rater.Books {
	return &otherBook{f: f, make: func(w *world, until int64) *book.Book {
		b := book.NewBuilder()
		w.eachChange(until, func(offset, ms int64, value []byte) { b.Apply(offset, ms, value) })
		b.Apply(until, w.nowMs+10*365*dayMs, heartbeat)
		return b.Book()
	}}
}

// backdatedBooks give every change its wish.
func backdatedBooks(f *follower) rater.Books {
	return &otherBook{f: f, make: func(w *world, until int64) *book.Book {
		return w.rebuild(until, func(int64, string, []byte) []byte { return nil })
	}}
}

// newestFormats decode by the newest format, whenever the message came.
func newestFormats(f *follower) rater.Books {
	return &otherBook{f: f, make: func(w *world, until int64) *book.Book {
		return w.rebuild(until, undatedFormat, "format")
	}}
}

// undatedFormat puts a format into force from always on.
func undatedFormat(_ int64, kind string, value []byte) []byte {
	var r book.SetFormat
	if kind != "format" || json.Unmarshal(value, &r) != nil {
		return nil
	}
	r.From = time.Time{}
	value, _ = book.Encode(&r)
	return value
}

// configuredFormats decode by the format that was the newest when the process started.
func configuredFormats(f *follower) rater.Books {
	return &otherBook{f: f, make: func(w *world, until int64) *book.Book {
		return w.rebuild(until, func(offset int64, kind string, value []byte) []byte {
			if kind == "format" && offset >= f.startedAt {
				return heartbeat
			}
			return undatedFormat(offset, kind, value)
		}, "format")
	}}
}

// newestOwners route by the newest owner, whenever the record's event was.
func newestOwners(f *follower) rater.Books {
	return &otherBook{f: f, make: func(w *world, until int64) *book.Book {
		return w.rebuild(until, func(_ int64, kind string, value []byte) []byte {
			var assign book.AssignNumber
			var release book.ReleaseNumber
			switch {
			case kind == "assign" && json.Unmarshal(value, &assign) == nil:
				assign.From = time.Time{}
				value, _ = book.Encode(&assign)
				return value
			case kind == "release" && json.Unmarshal(value, &release) == nil:
				release.From = time.Time{}
				value, _ = book.Encode(&release)
				return value
			}
			return nil
		}, "assign", "release")
	}}
}

func (w *world) eachChange(until int64, visit func(offset, ms int64, value []byte)) {
	l := w.log("book", 0)
	l.decode()
	for offset := range until {
		visit(offset, l.messages[offset].appendMs, l.messages[offset].value)
	}
}

// rebuild makes a book in which the changes of the kinds named, all if none are, were made before the installation was
// open: rewritten where rewrite gives something. Offsets are not those of the log.
func (w *world) rebuild(until int64, rewrite func(offset int64, kind string, value []byte) []byte, kinds ...string) *book.Book {
	b := book.NewBuilder()
	next := int64(0)
	var frontier int64
	apply := func(ms int64, value []byte) {
		b.Apply(next, ms, value)
		next++
	}
	kindOf := func(value []byte) string {
		var h book.Header
		_ = json.Unmarshal(value, &h)
		return h.Kind
	}
	var open []byte
	var after []func()
	w.eachChange(until, func(offset, ms int64, value []byte) {
		frontier = max(frontier, ms)
		kind := kindOf(value)
		early := len(kinds) == 0 || slices.Contains(kinds, kind)
		switch {
		case kind == "open":
			open = value
		case open == nil || early:
			if changed := rewrite(offset, kind, value); changed != nil {
				value = changed
			}
			apply(ms, value)
		default:
			after = append(after, func() { apply(ms, value) })
		}
	})
	if open != nil {
		apply(0, open)
	}
	for _, f := range after {
		f()
	}
	apply(frontier, heartbeat)
	return b.Book()
}

// replayDirectly makes entries of replays by itself, each by what the book says now, instead of having the book decide.
func replayDirectly(o *operators, records []book.Record) (rest []book.Record) {
	w := o.w
	for _, r := range records {
		if _, is := r.(*book.Replay); !is {
			rest = append(rest, r)
			continue
		}
		value, err := book.Encode(r)
		if err != nil {
			panic(err)
		}
		b := book.NewBuilder()
		until := w.log("book", 0).end
		w.eachChange(until, func(offset, ms int64, value []byte) { b.Apply(offset, ms, value) })
		var e entry.Entry
		if d := b.Apply(until, w.nowMs, value); !d.Accepted {
			continue
		}
		shard, _ := b.Book().Entry(until, value, &e)
		var block entry.Block
		block.Reset(entry.Source{}, entry.None)
		e.Position = entry.Position{}
		block.Add(&e)
		w.produce(w.log("entries", shard), block.AppendTo(nil))
	}
	return rest
}
