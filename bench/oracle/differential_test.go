package oracle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exampleBook is the commented book file of the product.
const exampleBook = "../../rater/book/testdata/example.yml"

// values are JSON values of each field of a record: good ones first, then what carriers, proxies and people make of them.
var values = map[string][]string{
	"id":        {`"a-1"`, `"a-2"`, `"\u0061-1"`, `"ü"`, `""`, `"a\nb"`, `"\ud800"`, "\"\xff\"", `5`, `null`, `"` + strings.Repeat("x", 256) + `"`},
	"call":      {`"CA1"`, `"CA2"`, `"SM1"`, `"C"`, `"XX1"`, `null`},
	"text":      {`"SM1"`, `"MM1"`, `"CA1"`, `"SM"`, `null`},
	"cdr":       {`"inbound-cdr"`, `"inbound-cdr"`, `"outbound-cdr"`, `null`},
	"type":      {`"call"`, `"message"`, `"inbound-cdr"`, `"Call"`, `1`},
	"direction": {`"inbound"`, `"outbound"`, `"outbound-api"`, `"INBOUND"`, `null`},
	"twilio":    {`"inbound"`, `"outbound-api"`, `"outbound-dial"`, `"outbound-reply"`, `"outbound-call"`, `"outbound"`, `null`},
	"own": {`"+14155550100"`, `"+18005550199"`, `"4155550100"`, `"1 (415) 555-0100"`, `"00493 0555010"`, `"+4930555010"`, `"+14155550101"`, `"+14155550999"`,
		`"014155550100"`, `"anonymous"`, `""`, `14155550100`, `"\u002b14155550100"`},
	"peer": {`"+13105550177"`, `"+4930123456"`, `"3105550177"`, `"+442071234567"`, `"sip:a@b"`, `""`, `null`, `7`, `"a\tb"`, `"` + strings.Repeat("9", 256) + `"`},
	"start": {`"2026-11-22T10:00:00.123Z"`, `"2026-12-01T00:00:01.999Z"`, `"2026-12-01T00:00:02Z"`, `"2026-11-01T00:00:01Z"`, `"2026-11-01T00:00:02+00:00"`,
		`1795341600123`, `"2026-11-22T10:00:00-08:00"`, `1795341600`, `17953416001.5`, `-5`, `"2026-11-22 10:00:00"`, `"2026-13-01T00:00:00Z"`, `""`, `null`},
	"naive": {`"2026-11-22 10:00:00.123456"`, `"2026-12-01 01:00:01.999"`, `"2026-12-01T01:00:02"`, `null`, `"2026-10-25T02:30:00.5"`, `"2027-03-28T02:30:00"`, `"x"`, `""`, `7`},
	"rfc":   {`"Tue, 01 Dec 2026 00:00:01 +0000"`, `"1 Dec 2026 00:00:02 GMT"`, `"Tue, 24 Nov 2026 10:00:00 -0500"`, `null`, `"2026-11-22T10:00:00Z"`, `"Tue, 31 Nov 2026 10:00:00 +0000"`, `""`},
	"count": {`61`, `0`, `1`, `30`, `"31"`, `36`, `37`, `600`, `86400`, `86401`, `255`, `256`, `-1`, `-0`, `"-0"`, `"007"`, `1.0`, `1e1`, `4294967296`, `"99999999999999999999"`, `""`, `"x"`, `null`, `true`},
	"flag":  {`true`, `false`, `null`, `"true"`},
	"over":  {`"completed"`, `"completed"`, `"no-answer"`, `"failed"`, `"in-progress"`, `"x"`, `null`},
	"sent":  {`"delivered"`, `"received"`, `"sent"`, `"undelivered"`, `"failed"`, `"queued"`, `"x"`, `null`},
	"body":  {`"hello"`, `"` + strings.Repeat("€", 90) + `"`, `"` + strings.Repeat("ж", 200) + `"`, `"` + strings.Repeat("a", 50_000) + `"`, `""`, `null`, `7`},
	"any":   {`{"a":[1,{"b":"}"}]}`, `"{"`, `[[]]`, `0`, `"\\\""`},
}

