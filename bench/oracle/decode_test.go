package oracle

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

	"pgregory.net/rapid"
)

// samples are the carriers' own examples, and beside each what it must become, as people wrote it down.
const samples = "../../rater/decode/testdata"

// TestSamplesOfTheCarriers reads the published samples of every format. National numbers are American.
func TestSamplesOfTheCarriers(t *testing.T) {
	seen := 0
	for name, carrier := range formatNames {
		wants, err := filepath.Glob(filepath.Join(samples, name, "*.want"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range wants {
			message, err := os.ReadFile(strings.TrimSuffix(path, ".want"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			if got := told(message, &format{carrier: carrier, country: "1", zone: time.UTC}); got != reduced(string(want)) {
				t.Errorf("%s becomes\n%s\nwant\n%s", path, got, reduced(string(want)))
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d samples were found in %s", seen, samples)
	}
}

// told writes what a message becomes, as a .want file does, without the carriers' keys and what is only for people.
func told(message []byte, f *format) string {
	var b strings.Builder
	d := decoder{format: f}
	var r record
	for ix, p := range split(message) {
		d.decode(p, &r)
		fmt.Fprintf(&b, "record %d of %d bytes\n", ix+1, len(p.raw))
		if r.refusal != rated {
			fmt.Fprintf(&b, "problem %s\n", r.refusal)
			continue
		}
		fmt.Fprintf(&b, "service %s\nnumber +%d\n", r.service, r.number)
		if len(r.peer) > 0 {
			fmt.Fprintf(&b, "peer %s\n", r.peer)
		}
		fmt.Fprintf(&b, "id %s\nevent %s\n", r.id, time.UnixMilli(r.eventMs).UTC().Format("2006-01-02T15:04:05.999Z"))
		if r.service.voice() {
			fmt.Fprintf(&b, "duration %d s\n", r.count)
		} else {
			fmt.Fprintf(&b, "segments %d\n", r.count)
		}
	}
	return b.String()
}

// reduced takes the carriers' keys out of a .want file, and of refused records all but the problem.
func reduced(want string) string {
	var b strings.Builder
	for _, part := range strings.Split(want, "record ")[1:] {
		lines := strings.Split(strings.TrimSpace(part), "\n")
		fmt.Fprintf(&b, "record %s\n", lines[0])
		refused := strings.Contains(part, "\n  problem ")
		for _, line := range lines[1:] {
			name, value := strings.TrimSpace(line[:12]), strings.TrimSpace(line[min(len(line), 38):])
			if !refused || name == "problem" {
				fmt.Fprintf(&b, "%s %s\n", name, value)
			}
		}
	}
	return b.String()
}

// TestObjects holds the walker to encoding/json: the same is valid, and the last of equal keys has the same value.
func TestObjects(t *testing.T) {
	alphabet := []string{"{", "}", "[", "]", `"a"`, `"\u0061"`, `"b\n"`, `"`, ":", ",", "1", "-0.5e+3", "01", "1.", "true", "false", "null", "nul", " ", "\n", "\\", "é", "\x01", "\xff"}
	rapid.Check(t, func(t *rapid.T) {
		text := "{" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 24).Draw(t, "pieces"), "")
		data := []byte(text)
		var o object
		end, ok := objectAt(data, 0, &o)
		if valid := json.Valid(data); valid != (ok && len(bytes.TrimSpace(data[end:])) == 0) {
			t.Fatalf("%q: the walker says %v up to %d, encoding/json %v", text, ok, end, valid)
		}
		var want map[string]json.RawMessage
		if !ok || json.Unmarshal(data[:end], &want) != nil {
			return
		}
		for key, value := range want {
			if got := o.get(key); !bytes.Equal(bytes.TrimSpace(value), got) {
				t.Fatalf("%q: key %q is %q, want %q", text, key, got, value)
			}
		}
	})
}

func TestDepth(t *testing.T) {
	var o object
	for depth, want := range map[int]bool{64: true, 65: false} {
		text := `{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}"
		if _, ok := objectAt([]byte(text), 0, &o); ok != want {
			t.Errorf("%d arrays in an object: %v, want %v", depth, ok, want)
		}
	}
}

func TestSplit(t *testing.T) {
	zip := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text)) // into memory: it cannot fail
		_ = w.Close()
		return b.String()
	}
	broken := func(text string) string { return "!" + text }
	for name, c := range map[string]struct {
		message string
		want    []string
	}{
		"one":                    {`{"a":1}`, []string{`{"a":1}`}},
		"lines":                  {"{}\n{ }\r\n\n{}", []string{"{}", "{ }", "{}"}},
		"without a break":        {"{}{}", []string{"{}", "{}"}},
		"array":                  {" [{}, {} ] ", []string{"{}", "{}"}},
		"gzip":                   {zip("[{},{}]"), []string{"{}", "{}"}},
		"empty":                  {" \n", []string{broken(" \n")}},
		"empty array":            {"[ ]", []string{broken("[ ]")}},
		"nothing":                {"", []string{broken("")}},
		"cut line":               {"{\"a\":\n{}", []string{broken(`{"a":`), "{}"}},
		"rubbish between":        {"{} x \ny\n{}", []string{"{}", broken("x \ny"), "{}"}},
		"a brace inside a line":  {"x {}\n{}", []string{broken("x {}"), "{}"}},
		"broken element":         {`[{"a":tru,"b":"],"},{}]`, []string{broken(`{"a":tru,"b":"],"}`), "{}"}},
		"element that is none":   {`[7,{}]`, []string{broken("7"), "{}"}},
		"comma before the end":   {`[{},]`, []string{"{}", broken("")}},
		"cut array":              {`[{},{"a`, []string{"{}", broken(`{"a`)}},
		"array that is not over": {`[{}`, []string{"{}", broken("")}},
		"something after it":     {`[{}] {}`, []string{"{}", broken("{}")}},
		"two values":             {`[{} {}]`, []string{"{}", broken("{}]")}},
		"damaged gzip":           {zip("{}")[:20], []string{broken(zip("{}")[:20])}},
	} {
		var got []string
		for _, p := range split([]byte(c.message)) {
			text := string(p.raw)
			if p.broken {
				text = broken(text)
			}
			got = append(got, text)
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s: %q is split into %q, want %q", name, c.message, got, c.want)
		}
	}
	if pieces := split([]byte(strings.Repeat("{}\n", mostPieces+1))); len(pieces) != 1 || !pieces[0].broken {
		t.Errorf("too many records make %d pieces", len(pieces))
	}
	if pieces := split([]byte(strings.Repeat("{}\n", mostPieces))); len(pieces) != mostPieces {
		t.Errorf("as many records as may be make %d pieces", len(pieces))
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		written, country string
		want             uint64
	}{
		{"+14155550100", "", 14155550100}, {"+1 (415) 555-01.00", "", 14155550100}, {"0014155550100", "", 14155550100},
		{"14155550100", "", 14155550100}, {"14155550100", "1", 14155550100}, {"4155550100", "1", 14155550100},
		{"030555010", "49", 4930555010}, {"4930555010", "49", 4930555010}, {"49305550101", "49", 49305550101}, {"30555010", "49", 4930555010},
		{"+4930555010", "1", 4930555010}, {"447911123456", "44", 447911123456}, {"07911123456", "44", 447911123456},
		{"", "", 0}, {"911", "1", 0}, {"+0155550100", "", 0}, {"04155550100", "1", 0}, {"030555010", "", 0}, {"00014155550100", "1", 0},
		{"anonymous", "", 0}, {"sip:kevin@example.com", "", 0}, {"++14155550100", "", 0}, {"1+4155550100", "", 0}, {"+1234567890123456", "", 0},
		{"+123456789012345", "", 123456789012345},
	} {
		got, ok := parseNumber([]byte(c.written), c.country)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("%q with country %q is %d, %v; want %d", c.written, c.country, got, ok, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		written string
		zone    *time.Location
		want    string
	}{
		{"2026-11-22T10:00:00.123Z", nil, "2026-11-22T10:00:00.123Z"}, {"2026-11-22 10:00:00Z", nil, "2026-11-22T10:00:00Z"},
		{"2026-11-22T10:00:00.9999+02:00", nil, "2026-11-22T08:00:00.999Z"}, {"2026-11-22T10:00:00-0130", nil, "2026-11-22T11:30:00Z"},
		{"2026-11-22T10:00:00.5", time.UTC, "2026-11-22T10:00:00.5Z"}, {"2026-07-01T12:00:00", berlin, "2026-07-01T10:00:00Z"},
		{"2026-10-25T02:30:00", berlin, "2026-10-25T00:30:00Z"}, // comes twice: the first
		{"2026-03-29T02:30:00", berlin, "2026-03-29T01:30:00Z"}, // is skipped: by the offset before the jump
		{"2026-03-29T03:30:00", berlin, "2026-03-29T01:30:00Z"},
		{"2024-02-29T00:00:00Z", nil, "2024-02-29T00:00:00Z"},
		{"2026-11-22T10:00:00", nil, ""}, {"2026-02-29T00:00:00Z", nil, ""}, {"2026-11-22T24:00:00Z", nil, ""}, {"2026-11-22T10:00:60Z", nil, ""},
		{"2026-11-22T10:00:00.Z", nil, ""}, {"2026-11-22T10:00:00+1:000", nil, ""}, {"2026-11-22T10:00:00+24:00", nil, ""}, {"1969-12-31T23:59:59Z", nil, ""},
		{"2026-11-22t10:00:00Z", nil, ""}, {"2026-11-22T1:00:000Z", nil, ""}, {"2026-11-22T10:00:00z", nil, ""}, {"yesterday", nil, ""},
	} {
		checkTime(t, c.written, c.want, func() (int64, bool) { return parseISO([]byte(c.written), c.zone) })
	}
	for written, want := range map[string]string{
		"Tue, 31 Aug 2010 20:36:29 +0000": "2010-08-31T20:36:29Z", "31 Aug 2010 20:36:29 GMT": "2010-08-31T20:36:29Z",
		"Sun, 1 Aug 2010 20:36:29 -0530": "2010-08-02T02:06:29Z", "Tue, 31 Aug 2010 20:36:29 UTC": "2010-08-31T20:36:29Z",
		"Tue, 31 aug 2010 20:36:29 +0000": "", "Tue, 31 Aug 2010 20:36:29": "", "Tue, 31 Aug 2010 20:36:29 EST": "", "Tue, 31 Sep 2010 20:36:29 +0000": "",
		"Tue, 31 Aug 2010 20:36:29 +00:00": "", "Tue, 31 Aug 10 20:36:29 +0000": "", "": "",
	} {
		checkTime(t, written, want, func() (int64, bool) { return parseRFC2822([]byte(written)) })
	}
}

func checkTime(t *testing.T, written, want string, parse func() (int64, bool)) {
	t.Helper()
	ms, ok := parse()
	got := ""
	if ok {
		got = time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z")
	}
	if got != want {
		t.Errorf("%q is %q, want %q", written, got, want)
	}
}

// TestDays has an evening in New York, which is the next day in UTC, and a day before 1970.
func TestDays(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	evening := time.Date(2026, 11, 25, 3, 30, 0, 0, time.UTC).UnixMilli()
	if a, b := dayOf(evening, newYork), dayOf(evening, time.UTC); a != b-1 || b != 20782 {
		t.Errorf("the evening is day %d in New York and %d in UTC", a, b)
	}
	if day := dayOf(-1, time.UTC); day != -1 {
		t.Errorf("the millisecond before 1970 is day %d", day)
	}
}

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       uint32
	}{
		{"nothing", "", 1}, {"160", strings.Repeat("a", 160), 1}, {"161", strings.Repeat("a", 161), 2}, {"306", strings.Repeat("a", 306), 2},
		{"307", strings.Repeat("a", 307), 3}, {"70 of another alphabet", strings.Repeat("ж", 70), 1}, {"71 of it", strings.Repeat("ж", 71), 2},
		{"80 euros", strings.Repeat("€", 80), 1}, {"81 euros", strings.Repeat("€", 81), 2},
		{"a brace that is not cut", strings.Repeat("a", 152) + "{" + strings.Repeat("a", 151), 2},
		{"a brace more", strings.Repeat("a", 152) + "{" + strings.Repeat("a", 152), 3},
		{"35 faces", strings.Repeat("💩", 35), 1}, {"36 faces, 33 in the first part", strings.Repeat("💩", 36), 2}, {"67 faces", strings.Repeat("💩", 67), 3},
	} {
		if got := countSegments(c.body); got != c.want {
			t.Errorf("%s: %d segments, want %d", c.name, got, c.want)
		}
	}
}
