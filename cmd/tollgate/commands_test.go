package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/book"
)

// operator is who types commands: with a config, and expectations.
type operator struct {
	*testing.T
	config string
}

// does runs a command that must work, and gives what it printed: one JSON value a line.
func (o operator) does(args ...string) (values []map[string]any) {
	o.Helper()
	r := command(o.T, "", append([]string{"--config", o.config}, args...)...)
	fine(o.T, r)
	for line := range strings.Lines(r.out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			o.Fatalf("not a line of JSON: %q", line)
		}
		values = append(values, v)
	}
	return values
}

// fails runs a command that must fail: soon, with the status, and with one line that holds the words.
func (o operator) fails(status int, words string, args ...string) {
	o.Helper()
	o.clear(command(o.T, "", append([]string{"--config", o.config}, args...)...), status, words)
}

func (o operator) clear(r result, status int, words string) {
	o.Helper()
	if r.status != status || !strings.Contains(r.err, words) {
		o.Errorf("status %d, want %d, with %q in it: %s", r.status, status, words, r.err)
	}
	if strings.Count(strings.TrimSpace(r.err), "\n") > 0 || !strings.HasPrefix(r.err, "tollgate: ") {
		o.Errorf("not one line that begins with tollgate: %q", r.err)
	}
	if r.took > 10*time.Second {
		o.Errorf("it took %s", r.took)
	}
}

// shows runs a command that prints one value, and compares some of its fields.
func (o operator) shows(want map[string]any, args ...string) map[string]any {
	o.Helper()
	values := o.does(args...)
	if len(values) != 1 {
		o.Fatalf("%d values instead of one", len(values))
	}
	for name, w := range want {
		if got := values[0][name]; fmt.Sprint(got) != fmt.Sprint(w) {
			o.Errorf("%s is %v, want %v", name, got, w)
		}
	}
	return values[0]
}

func TestCommands(t *testing.T) {
	in := newInstallation(t, options{sources: []source{{topic: "carrier.own", partitions: 1}}, unopened: true,
		parts: []local.Part{local.Redis, local.EmbeddedKafka, local.ClickHouse}})
	o := operator{t, in.configFile("commands", nil)}
	book := filepath.Join(in.dir, "plain.yml")
	in.must(os.WriteFile(book, []byte(plainBook), 0o600))

	o.fails(exitFailed, "tollgate migrate", "account", "list")
	o.fails(exitFailed, "tollgate migrate", "serve")
	openingCommands(o, in.dir, book)
	all := in.serve("tollgate", nil, nil)
	all.awaitMetric(time.Minute, 4, "tollgate_debit_loads_total")

	t.Run("accounts", func(t *testing.T) { accountCommands(operator{t, o.config}, in) })
	t.Run("imports", func(t *testing.T) { importCommands(operator{t, o.config}, in) })
	t.Run("numbers", func(t *testing.T) { numberCommands(operator{t, o.config}) })
	t.Run("tariffs", func(t *testing.T) { tariffCommands(operator{t, o.config}, in.dir) })
	t.Run("shards", func(t *testing.T) { shardCommands(operator{t, o.config}, in, all) })
	t.Run("proofs", func(t *testing.T) { proofCommands(operator{t, o.config}, in) })
	all.stop()
}

// openingCommands open the installation by a book file that is not right at first.
func openingCommands(o operator, dir, book string) {
	torn := filepath.Join(dir, "torn.yml")
	if err := os.WriteFile(torn, []byte(strings.Replace(plainBook, "currency: USD, plan: plain, zone: UTC", "currency: USD, plan: plane, zone: UTC", 1)), 0o600); err != nil {
		o.Fatal(err)
	}
	for range 2 {
		o.fails(exitRefused, `mend the file and run this again: line 15: account 2: there is no plan "plane"`, "migrate", "--shards", "4", "--book", torn)
	}
	o.fails(exitFailed, "tollgate migrate", "account", "list")
	for range 2 {
		o.does("migrate", "--shards", "4", "--book", book)
	}
	o.fails(exitRefused, "line 15: account 2 is open already", "import", torn)
	o.shows(map[string]any{"accepted": 0, "unchanged": 8, "refused": 0}, "import", book)
}

