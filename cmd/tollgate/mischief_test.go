package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/rater/stream"
)

// plainBook is a small book: a minute of inbound calls is 0.06, and a message 0.01; outbound calls go to America only.
const plainBook = `tariffs:
  - tariff: plain
    revision: first
    currency: USD
    rows:
      - {service: voice-in, prefix: 1, rate: 0.06, per_seconds: 60, initial: 60, increment: 60}
      - {service: voice-out, prefix: 1, rate: 0.03, per_seconds: 60, initial: 60, increment: 60}
      - {service: message-in, prefix: 1, segment: 0.01}
plans:
  - {plan: plain, currency: USD, tariff: plain}
formats:
  - {topic: carrier.own, format: tollgate, version: 1, source: own}
accounts:
  - {account: 1, currency: USD, plan: plain, zone: America/New_York, balance: 100, threshold: 5, numbers: [+12125550100]}
  - {account: 2, currency: USD, plan: plain, zone: UTC, balance: 20, threshold: 5, numbers: [+13105550100]}
`

// record is a carrier record of Tollgate's own format.
type record struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Direction string `json:"direction"`
	From      string `json:"from"`
	To        string `json:"to"`
	Start     int64  `json:"start"`
	Duration  int    `json:"duration"`
}

// call is an inbound call of account 1 that lasted a minute and ended just now. It costs 0.06.
func call(id string, changes ...func(*record)) string {
	r := record{id, "call", "inbound", "+14155550123", "+12125550100", time.Now().Add(-time.Minute).UnixMilli(), 60}
	for _, change := range changes {
		change(&r)
	}
	text, _ := json.Marshal(r) // of strings and numbers: it cannot fail
	return string(text)
}

func hoursAgo(n int) func(*record) {
	return func(r *record) { r.Start -= int64(n) * time.Hour.Milliseconds() }
}

func zipped(text string) string {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	_, _ = zip.Write([]byte(text)) // into memory: it cannot fail
	_ = zip.Close()
	return b.String()
}

// say writes messages to a partition of a carrier topic, as they are.
func (in *installation) say(topic string, partition int32, messages ...string) {
	in.Helper()
	producer := in.app.kafka.NewProducer()
	for _, m := range messages {
		in.must(producer.Append(topic, partition, nil, []byte(m)))
	}
	in.must(producer.Send(in.Context()))
}

// charged waits until exactly these records are charged, once each, and nothing else is.
func (in *installation) charged(ids ...string) {
	in.Helper()
	in.counted(time.Minute, uint64(len(ids)), "records charged", "SELECT count() FROM rated_records FINAL WHERE result = 'charged' AND has(?, record_id)", ids)
	in.counted(time.Minute, uint64(len(ids)), "charges in all", "SELECT count() FROM rated_records FINAL WHERE result = 'charged'")
}

// rejected waits until so many dead letters have the reason, in the table and in the metric.
func (in *installation) rejected(s *service, reason string, n int) {
	in.Helper()
	in.counted(time.Minute, uint64(n), "dead letters, "+reason, "SELECT count() FROM dead_letters FINAL WHERE result = 'rejected' AND reason = ?", reason)
	if counted := s.metric("tollgate_rate_rejected_total", `reason="`+reason+`"`); counted != float64(n) {
		in.Errorf("tollgate_rate_rejected_total counts %.0f of %s", counted, reason)
	}
}

// balance waits until an account has the balance.
func (in *installation) balance(account uint32, want string) {
	in.Helper()
	in.must(in.app.readBook(in.Context()))
	in.await(time.Minute, fmt.Sprintf("balance of account %d", account), func() (bool, string) {
		state, err := in.app.live(in.Context(), account)
		if err != nil || state == nil {
			return false, fmt.Sprint("unknown: ", err)
		}
		text := in.app.follower.Book().Account(account).Currency.Format(state.BalanceUnits)
		return strings.TrimRight(text, "0") == want, text + " of " + want
	})
}

// formatted waits until what is written to a topic now is read by its format: that is one of two seconds ago.
func (in *installation) formatted(topic string) {
	in.Helper()
	in.await(time.Minute, "the format of "+topic+" holds", func() (bool, string) {
		in.must(in.app.readBook(in.Context()))
		b := in.app.follower.Book()
		f, _ := b.FormatAt(topic, b.FrontierMs())
		return f != nil, fmt.Sprint(f)
	})
}

