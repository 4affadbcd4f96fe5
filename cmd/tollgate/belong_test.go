package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tollgate/tollgate/rater/book"
)

// TestLogsOfAnotherInstallation starts a service under another name on the logs of an installation: it must end at once, for
// under that name the gateway would be asked for the charges of every open recharge again. No command writes there either.
func TestLogsOfAnotherInstallation(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, sources: []source{{topic: "carrier.own", partitions: 1}}})
	o := operator{t, in.configFile("staging", func(c *Config) { c.Installation = "staging" })}
	file := filepath.Join(t.TempDir(), "book.yml")
	in.must(os.WriteFile(file, []byte(plainBook), 0o600))
	written := func() int64 {
		edges, err := in.app.kafka.ListOffsets(t.Context(), in.app.topics.book, []int32{0})
		in.must(err)
		return edges[0].End
	}
	before := written()
	for _, args := range [][]string{{"serve"}, {"migrate", "--book", file}, {"import", file}, {"topup", "1", "5"}, {"number", "release", "+12125550100"}} {
		o.fails(exitRefused, "belong to installation", args...)
	}
	if after := written(); after != before {
		t.Errorf("%d records were written to the book of another installation", after-before)
	}
}

// TestOwnLogsAreNoSources demands that no own log is read as a carrier's, whether a command or a book file asks for it: each
// message would be rejected into entries, and be there to be read again.
func TestOwnLogsAreNoSources(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, sources: []source{{topic: "carrier.own", partitions: 1}}})
	operator{t, in.configFile("commands", nil)}.fails(exitRefused, "own logs", "format", "set", in.app.topics.entries, "tollgate")
	decisions, err := in.app.follower.Decide(t.Context(), &book.SetFormat{Header: book.Header{ID: "loop"}, Topic: in.app.topics.entries,
		Format: "tollgate", FormatVersion: 1, Source: "loop"})
	in.must(err)
	if !decisions[0].Accepted {
		t.Fatalf("the book refuses it: %s", decisions[0].Refusal)
	}
	for _, topic := range in.app.sources() {
		if topic == in.app.topics.entries {
			t.Errorf("%s is read as a carrier's topic", topic)
		}
	}
}