// fields are the keys of each format, and the values that they draw from.
var fields = map[carrierFormat][][2]string{
	tollgateJSON: {{"id", "id"}, {"type", "type"}, {"direction", "direction"}, {"from", "own"}, {"to", "own"}, {"from", "peer"}, {"start", "start"},
		{"duration", "count"}, {"answered", "flag"}, {"segments", "count"}, {"ID", "id"}, {"extra", "any"}},
	twilioCall: {{"sid", "call"}, {"direction", "twilio"}, {"from", "own"}, {"to", "own"}, {"forwarded_from", "peer"}, {"status", "over"},
		{"duration", "count"}, {"start_time", "rfc"}, {"date_created", "rfc"}, {"extra", "any"}},
	twilioMessage: {{"sid", "text"}, {"direction", "twilio"}, {"from", "own"}, {"to", "own"}, {"status", "sent"}, {"num_segments", "count"},
		{"body", "body"}, {"date_sent", "rfc"}, {"date_created", "rfc"}, {"extra", "any"}},
	didwwVoiceIn: {{"type", "cdr"}, {"id", "id"}, {"ATTRIBUTES", "any"}, {"attributes", "attributes"}, {"extra", "any"}},
}

var attributes = [][2]string{{"did_number", "own"}, {"src_number", "peer"}, {"time_start", "naive"}, {"time_connect", "naive"}, {"duration", "count"}, {"extra", "any"}}

// generator makes records that are nearly right.
type generator struct{ *rand.Rand }

// object draws an object: of each field mostly the good values, now and then another, none, or two.
func (g generator) object(fields [][2]string) string {
	var members []string
	for _, f := range fields {
		if g.IntN(24) == 0 || strings.ToUpper(f[0]) == f[0] && g.IntN(4) > 0 {
			continue
		}
		value := ""
		if f[1] == "attributes" {
			value = g.object(attributes)
		} else {
			list := values[f[1]]
			value = list[min(g.IntN(len(list)), g.IntN(len(list)), g.IntN(len(list)), g.IntN(len(list)))]
		}
		members = append(members, strconv.Quote(f[0])+g.space()+":"+g.space()+value)
	}
	if g.IntN(3) == 0 {
		g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	}
	return "{" + g.space() + strings.Join(members, ","+g.space()) + "}"
}

func (g generator) space() string { return []string{"", "", " ", "\t", "\n "}[g.IntN(5)] }

// message draws some records, lines or an array, and damages some bytes.
func (g generator) message(carrier carrierFormat, records int) []byte {
	separator, open, end := "\n", "", ""
	if g.IntN(3) == 0 {
		separator, open, end = ",", "[", "]"
	}
	var list []string
	for range records {
		record := []byte(g.object(fields[carrier]))
		if g.IntN(20) == 0 {
			record[g.IntN(len(record))] = byte(g.IntN(256))
		}
		if g.IntN(60) == 0 {
			record = record[:g.IntN(len(record))]
		}
		list = append(list, string(record))
	}
	return []byte(open + strings.Join(list, separator) + end)
}

// priced is a line of `tollgate rate`.
type pricedLine struct {
	ID, Number, Peer, Event, Service, Charge, Currency, Reason string
	Account                                                    uint32
}

// TestAgainstTheProduct has the product's own program price records that are nearly right, and compares.
func TestAgainstTheProduct(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program: not run with -short")
	}
	program := filepath.Join(t.TempDir(), "tollgate")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/tollgate").CombinedOutput(); err != nil {
		t.Fatalf("cannot build tollgate: %v\n%s", err, out)
	}
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	b, err := readBook(exampleBook)
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rated, compared := 0, 0
	for name, carrier := range formatNames {
		for range 6 {
			message := g.message(carrier, 1500)
			want := pricedBy(t, program, message, "--format", name, "--book", exampleBook, "--default-country", "1", "--zone", "Europe/Berlin")
			got := pricedHere(b, &format{carrier: carrier, country: "1", zone: berlin}, message)
			if len(got) != len(want) {
				t.Fatalf("%s: %d records here, %d there; the message: %q", name, len(got), len(want), message)
			}
			for i := range got {
				if compared++; got[i].Reason == "" {
					rated++
				}
				if got[i] != want[i] {
					t.Errorf("%s, record %d:\nhere  %+v\nthere %+v", name, i, got[i], want[i])
				}
			}
		}
	}
	if t.Logf("%d records, of which %d have a price", compared, rated); rated < compared/5 {
		t.Error("too few records have a price to say much")
	}
}

