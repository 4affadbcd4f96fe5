package book

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Changes gives the records of a file that the log does not say yet, in the order of Records. What the log has accepted
// about the same account, number, plan, parameter, topic, tariff or chunk is compared with what the file says of it, byte
// by byte: where the log's last words are the file's first, only those that follow are left. So the same file again
// changes nothing, and a file that sets something back to what it was before takes effect.
//
// The id of a change names its words and the state of the log that it was made for. So two that import the same file at
// the same time, or one that tries again, decide it once; and what was refused is decided anew as soon as anything else
// was decided. It begins with importID, at most MaxImportIDBytes long.
func (b *Builder) Changes(f *File, importID string) ([]FileRecord, error) {
	subjects := make([]string, len(f.records))
	hashes := make([]uint64, len(f.records))
	file, log := map[string]*words{}, map[string]*words{}
	for i, r := range f.records {
		subjects[i], hashes[i] = subject(r.Record, 0), wordsOf(r.Record)
		if file[subjects[i]] == nil {
			file[subjects[i]], log[subjects[i]] = &words{}, &words{}
		}
		file[subjects[i]].add(hashes[i])
	}
	if err := b.listen(log); err != nil {
		return nil, err
	}
	var changes []FileRecord
	said := make(map[string]int, len(file)) // words of the file so far
	for i, r := range f.records {
		about := subjects[i]
		if n := said[about]; n > 0 && (*file[about])[n-1] == hashes[i] {
			continue // it stands in the file twice
		}
		said[about]++
		known := log[about].overlap(*file[about])
		if said[about] <= known {
			continue
		}
		r.Record.header().ID = fmt.Sprintf("%s:%s:%016x:%d", importID, r.Record.kind(), hashes[i], b.journal.total)
		r.Replaces = known == 0 && len(*log[about]) > 0
		changes = append(changes, r)
	}
	return changes, nil
}

// listen adds what the log has accepted about each subject that the map has.
func (b *Builder) listen(log map[string]*words) error {
	return b.decideAgain(func(value []byte, d Decision) error {
		if !d.Accepted {
			return nil
		}
		r, err := decodeRecord(value)
		if err != nil {
			return err
		}
		if said := log[subject(r, d.Account)]; said != nil {
			said.add(wordsOf(r))
		}
		return nil
	})
}

// Changes is Builder.Changes for what the Follower has read.
func (f *Follower) Changes(file *File, importID string) ([]FileRecord, error) {
	return f.builder.Changes(file, importID)
}

// words are what was said of one thing, in order, each as its hash. To say the same once more says nothing.
type words []uint64

func (w *words) add(hash uint64) {
	if n := len(*w); n == 0 || (*w)[n-1] != hash {
		*w = append(*w, hash)
	}
}

// overlap is how many of the last words are the first of the others.
func (w *words) overlap(others words) int {
	n := min(len(*w), len(others))
	for !slices.Equal((*w)[len(*w)-n:], others[:n]) {
		n--
	}
	return n
}

// wordsOf hashes all that a record says, its id aside.
func wordsOf(r Record) uint64 {
	h := r.header()
	id := h.ID
	h.Version, h.Kind, h.ID = RecordVersion, r.kind(), ""
	text, err := json.Marshal(r)
	h.ID = id
	if err != nil {
		panic(fmt.Sprintf("BUG: a record of type %T cannot be written: %v", r, err))
	}
	return xxhash.Sum64(text)
}

// subject names what a record is about: of all records on one subject, the newer ones replace the older. "" is nothing
// that a file speaks of. The account is that of the Decision, for records that leave it to the log.
func subject(r Record, account uint32) string {
	switch r := r.(type) {
	case *AddRows:
		return fmt.Sprintf("rows:%q:%q:%d", r.Tariff, r.Revision, r.Chunk)
	case *ActivateTariff:
		return "tariff:" + r.Tariff
	case *AddPlan:
		return "plan:" + r.Plan
	case *SetFormat:
		return "format:" + r.Topic
	case *OpenAccount:
		if r.Account != 0 {
			account = r.Account
		}
		return "account:" + strconv.FormatUint(uint64(account), 10)
	case *AssignNumber:
		return "number:" + r.Number
	case *ReleaseNumber:
		return "number:" + r.Number
	case *SetParam:
		return "param:" + r.Param
	}
	return ""
}