// importCommands set something back and forth by book files, and by migrating again.
func importCommands(o operator, in *installation) {
	file := func(text string) string {
		path := filepath.Join(in.dir, "more.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			o.Fatal(err)
		}
		return path
	}
	for _, value := range []string{"3", "4", "3"} {
		path := file("params: [{param: attempts, value: " + value + "}]\n")
		o.shows(map[string]any{"accepted": 1, "unchanged": 0, "refused": 0}, "import", path)
		o.shows(map[string]any{"accepted": 0, "unchanged": 1, "refused": 0}, "import", path)
	}
	path := file("params: [{param: attempts, value: 9}, {param: grace-ms, value: 600000}]\n")
	o.fails(exitRefused, "line 1: the book says otherwise by now", "migrate", "--book", path)
	o.shows(map[string]any{"accepted": 1, "unchanged": 1, "refused": 0}, "import", path)
	o.does("migrate", "--book", path)
	in.must(in.app.readBook(in.Context())) // rows that nobody activated must not come into force with a file that has others
	_, err := in.app.decide(in.Context(), &book.AddRows{Header: book.Header{ID: "left"}, Tariff: "plain", Revision: "left", Currency: "USD",
		Rows: []book.Row{{Service: "message-in", Segment: "7"}}})
	in.must(err)
	o.fails(exitRefused, "rows of it were refused", "import",
		file("tariffs: [{tariff: plain, revision: left, currency: USD, rows: [{service: message-in, segment: 0.02}]}]\n"))
	o.fails(exitUsage, "use 1 to 100000", "import", file("params: [{param: results-kept, value: 100001}]\n"))
}

func accountCommands(o operator, in *installation) {
	in.balance(1, "100.")
	o.shows(map[string]any{"account": 1, "status": "active", "balance": "100.00", "threshold": "5.00", "zone": "America/New_York"}, "account", "show", "1")
	o.shows(map[string]any{"account": 1}, "account", "show", "+12125550100")
	for range 2 { // the same key opens one account, and the same answer comes again
		o.shows(map[string]any{"account": 3, "currency": "USD", "plan": "plain"},
			"account", "open", "--currency", "USD", "--plan", "plain", "--balance", "7.5", "--key", "first-customer")
	}
	o.fails(exitRefused, "another request", "account", "open", "--currency", "USD", "--plan", "plain", "--balance", "8", "--key", "first-customer")
	o.fails(exitRefused, "no plan", "account", "open", "--currency", "USD", "--plan", "none", "--key", "second-customer")
	o.fails(exitRefused, "no plan", "account", "open", "--currency", "USD", "--plan", "none", "--key", "second-customer")
	in.balance(3, "7.5")
	o.shows(map[string]any{"threshold": "2.00", "recharge_to": "30.00"}, "account", "set", "3", "--threshold", "2", "--recharge-to", "30")
	o.shows(map[string]any{"zone": "UTC"}, "account", "set", "3", "--plan", "plain")
	if n := len(o.does("account", "list")); n != 3 {
		o.Errorf("%d accounts are listed", n)
	}
	for range 2 { // the same key credits once
		o.shows(map[string]any{"result": "applied", "amount": "12.50", "balance": "20.00"}, "topup", "3", "12.50", "--key", "invoice-4711")
	}
	in.balance(3, "20.")
	o.fails(exitRefused, "another request", "topup", "3", "13", "--key", "invoice-4711")
	o.shows(map[string]any{"result": "applied", "balance": "19.00"}, "topup", "3", "--note", "a mistake", "--", "-1")
	o.fails(exitUsage, "--note", "topup", "3", "0")
	o.fails(exitNotFound, "99", "account", "show", "99")
	o.fails(exitUsage, "12,5", "topup", "3", "12,5")
	o.fails(exitRefused, "no plan", "account", "open", "--currency", "USD", "--plan", "nothing")
}

func numberCommands(o operator) {
	o.shows(map[string]any{"account": 1}, "number", "assign", "+12125550111", "1")
	o.fails(exitRefused, "+12125550111", "number", "assign", "+12125550111", "2")
	if n := len(o.does("number", "list", "1")); n != 2 {
		o.Errorf("%d numbers of account 1 are listed", n)
	}
	o.does("number", "release", "+12125550111")
	o.shows(map[string]any{"account": 2}, "number", "assign", "+12125550111", "2")
	o.fails(exitRefused, "+12125550111", "number", "assign", "+12125550111", "1", "--key", "mistaken")
	o.does("number", "release", "+12125550111")
	o.fails(exitRefused, "when it came first: +12125550111 is account 2's", "number", "assign", "+12125550111", "1", "--key", "mistaken")
	o.fails(exitRefused, "another request", "number", "assign", "+12125550111", "2", "--key", "mistaken")
	first := o.shows(map[string]any{"account": 1}, "number", "assign", "+12125550111", "1", "--key", "wanted")
	o.shows(map[string]any{"account": 1, "repeated": true, "effective": first["effective"]}, "number", "assign", "+12125550111", "1", "--key", "wanted")
	if n := len(o.does("number", "list")); n != 5 {
		o.Errorf("%d ownerships are listed", n)
	}
	o.fails(exitUsage, "tomorrow", "number", "assign", "+12125550112", "1", "--from", "tomorrow")
}