// pricedBy runs the product on a message.
func pricedBy(t *testing.T, program string, message []byte, args ...string) (lines []pricedLine) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"rate"}, args...)...)
	cmd.Stdin = bytes.NewReader(message)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || len(out) == 0 {
		t.Fatalf("tollgate rate: %v\n%s", err, exit.Stderr)
	}
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var l pricedLine
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, scanner.Bytes())
		}
		if l.Reason != "" {
			l = pricedLine{Reason: l.Reason}
		} else if units, err := exactUnits(l.Charge, l.Currency); err != nil {
			t.Fatal(err)
		} else {
			l.Charge = formatInt(units, l.Currency) // zeros at the end may differ
		}
		lines = append(lines, l)
	}
	return lines
}

// pricedHere prices a message as the oracle does, each record as if it had come when it happened.
func pricedHere(b *book, f *format, message []byte) (lines []pricedLine) {
	r := rater{book: b}
	r.decoder.format = f
	for _, p := range split(message) {
		r.decoder.decode(p, &r.record)
		var e expected
		r.rate(&r.record, r.record.eventMs, &e)
		if e.refuse != rated {
			lines = append(lines, pricedLine{Reason: e.refuse.String()})
			continue
		}
		lines = append(lines, pricedLine{ID: string(r.record.id), Peer: string(r.record.peer), Number: fmt.Sprintf("+%d", e.number),
			Event: time.UnixMilli(e.eventMs).UTC().Format(time.RFC3339Nano), Service: e.service.String(), Account: e.account.number,
			Charge: formatUnits(big.NewInt(e.units), e.account.currency), Currency: e.account.currency})
	}
	return lines
}

func TestBookOfTheExample(t *testing.T) {
	b, err := readBook(exampleBook)
	if err != nil {
		t.Fatal(err)
	}
	december := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if a := b.ownerAt(14155550100, always); a == nil || a.number != 1001 || a.openingUnits != 2_500_000_000 || a.zone.String() != "America/New_York" {
		t.Errorf("the first number is owned by %+v", a)
	}
	if before, after := b.ownerAt(14155550101, december-1), b.ownerAt(14155550101, december); before != nil || after == nil || after.number != 1002 {
		t.Errorf("the number of December has %v before and %v after", before, after)
	}
	if f := b.formatAt("didww-calls", 0); f == nil || f.carrier != didwwVoiceIn || f.country != "1" || f.source != "didww" {
		t.Errorf("the topic is written as %+v", f)
	}
	if v := b.accounts[1001].tariff.at(december); v == nil || v.row(voiceOut, 442071234567) == nil {
		t.Error("there is no price for a call to Great Britain")
	}
	if b.accounts[1001].tariff.at(time.Date(2026, 10, 31, 0, 0, 0, 0, time.UTC).UnixMilli()) != nil {
		t.Error("the tariff holds before its day")
	}
}

func TestBooksThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":   "planes: []\n",
		"no plan":       "accounts:\n  - {account: 1, currency: USD, plan: none, zone: UTC}\n",
		"two owners":    "tariffs:\n  - {tariff: t, revision: a, currency: USD, rows: [{service: message-in, segment: 1}]}\nplans:\n  - {plan: p, currency: USD, tariff: t}\naccounts:\n  - {account: 1, currency: USD, plan: p, zone: UTC, numbers: [+4930555010, +4930555010]}\n",
		"other version": "formats:\n  - {topic: a, format: tollgate, version: 2, source: a}\n",
	} {
		path := filepath.Join(t.TempDir(), "book.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readBook(path); err == nil {
			t.Errorf("%s: the book is taken", name)
		}
	}
}