func TestCarrierMischief(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, sources: []source{{topic: "carrier.own", partitions: 3}}})
	in.must(in.app.makeCarrierTopic(t.Context(), "carrier.fresh", 1))
	all := in.serve("tollgate", nil, nil)
	config := in.configFile("commands", nil)

	t.Log("copies, out of order, on other partitions")
	old, first := call("old", hoursAgo(3)), call("first")
	in.say("carrier.own", 0, first, first, old)
	in.say("carrier.own", 1, old, first)
	t.Log("several records in one message")
	a, b, c, d, e, f, g, h := call("a"), call("b"), call("c"), call("d"), call("e"), call("f"), call("g"), call("h")
	in.say("carrier.own", 0, "["+a+","+b+","+a+"]", c+"\n"+d+"\n", zipped(e+"\n"+c), zipped("["+f+", "+g+"]"), h)
	in.charged("old", "first", "a", "b", "c", "d", "e", "f", "g", "h")
	in.balance(1, "99.4")

	t.Log("records that cannot be rated, with good ones between and behind them")
	unknown := call("unknown", func(r *record) { r.To = "+16465550199" })
	priceless := call("priceless", func(r *record) { r.Direction, r.From, r.To = "outbound", "+12125550100", "+442071234567" })
	absurd := call("absurd", func(r *record) { r.Duration = 100_000 })
	ahead := call("ahead", func(r *record) { r.Start += 10 * time.Minute.Milliseconds() })
	in.say("carrier.own", 2, `{"id":"torn`, call("i"), "["+call("j")+`,{"id":5},`+call("k")+"]", "<html>502 Bad Gateway</html>",
		zipped(strings.Repeat("x", 40<<20)), // more than Kafka takes in one message, once it is unpacked
		unknown, call("l"), priceless, absurd, ahead, call("m"))
	in.charged("old", "first", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m")
	for reason, n := range map[string]int{"undecodable": 4, "unknown-number": 1, "no-price": 1, "out-of-bounds": 1, "too-far-ahead": 1, "no-format": 0} {
		in.rejected(all, reason, n)
	}
	in.balance(1, "99.1")

	t.Log("a topic that gets its format only after its first records")
	cut := strings.Repeat(call("cut")+"\n", 1<<20/len(call("cut"))+1) // more than is kept of a dead letter
	in.say("carrier.fresh", 0, call("early"), call("earlier"), "["+call("whole-1")+","+call("whole-2")+"]", cut)
	fine(t, command(t, "", "format", "set", "carrier.fresh", "tollgate", "--config", config))
	in.rejected(all, "no-format", 4)
	in.formatted("carrier.fresh")
	in.say("carrier.fresh", 0, call("early"))
	in.balance(1, "99.04")
	in.charged("old", "first", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "early")

	t.Log("nothing was mended: a replay changes nothing but for the topic that has a format now")
	replay := func(replayed int, args ...string) { replays(t, config, replayed, args...) }
	for range 3 { // each run goes on where the last ended: "early" was charged, "earlier" and both of one message are replayed
		replay(1, "--limit", "1")
	}
	replay(0)
	in.balance(1, "98.86")

	mend(in, config)
	replay(2, "--reason", "unknown-number,no-price", "--account", "2")
	in.balance(1, "98.36")
	in.balance(2, "19.94")
	replay(0, "--reason", "unknown-number,no-price", "--account", "2")
	replay(0)
	in.say("carrier.fresh", 0, call("earlier")) // a copy
	in.say("carrier.own", 0, call("last"))
	in.charged("old", "first", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "early", "earlier", "whole-1", "whole-2", "unknown", "priceless", "last")
	in.balance(1, "98.3")
	in.balance(2, "19.94")
	in.rated(time.Minute)
	if report := in.verify(); report.Differences != 0 {
		t.Errorf("%s", report)
	}
	all.stop()
}

// replays has dead letters replayed, and demands that as many records were. Of all of them, one is a message that was cut.
func replays(t *testing.T, config string, replayed int, args ...string) {
	t.Helper()
	r := command(t, "", append([]string{"replay", "--config", config}, args...)...)
	fine(t, r)
	if n := strings.Count(r.out, `"verdict":"replayed for account`); n != replayed {
		t.Errorf("%d records were replayed, want %d: %s", n, replayed, r.out)
	}
	if len(args) == 0 && !strings.Contains(r.out, "all of it is in carrier.fresh[0] at offset 3") {
		t.Errorf("it is not said that a message was cut: %s", r.out)
	}
}

// mend gives the unknown number an owner, and the tariff a price for calls to Great Britain.
func mend(in *installation, config string) {
	in.Helper()
	rates := filepath.Join(in.dir, "rates.csv")
	in.must(os.WriteFile(rates, []byte("service,prefix,rate,per_seconds,initial,increment,segment\nvoice-in,1,0.06,60,60,60,\n"+
		"voice-out,1,0.03,60,60,60,\nvoice-out,44,0.50,60,60,60,\nmessage-in,1,,,,,0.01\n"), 0o600))
	fine(in.T, command(in.T, "", "number", "assign", "+16465550199", "2", "--config", config))
	fine(in.T, command(in.T, "", "tariff", "import", "plain", rates, "--config", config))
	r := command(in.T, "", "replay", "--dry-run", "--config", config)
	if fine(in.T, r); !strings.Contains(r.out, "unknown") || !strings.Contains(r.out, "priceless") {
		in.Errorf("a dry run does not show the dead letters")
	}
}

// TestUnstampedTopic has a topic whose times are the producer's: an alarm, but no stop, and no record is lost.
func TestUnstampedTopic(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, sources: []source{{topic: "carrier.own", partitions: 1}}})
	_, err := in.app.kafka.EnsureTopic(t.Context(), stream.TopicSpec{Name: "carrier.unstamped", Partitions: 1, Replication: 1,
		Configs: map[string]string{"message.timestamp.type": "CreateTime"}})
	in.must(err)
	all := in.serve("tollgate", nil, nil)
	config := in.configFile("commands", nil)
	fine(t, command(t, "", "format", "set", "carrier.unstamped", "tollgate", "--config", config))
	if r := command(t, "", "doctor", "--config", config); r.status == exitOK || !strings.Contains(r.out, "LogAppendTime") {
		t.Errorf("doctor does not warn of the topic")
	}
	in.formatted("carrier.unstamped")
	in.say("carrier.unstamped", 0, call("unstamped"))
	in.say("carrier.own", 0, call("stamped"))
	in.charged("stamped", "unstamped")
	all.awaitMetric(time.Second, 1, "tollgate_rate_unstamped_total")
	all.stop()
}

// fine demands that a command worked.
func fine(t *testing.T, r result) {
	t.Helper()
	if r.status != exitOK {
		t.Fatalf("status %d: %s", r.status, r.err)
	}
}
