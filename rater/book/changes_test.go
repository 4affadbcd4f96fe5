package book

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// importer imports book files into a log, as commands do.
type importer struct {
	*testing.T
	b       *Builder
	refused []string
}

func newImporter(t *testing.T) *importer { return &importer{T: t, b: NewBuilder()} }

func fileOf(t testing.TB, text string) *File {
	t.Helper()
	file, err := LoadFile(fstest.MapFS{"book.yml": {Data: []byte(text)}}, "book.yml")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// apply has the log decide a record, a second after the one before.
func (i *importer) apply(r Record) Decision {
	i.Helper()
	value, err := Encode(r)
	if err != nil {
		i.Fatal(err)
	}
	return i.b.Apply(i.b.Offset(), startMs+1000*i.b.Offset(), value)
}

// do imports a file, and gives how many records were written and accepted.
func (i *importer) do(file *File) (written, accepted int) {
	i.Helper()
	i.refused = nil
	changes, err := i.b.Changes(file, "import")
	if err != nil {
		i.Fatal(err)
	}
	for _, c := range changes {
		if d := i.apply(c.Record); d.Accepted {
			accepted++
		} else if d.Refusal != "" {
			i.refused = append(i.refused, fmt.Sprintf("line %d: %s", c.Line, d.Refusal))
		}
	}
	return len(changes), accepted
}

// does imports a file, all of whose changes must be accepted.
func (i *importer) does(text string, want int) {
	i.Helper()
	if written, accepted := i.do(fileOf(i, text)); written != want || accepted != want {
		i.Fatalf("%d records were written and %d accepted, want %d: %q", written, accepted, want, i.refused)
	}
}

// refuses imports a file of which something must be refused.
func (i *importer) refuses(text, why string) {
	i.Helper()
	if i.do(fileOf(i, text)); len(i.refused) != 1 || !strings.Contains(i.refused[0], why) {
		i.Fatalf("refused is %q, want %q", i.refused, why)
	}
}

const (
	importTariff = "tariffs:\n- {tariff: std, revision: one, currency: USD, rows: [{service: message-in, segment: 0.01}]}\n"
	importPlan   = importTariff + "plans:\n- {plan: basic, currency: USD, tariff: std}\n"
)

func importAccount(plan string) string {
	return importPlan + "accounts:\n- {account: 1001, currency: USD, plan: " + plan + ", zone: UTC, balance: 50, numbers: [+12125550100]}\n"
}

// The same file again, in whole or in part, changes nothing, before the installation is open and after.
func TestAnImportCountsOnce(t *testing.T) {
	file, err := LoadFile(os.DirFS("testdata"), "example.yml")
	if err != nil {
		t.Fatal(err)
	}
	i := newImporter(t)
	for round, want := range []int{len(file.Records()), 0, 0} {
		if written, accepted := i.do(file); written != want || accepted != want {
			t.Errorf("round %d: %d written, %d accepted, want %d: %q", round, written, accepted, want, i.refused)
		}
		if round == 1 {
			i.apply(&Open{Header: Header{ID: "open"}, Installation: "i", Shards: 4})
		}
	}
	restored, err := Restore(i.b.Image())
	if err != nil {
		t.Fatal(err)
	}
	if changes, err := restored.Changes(file, "import"); err != nil || len(changes) != 0 {
		t.Errorf("after an image %d records are to be written: %v", len(changes), err)
	}
}

// Two that import at the same time, and one that does not know whether it was heard, decide each record once.
func TestAnImportThatIsSentTwice(t *testing.T) {
	i := newImporter(t)
	file, same := fileOf(t, importAccount("basic")), fileOf(t, importAccount("basic"))
	first, err := i.b.Changes(file, "import")
	if err != nil {
		t.Fatal(err)
	}
	second, err := i.b.Changes(same, "import")
	if err != nil || len(second) != len(first) {
		t.Fatal(err)
	}
	for n := range first {
		if d := i.apply(first[n].Record); !d.Accepted {
			t.Errorf("%+v", d)
		}
		if d := i.apply(second[n].Record); !d.Repeated {
			t.Errorf("the second time: %+v", d)
		}
	}
}

// What was refused is decided anew once the file is mended, or what it lacked is there.
func TestAMendedFileCounts(t *testing.T) {
	i := newImporter(t)
	i.do(fileOf(t, importAccount("bsaic")))
	if len(i.refused) != 2 || !strings.Contains(i.refused[0], "bsaic") || i.b.Book().Account(1001) != nil {
		t.Fatalf("refused is %q", i.refused)
	}
	i.does(importAccount("basic"), 2)
	if owner, _ := i.b.Book().Owner(12125550100, startMs); i.b.Book().Account(1001) == nil || owner != 1001 {
		t.Errorf("the account of the mended file is not in the book")
	}

	i = newImporter(t)
	account := "accounts:\n- {account: 7, currency: USD, plan: basic, zone: UTC}\n"
	i.refuses(account, "no plan")
	i.does(importPlan, 3) // somebody else brings the plan
	i.does(account, 1)
}

// A file that says otherwise than the log is never passed over in silence: it takes effect, or it is refused.
func TestAChangedFileTakesEffectOrIsRefused(t *testing.T) {
	i := newImporter(t)
	i.does(importAccount("basic"), 5)
	i.apply(&Open{Header: Header{ID: "open"}, Installation: "i", Shards: 4})
	i.refuses(strings.Replace(importAccount("basic"), "balance: 50", "balance: 60", 1), "line 6: account 1001 is open already")
	i.refuses("plans:\n- {plan: basic, currency: USD, tariff: other}\n", "there is a plan")
	i.refuses("numbers:\n- {number: +12125550100, account: 1001, from: 2030-01-01T00:00:00Z}\n", "release it first")
	i.do(fileOf(t, strings.Replace(importTariff, "0.01", "0.02", 1)))
	if len(i.refused) != 1 || !strings.Contains(i.refused[0], "activated already") {
		t.Errorf("changed prices under the same revision: %q", i.refused)
	}
	i.do(fileOf(t, importTariff+"- {tariff: std, revision: two, currency: USD, rows: [{service: message-in, segment: 0.02}]}\n"))
	if len(i.refused) != 0 {
		t.Errorf("a new revision after the old one: %q", i.refused)
	}
	i.refuses(importTariff, `revision "one" of tariff "std" was activated already`)
}

// What may be set again and again goes back to an earlier value, and each file again changes nothing.
func TestAFileThatSetsSomethingBack(t *testing.T) {
	i := newImporter(t)
	i.does(importAccount("basic"), 5)
	i.apply(&Open{Header: Header{ID: "open"}, Installation: "i", Shards: 4})
	param := func(value int) string { return fmt.Sprintf("params:\n- {param: attempts, value: %d}\n", value) }
	format := func(source string) string {
		return "formats:\n- {topic: calls, format: tollgate, version: 1, source: " + source + "}\n"
	}
	for _, value := range []int{3, 5, 3} {
		i.does(param(value), 1)
		i.does(param(value), 0)
	}
	for _, source := range []string{"a", "b", "a"} {
		i.does(format(source), 1)
		i.does(format(source), 0)
		if f := i.b.Book().format("calls", i.b.Book().FrontierMs()+1); f.SourceName != source {
			t.Errorf("calls are of %q, want %q", f.SourceName, source)
		}
	}
	number := "numbers:\n- {number: +13105550100, account: 1001}\n"
	for n := range 2 {
		i.does(number, 1)
		i.does(number, 0)
		if d := i.apply(&ReleaseNumber{Header: Header{ID: fmt.Sprint("release-", n)}, Number: "+13105550100"}); !d.Accepted {
			t.Fatalf("%+v", d)
		}
	}
}

// A topic or a parameter that a file speaks of several times is brought to the end of its words, and left there.
func TestAFileThatSaysSeveralThingsOfOne(t *testing.T) {
	first := "formats:\n- {topic: calls, format: tollgate, version: 1, source: a}\n"
	later := time.UnixMilli(startMs + 1_000_000).UTC().Format(time.RFC3339)
	both := first + "- {topic: calls, format: tollgate, version: 1, source: b, from: " + later + "}\n"
	i := newImporter(t)
	i.apply(&Open{Header: Header{ID: "open"}, Installation: "i", Shards: 4})
	i.does(first, 1)
	i.does(both, 1)
	i.does(both, 0)
	i.b.Apply(i.b.Offset(), startMs+2_000_000_000, heartbeat) // the second is in force
	i.does(both, 0)
	twice := "params:\n- {param: attempts, value: 3}\n- {param: attempts, value: 3}\n"
	i.does(twice, 1)
	i.does(twice, 0)

	changes, err := i.b.Changes(fileOf(t, first+"params:\n- {param: attempts, value: 4}\n- {param: grace-ms, value: 1}\n"), "import")
	if err != nil || len(changes) != 3 || !changes[0].Replaces || !changes[1].Replaces || changes[2].Replaces {
		t.Errorf("the changes are %+v, %v", changes, err)
	}
	for _, c := range changes {
		if id := c.Record.header().ID; !strings.HasPrefix(id, "import:") || len(id) > MaxIDBytes {
			t.Errorf("the id is %q", id)
		}
	}
}
