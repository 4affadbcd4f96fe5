package decode

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/price"
)

const call = `{"id":"c-1","type":"call","direction":"inbound","from":"+13105550177","to":"+12125550100","start":"2026-11-22T10:00:00.123Z","duration":61,"answered":true}`

// decodeAll gives all records of a message, with their slices copied.
func decodeAll(t rapid.TB, format Format, message []byte) []Record {
	t.Helper()
	var d Decoder
	if err := d.Reset(format, 1, northAmerica, message); err != nil {
		t.Fatal(err)
	}
	var all []Record
	var r Record
	for d.Next(&r) {
		c := r
		c.ID, c.Peer, c.NumberText, c.Raw = bytes.Clone(r.ID), bytes.Clone(r.Peer), bytes.Clone(r.NumberText), bytes.Clone(r.Raw)
		all = append(all, c)
	}
	if d.Next(&r) {
		t.Fatal("a record after the last")
	}
	return all
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// outline is a letter per record: g for good, r for refused.
func outline(records []Record) string {
	var s strings.Builder
	for _, r := range records {
		s.WriteByte("gr"[min(r.Problem, 1)])
	}
	return s.String()
}

func TestSplitting(t *testing.T) {
	cases := []struct{ name, message, outline string }{
		{"one record", call, "g"},
		{"one record over several lines", strings.ReplaceAll(call, ",", ",\n"), "g"},
		{"lines", call + "\n" + call + "\n", "gg"},
		{"lines with returns and blanks", "\r\n" + call + "\r\n\r\n" + call, "gg"},
		{"one after the other", call + call, "gg"},
		{"array", "[" + call + ",\n" + call + "] \n", "gg"},
		{"empty message", "", "r"},
		{"white space", " \n\t", "r"},
		{"empty array", "[ ]", "r"},
		{"rubbish", "hello", "r"},
		{"a number", "7", "r"},
		{"rubbish between lines", call + "\nhello\nworld\n" + call, "grg"},
		{"rubbish behind a record", call + " x\n" + call, "grg"},
		{"a line cut short", call[:50] + "\n" + call, "rg"},
		{"a line cut within a string", call[:10] + "\n" + call, "rg"},
		{"last line cut short", call + "\n" + call[:70], "gr"},
		{"object that is not closed", call[:len(call)-1], "r"},
		{"bad element", "[" + call + `,{"id":nul},` + call + "]", "grg"},
		{"element that is no object", "[" + call + `,"x",[` + call + `],` + call + "]", "grrg"},
		{"element with a comma in a string", "[" + call + `,{"a":"x,]\",]",},` + call + "]", "grg"},
		{"array cut within an element", "[" + call + "," + call[:40], "gr"},
		{"array cut after an element", "[" + call, "gr"},
		{"array cut after a comma", "[" + call + ",", "gr"},
		{"array without a comma", "[" + call + " " + call + "]", "gr"},
		{"comma before the end", "[" + call + ",]", "gr"},
		{"something behind the array", "[" + call + "] x", "gr"},
		{"two arrays", "[" + call + "]\n[" + call + "]", "gr"},
		{"gzip", string(gzipped(t, []byte(call+"\n"+call))), "gg"},
		{"two members of gzip", string(gzipped(t, []byte(call))) + string(gzipped(t, []byte(call))), "gg"},
		{"gzip of an array", string(gzipped(t, []byte("["+call+"]"))), "g"},
		{"gzip of nothing", string(gzipped(t, nil)), "r"},
		{"gzip cut short", string(gzipped(t, []byte(call))[:60]), "r"},
		{"gzip with a tail", string(gzipped(t, []byte(call))) + "x", "r"},
		{"the magic of gzip alone", "\x1f\x8b", "r"},
	}
	for _, c := range cases {
		records := decodeAll(t, Tollgate, []byte(c.message))
		if got := outline(records); got != c.outline {
			t.Errorf("%s: %s, want %s: %+v", c.name, got, c.outline, records)
		}
		for _, r := range records {
			if r.Problem == None && string(r.ID) != "c-1" || r.Problem != None && r.Detail == "" {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
	}
}

func TestTooManyRecordsAreOne(t *testing.T) {
	for _, c := range []struct {
		message string
		records int
	}{
		{strings.Repeat("{}", MaxRecordsPerMessage), MaxRecordsPerMessage},
		{strings.Repeat("{}", MaxRecordsPerMessage+1), 1},
		{"[" + strings.Repeat("1,", MaxRecordsPerMessage-1) + "1]", MaxRecordsPerMessage},
		{"[" + strings.Repeat("1,", MaxRecordsPerMessage) + "1]", 1},
		{"[" + strings.Repeat(",", MaxRecordsPerMessage) + "]", 1},
		{strings.Repeat("{}x\n", MaxRecordsPerMessage), 1},
	} {
		records := decodeAll(t, Tollgate, []byte(c.message))
		if len(records) != c.records {
			t.Errorf("%.20q…: %d records, want %d", c.message, len(records), c.records)
		}
		if c.records == 1 && string(records[0].Raw) != c.message {
			t.Errorf("%.20q…: the refused record is not the whole message", c.message)
		}
	}
}

func TestTooLongMessagesAreOneRecord(t *testing.T) {
	long := bytes.Repeat([]byte(" "), MaxMessageBytes+1)
	copy(long, call)
	for _, message := range [][]byte{long, gzipped(t, long)} {
		records := decodeAll(t, Tollgate, message)
		if outline(records) != "r" || !bytes.Equal(records[0].Raw, message) {
			t.Errorf("a message of %d bytes makes %d records", len(message), len(records))
		}
	}
	if records := decodeAll(t, Tollgate, long[:MaxMessageBytes]); outline(records) != "g" {
		t.Error("a message of the greatest length is refused")
	}
}

func TestUnknownVersionStops(t *testing.T) {
	var d Decoder
	for _, c := range []struct {
		format  Format
		version uint16
	}{{Tollgate, 0}, {Tollgate, 2}, {0, 1}, {99, 1}} {
		if err := d.Reset(c.format, c.version, nil, []byte(call)); err == nil || d.Next(&Record{}) {
			t.Errorf("version %d of %s was decoded", c.version, c.format)
		}
	}
}

func TestFormatNames(t *testing.T) {
	for _, f := range Formats() {
		if back, err := ParseFormat(f.String()); err != nil || back != f || !f.Knows(1) {
			t.Errorf("ParseFormat(%q) = %v, %v", f, back, err)
		}
	}
	for _, name := range []string{"", "twilio", "format-0"} {
		if f, err := ParseFormat(name); err == nil {
			t.Errorf("ParseFormat(%q) = %v", name, f)
		}
	}
}

// Every key that a format lists leads to the slot that it is listed under, and no other.
func TestKeysLeadToTheirSlots(t *testing.T) {
	for format, keys := range map[Format][slotCount]string{Tollgate: tollgateKeys, DIDWWVoiceIn: didwwKeys,
		TwilioCall: twilioCallKeys, TwilioMessage: twilioMessageKeys} {
		d := Decoder{format: format}
		listed := 0
		for s, key := range keys {
			if key == "" {
				continue
			}
			listed++
			inner, isInner := strings.CutPrefix(key, "attributes.")
			level := map[bool]int{false: 0, true: 1}[isInner]
			if got := d.slotOf([]byte(inner), level); got != slot(s) || isInner != (s >= int(firstInner)) {
				t.Errorf("%s: %q leads to slot %d, want %d", format, key, got, s)
			}
		}
		if listed < 5 {
			t.Errorf("%s lists only %d keys", format, listed)
		}
	}
}

// with gives the sample of a format with one field set to a JSON value, or taken out with "".
func with(t testing.TB, sample, key, value string) []byte {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(sample), &fields); err != nil {
		t.Fatal(err)
	}
	if fields[key] = json.RawMessage(value); value == "" {
		delete(fields, key)
	}
	message, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestTollgateRefusals(t *testing.T) {
	cases := []struct {
		key, value string
		problem    Problem
	}{
		{"id", ``, Undecodable}, {"id", `null`, Undecodable}, {"id", `7`, Undecodable}, {"id", `""`, Undecodable},
		{"id", `"` + strings.Repeat("x", 256) + `"`, Undecodable}, {"id", `"` + strings.Repeat("x", 255) + `"`, None},
		{"id", `"a\nb"`, Undecodable}, {"id", `"a\u0000b"`, Undecodable}, {"id", `"\ud800"`, Undecodable}, {"id", `"é"`, None},
		{"type", ``, Undecodable}, {"type", `"Call"`, Undecodable}, {"type", `"sms"`, Undecodable},
		{"direction", ``, Undecodable}, {"direction", `"in"`, Undecodable},
		{"from", ``, None}, {"from", `null`, None}, {"from", `""`, None}, {"from", `"anonymous"`, None},
		{"from", `13105550177`, Undecodable}, {"from", `"` + strings.Repeat("x", 256) + `"`, Undecodable},
		{"to", ``, Undecodable}, {"to", `"client:ann"`, Undecodable}, {"to", `12125550100`, Undecodable}, {"to", `"(212) 555-0100"`, None},
		{"start", ``, Undecodable}, {"start", `"2026-11-22T10:00:00"`, Undecodable}, {"start", `"2026-11-31T10:00:00Z"`, Undecodable},
		{"start", `"2026-11-22"`, Undecodable}, {"start", `1795341600`, Undecodable}, {"start", `1795341600123`, None},
		{"start", `1795341600123000`, Undecodable}, {"start", `-1`, Undecodable}, {"start", `1.7e12`, Undecodable},
		{"start", `"1795341600123"`, Undecodable}, {"start", `"1979-12-31T23:59:59Z"`, Undecodable},
		{"duration", ``, Undecodable}, {"duration", `null`, Undecodable}, {"duration", `61.0`, Undecodable}, {"duration", `"61"`, None},
		{"duration", `0`, None}, {"duration", `86400`, None}, {"duration", `86401`, OutOfBounds}, {"duration", `-1`, OutOfBounds},
		{"duration", `99999999999999999999999`, OutOfBounds}, {"duration", `4294967296`, OutOfBounds}, {"duration", `""`, Undecodable},
		{"answered", ``, None}, {"answered", `false`, None}, {"answered", `null`, Undecodable}, {"answered", `"yes"`, Undecodable},
	}
	for _, c := range cases {
		r := decodeAll(t, Tollgate, with(t, call, c.key, c.value))[0]
		if r.Problem != c.problem || c.problem != None && !strings.HasPrefix(r.Detail, c.key+" is ") {
			t.Errorf("%s = %s: %q %s, want %q", c.key, c.value, r.Problem, r.Detail, c.problem)
		}
	}
}

func TestUnansweredCallsLastZeroSeconds(t *testing.T) {
	for _, message := range [][]byte{with(t, call, "answered", "false"), with(t, string(with(t, call, "answered", "false")), "duration", "")} {
		if r := decodeAll(t, Tollgate, message)[0]; r.Problem != None || r.DurationSeconds != 0 {
			t.Errorf("%s: %+v", message, r)
		}
	}
}

func TestLastOfEqualKeysWins(t *testing.T) {
	r := decodeAll(t, Tollgate, []byte(strings.Replace(call, `{`, `{"duration":7,"\u0069d":"first",`, 1)))[0]
	if r.DurationSeconds != 61 || string(r.ID) != "c-1" {
		t.Errorf("%+v", r)
	}
	r = decodeAll(t, Tollgate, []byte(strings.Replace(call, `}`, `,"\u0069d":"last"}`, 1)))[0]
	if string(r.ID) != "last" {
		t.Errorf("%+v", r)
	}
	const twice = `{"type":"inbound-cdr","id":"a","attributes":{"did_number":"12125550100","duration":5},
		"attributes":{"time_start":"2026-01-01 00:00:00","time_connect":"2026-01-01 00:00:01","duration":6}}`
	if r = decodeAll(t, DIDWWVoiceIn, []byte(twice))[0]; r.Problem == None || r.Number != 0 {
		t.Errorf("the second attributes did not replace the first: %+v", r)
	}
}

func TestTwilioTraps(t *testing.T) {
	sample := string(samples(t, TwilioCall)["testdata/twilio-call/inbound-completed.json"])
	message := string(samples(t, TwilioMessage)["testdata/twilio-message/outbound-sent.json"])
	cases := []struct {
		format             Format
		sample, key, value string
		problem            Problem
	}{
		{TwilioCall, sample, "sid", `"SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`, Undecodable},
		{TwilioCall, sample, "status", `"ringing"`, Undecodable},
		{TwilioCall, sample, "status", `"Completed"`, Undecodable},
		{TwilioCall, sample, "status", `"no-answer"`, None},
		{TwilioCall, sample, "duration", `null`, Undecodable},
		{TwilioCall, sample, "duration", `"-1"`, OutOfBounds},
		{TwilioCall, sample, "duration", `15`, None},
		{TwilioCall, sample, "start_time", `null`, Undecodable},
		{TwilioCall, sample, "start_time", `"2010-08-31T20:36:29Z"`, Undecodable},
		{TwilioCall, sample, "direction", `"trunking-originating"`, Undecodable},
		{TwilioCall, sample, "to", `"+1512-737-6291"`, None},
		{TwilioCall, sample, "to", `"sip:kevin@example.com"`, Undecodable},
		{TwilioCall, sample, "from", `"sip:kevin@example.com"`, None},
		{TwilioCall, message, "status", `"sent"`, Undecodable},
		{TwilioMessage, sample, "status", `"completed"`, Undecodable},
		{TwilioMessage, message, "sid", `"MMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`, None},
		{TwilioMessage, message, "num_segments", `"256"`, OutOfBounds},
		{TwilioMessage, message, "num_segments", `"many"`, Undecodable},
		{TwilioMessage, message, "from", `null`, Undecodable},
		{TwilioMessage, message, "from", `"72727"`, Undecodable},
		{TwilioMessage, message, "to", `"72727"`, None},
		{TwilioMessage, message, "price", `null`, None},
	}
	for _, c := range cases {
		r := decodeAll(t, c.format, with(t, c.sample, c.key, c.value))[0]
		if r.Problem != c.problem {
			t.Errorf("%s, %s = %s: %q %s, want %q", c.format, c.key, c.value, r.Problem, r.Detail, c.problem)
		}
	}
	for value, segments := range map[string]uint32{`"3"`: 3, `"0"`: 1, `null`: 1, ``: 1, `2`: 2} {
		if r := decodeAll(t, TwilioMessage, with(t, message, "num_segments", value))[0]; r.Segments != segments {
			t.Errorf("num_segments %s are %d segments, want %d", value, r.Segments, segments)
		}
	}
}

// scrambled writes members as a JSON object in random order, with random spaces, escapes and unknown members.
func scrambled(random *rand.Rand, members map[string]any) []byte {
	unknown := []string{`"x":null`, `"y":{"id":"no","a":[1,{"to":"no"},"]}"]}`, `"dur\u0061tionx":-1.5e+3`, `"":[[],{},"\\\""]`}
	parts := append([]string{}, unknown[:random.Intn(len(unknown)+1)]...)
	for key, v := range members {
		encoded, _ := json.Marshal(v)
		name, _ := json.Marshal(key)
		if s, isString := v.(string); isString && random.Intn(2) == 0 {
			var b strings.Builder
			for _, u := range []byte(s) { // the strings here are ASCII
				fmt.Fprintf(&b, `\u%04X`, u)
			}
			encoded = []byte(`"` + b.String() + `"`)
		}
		parts = append(parts, string(name)+[]string{":", " : ", "\t:\r\n"}[random.Intn(3)]+string(encoded))
	}
	random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return []byte("{ " + strings.Join(parts, []string{",", " ,\n  "}[random.Intn(2)]) + "}")
}

func TestAnyOrderAndSpellingReadsAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		id := rapid.StringMatching(`[!-~]{1,40}`).Draw(t, "id")
		peer := rapid.StringMatching(`[ -~]{0,40}`).Draw(t, "peer")
		number := rapid.Uint64Range(1_000_000, 999_999_999_999_999).Draw(t, "number")
		seconds := rapid.Uint32Range(0, price.MaxDurationSeconds).Draw(t, "duration")
		at := time.UnixMilli(rapid.Int64Range(minEventMs, maxEventMs).Draw(t, "at")).UTC()
		whole := at.Truncate(time.Second)
		check := func(format Format, message []byte, service price.Service, at time.Time) {
			all := decodeAll(t, format, message)
			r := all[0]
			if len(all) != 1 || r.Problem != None || string(r.ID) != id || string(r.Peer) != peer || r.Number != number ||
				r.DurationSeconds != seconds || r.EventMs != at.UnixMilli() || r.Service != service {
				t.Fatalf("%s becomes %+v", message, all)
			}
		}
		own := fmt.Sprintf("+%d", number)
		check(Tollgate, scrambled(random, map[string]any{"id": id, "type": "call", "direction": "outbound", "from": own, "to": peer,
			"start": at.Format(time.RFC3339Nano), "duration": seconds}), price.VoiceOut, at)
		check(DIDWWVoiceIn, scrambled(random, map[string]any{"id": id, "type": "inbound-cdr", "attributes": map[string]any{
			"did_number": own, "src_number": peer, "time_start": at.Format("2006-01-02 15:04:05.000000"),
			"time_connect": "2026-01-01 00:00:00", "duration": seconds}}), price.VoiceIn, at)
		id = "CA" + id
		check(TwilioCall, scrambled(random, map[string]any{"sid": id, "direction": "inbound", "from": peer, "to": own,
			"status": "completed", "start_time": whole.Format(time.RFC1123Z), "duration": fmt.Sprint(seconds)}), price.VoiceIn, whole)
	})
}