func tariffCommands(o operator, dir string) {
	deck := filepath.Join(dir, "deck.csv")
	text := "service,prefix,rate,per_seconds,initial,increment,segment\nvoice-in,1,0.06,60,60,60,\nmessage-in,1,,,,,0.02\n"
	if err := os.WriteFile(deck, []byte(text), 0o600); err != nil {
		o.Fatal(err)
	}
	o.shows(map[string]any{"rows": 2}, "tariff", "check", deck)
	o.shows(map[string]any{"kind": "tariff"}, "tariff", "import", "plain", deck)
	o.shows(map[string]any{"repeated": true}, "tariff", "import", "plain", deck)
	if n := len(o.does("tariff", "list")); n != 2 {
		o.Errorf("%d versions are listed", n)
	}
	dearer := filepath.Join(dir, "dearer.csv")
	if err := os.WriteFile(dearer, []byte(strings.ReplaceAll(text, ",0.", ",1.")), 0o600); err != nil {
		o.Fatal(err)
	}
	o.shows(map[string]any{"kind": "tariff"}, "tariff", "import", "plain", dearer)
	for _, again := range []any{nil, true} { // the earlier prices come into force again, and stay so
		o.shows(map[string]any{"kind": "tariff", "repeated": again}, "tariff", "import", "plain", deck)
	}
	if versions := o.does("tariff", "list"); len(versions) != 4 || versions[3]["revision"] == versions[1]["revision"] {
		o.Errorf("the versions are %v", versions)
	}
	o.shows(map[string]any{"kind": "tariff"}, "tariff", "import", "plain", dearer, "--revision", "dearer")
	o.shows(map[string]any{"kind": "tariff", "repeated": true}, "tariff", "import", "plain", dearer, "--revision", "dearer")
	o.fails(exitRefused, `revision "dearer" of tariff "plain" was activated already`, "tariff", "import", "plain", deck, "--revision", "dearer")
	o.shows(map[string]any{"kind": "tariff"}, "tariff", "import", "plain", deck)
	if err := os.WriteFile(deck, []byte(text+"voice-in,1a,0.05,60,60,60,\n"), 0o600); err != nil {
		o.Fatal(err)
	}
	o.fails(exitRefused, "line 4", "tariff", "check", deck)
	o.fails(exitUsage, "absent.csv", "tariff", "check", filepath.Join(dir, "absent.csv"))
	o.shows(map[string]any{"topic": "carrier.own", "format": "tollgate"}, "format", "list")
	o.fails(exitUsage, "morse", "format", "set", "carrier.own", "morse")
}

func shardCommands(o operator, in *installation, all *service) {
	if n := len(o.does("shard", "inspect")); n != 4 {
		o.Errorf("%d shards are listed", n)
	}
	shard := fmt.Sprint(in.app.follower.Book().Shard(1))
	o.does("shard", "halt", shard, "--reason", "we look at something")
	halted := o.shows(map[string]any{"state": "halted"}, "shard", "inspect", shard)
	if !strings.Contains(fmt.Sprint(halted["reason"]), "we look at something") {
		o.Errorf("the reason is %v", halted["reason"])
	}
	if f := o.doctor(exitFailed)["shards"]; f.State != bad || !strings.Contains(f.Advice, "we look at something; `tollgate shard resume "+shard) {
		o.Errorf("doctor says of the shards: %+v", f)
	}
	in.await(time.Minute, "the service says that it waits", func() (bool, string) {
		log, err := os.ReadFile(all.logFile)
		in.must(err)
		if strings.Contains(string(log), "BUG") {
			o.Errorf("it says BUG of what an operator wants")
		}
		return strings.Contains(string(log), "an operator halted it") && strings.Contains(string(log), "we look at something"), tail(all.logFile)
	})
	in.formatted("carrier.own")
	in.say("carrier.own", 0, call("waits", func(r *record) { r.Start = time.Now().UnixMilli() })) // later than its number got an owner
	o.does("shard", "resume", shard, "--reason", "all is well")
	resumed := o.shows(map[string]any{"state": "running", "accounts": 1}, "shard", "inspect", shard)
	if !strings.Contains(fmt.Sprint(resumed["history"]), "all is well") {
		o.Errorf("the history is %v", resumed["history"])
	}
	o.fails(exitNotFound, "4711", "shard", "inspect", "4711")
	in.charged("waits")
}

func proofCommands(o operator, in *installation) {
	in.rated(time.Minute)
	o.shows(map[string]any{"differences": 0, "accounts": 3, "records": 1}, "verify")
	if r := command(o.T, "", "statement", "1", "--config", o.config); r.status != exitOK || !strings.Contains(r.out, "0.06") {
		o.Errorf("the statement does not show the call for 0.06")
	}
	o.does("doctor")
	if r := command(o.T, "", "replay", "--config", o.config); r.status != exitOK || r.out != "" {
		o.Errorf("there are dead letters: %s", r.out)
	}
}

// TestClearFailures demands one line that says what to do, soon, for everything that people get wrong first.
func TestClearFailures(t *testing.T) {
	dir := t.TempDir()
	config := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nobody := "kafka: {brokers: [\"127.0.0.1:1\"]}\nredis: {addresses: [\"127.0.0.1:1\"]}\nclickhouse: {addresses: [\"127.0.0.1:1\"]}\n"
	o := operator{t, config("nobody.yml", nobody)}
	for _, args := range [][]string{{"serve"}, {"migrate"}, {"verify"}, {"account", "list"}, {"topup", "1", "5"}, {"statement", "1"}} {
		o.fails(exitFailed, "127.0.0.1:1", args...)
	}
	if r := command(t, "", "doctor", "--config", o.config); r.status != exitFailed || strings.Count(r.out, `"bad"`) < 3 || r.took > 10*time.Second {
		t.Errorf("doctor does not say that all three servers are missing within 10 s (status %d, %s)", r.status, r.took)
	}
	for text, words := range map[string]string{
		"kafka: {broker: x}\n": "broker", "rate: {loops: many}\n": "loops", "rate: {loops: 0}\n": "rate.loops",
		"stages: [rate, debits]\n": "debits", "store: {insert_every: soon}\n": "insert_every", "a: [\n": "config",
	} {
		operator{t, config("wrong.yml", text)}.fails(exitUsage, words, "serve")
	}
	operator{t, filepath.Join(dir, "absent.yml")}.fails(exitUsage, "absent.yml", "serve")
	o.clear(command(t, "", "serf"), exitUsage, "serf")
	o.clear(command(t, "", "verify", "--wiat", "1s"), exitUsage, "--wiat")
}

// TestWithoutServer shows the two commands that need none.
func TestWithoutServer(t *testing.T) {
	book := filepath.Join(t.TempDir(), "book.yml")
	if err := os.WriteFile(book, []byte(plainBook), 0o600); err != nil {
		t.Fatal(err)
	}
	records := call("a") + "\n" + call("b", func(r *record) { r.To = "+16465550199" }) + "\n{\"id\":7}\n"
	r := command(t, records, "rate", "--format", "tollgate", "--book", book)
	fine(t, r)
	for i, words := range []string{`"charge":"0.06"`, `"reason":"unknown-number"`, `"reason":"undecodable"`} {
		if lines := strings.Split(r.out, "\n"); len(lines) < 3 || !strings.Contains(lines[i], words) {
			t.Errorf("line %d has no %s", i, words)
		}
	}
	o := operator{T: t}
	decoded := command(t, call("a"), "decode", "--format", "tollgate")
	fine(t, decoded)
	if !strings.Contains(decoded.out, "12125550100") {
		t.Errorf("the number is not shown")
	}
	o.clear(command(t, "{", "decode", "--format", "tollgate"), exitRefused, "refused")
	o.clear(command(t, "{", "decode", "--format", "morse"), exitUsage, "morse")
	o.clear(command(t, "{", "rate", "--format", "tollgate"), exitUsage, "book")
	o.clear(command(t, "{", "rate", "--format", "tollgate", "--book", "absent.yml"), exitUsage, "absent.yml")
	for text, words := range map[string]string{
		"accounts:\n- {account: 1, currenzy: USD}\n": `line 2: unknown field "currenzy"`, "accounts: 7\n": "line 1: int was used where sequence is expected",
		"accounts:\n- {account: [1]}\n": "line 2: a single text or number is wanted here", "accounts: [\n": "line 1: sequence end",
	} {
		if err := os.WriteFile(book, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o.clear(command(t, "{", "rate", "--format", "tollgate", "--book", book), exitUsage, words)
	}
}
