package decode

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Stamps without a zone are in the mapping's zone: the hour that comes twice is the first one.
func TestNaiveTimesAreInTheMappingsZone(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Skip(err)
	}
	sample := string(samples(t, DIDWWVoiceIn)["testdata/didww-voice-in/unanswered.json"])
	for stamp, want := range map[string]string{
		"2019-10-31 14:50:18.930234":       "2019-10-31T18:50:18.93Z",
		"2019-10-31T14:50:18":              "2019-10-31T18:50:18Z",
		"2019-11-03 00:59:59":              "2019-11-03T04:59:59Z",
		"2019-11-03 01:30:00":              "2019-11-03T05:30:00Z", // comes again an hour later
		"2019-11-03 02:00:00":              "2019-11-03T07:00:00Z",
		"2019-03-10 01:59:59":              "2019-03-10T06:59:59Z",
		"2019-03-10 02:30:00":              "2019-03-10T07:30:00Z", // does not exist
		"2019-03-10 03:00:00":              "2019-03-10T07:00:00Z",
		"2019-10-31T14:50:18.930234+00:00": "2019-10-31T14:50:18.93Z",
	} {
		var d Decoder
		var r Record
		message := strings.Replace(sample, "2019-10-31 14:50:18.930234", stamp, 1)
		if err := d.Reset(DIDWWVoiceIn, 1, &Mapping{Zone: newYork}, []byte(message)); err != nil {
			t.Fatal(err)
		}
		d.Next(&r)
		if got := time.UnixMilli(r.EventMs).UTC().Format("2006-01-02T15:04:05.999Z"); r.Problem != None || got != want {
			t.Errorf("%s is %s, want %s (%s)", stamp, got, want, r.Detail)
		}
	}
}

func TestParseNumber(t *testing.T) {
	cases := []struct {
		written, country string
		want             uint64
	}{
		{"+14158675309", "", 14158675309}, {"14158675309", "", 14158675309}, {"+1512-737-6291", "", 15127376291},
		{"4158675309", "1", 14158675309}, {"14158675309", "1", 14158675309}, {"(415) 867-5309", "1", 14158675309},
		{"415.867.5309", "1", 14158675309}, {"+1 (415) 867-5309", "1", 14158675309}, {"00442089643990", "1", 442089643990},
		{"+442089643990", "1", 442089643990}, {"442089643990", "1", 442089643990}, {"4158675309", "", 4158675309},
		{"02089643990", "44", 442089643990}, {"2089643990", "44", 442089643990}, {"442089643990", "44", 442089643990},
		{"972397239159092", "", 972397239159092}, {"0123456789", "49", 49123456789}, {" +14158675309 ", "", 14158675309},
		{"", "1", 0}, {"+", "1", 0}, {"911", "1", 0}, {"72727", "1", 0}, {"sip:kevin@example.com", "1", 0},
		{"client:ann", "1", 0}, {"kevin", "1", 0}, {"+1415867530x", "1", 0}, {"1+4158675309", "", 0}, {"++14158675309", "", 0},
		{"+04158675309", "", 0}, {"04158675309", "", 0}, {"04158675309", "1", 0}, {"0004158675309", "44", 0},
		{"1234567890123456", "", 0}, {"+1234567890123456", "", 0}, {"99999999999999999999999", "", 0}, {"anonymous", "1", 0},
		{"0+4158675309", "", 0}, {"０４１５", "1", 0},
	}
	for _, c := range cases {
		got, ok := ParseNumber([]byte(c.written), c.country)
		if got != c.want && ok || ok != (c.want != 0) {
			t.Errorf("%q in %q is %d, %v; want %d", c.written, c.country, got, ok, c.want)
		}
	}
}

func TestMappingValidate(t *testing.T) {
	for code, good := range map[string]bool{"": true, "1": true, "44": true, "972": true, "0": false, "01": false, "1234": false, "+1": false, "US": false} {
		if err := (&Mapping{DefaultCountry: code}).Validate(); (err == nil) != good {
			t.Errorf("default country %q: %v", code, err)
		}
	}
}

func TestTimesEqualTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "offset"))
		at := time.Unix(rapid.Int64Range(86_400, 253_402_200_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).In(zone)
		if ms, ok := parseISO([]byte(at.Format(time.RFC3339Nano)), nil); !ok || ms != at.UnixMilli() {
			t.Fatalf("%s is %d, %v; want %d", at.Format(time.RFC3339Nano), ms, ok, at.UnixMilli())
		}
		if ms, ok := parseRFC2822([]byte(at.Format(time.RFC1123Z))); !ok || ms != at.Unix()*1000 {
			t.Fatalf("%s is %d, %v; want %d", at.Format(time.RFC1123Z), ms, ok, at.Unix()*1000)
		}
		naive := at.Format("2006-01-02 15:04:05.000000")
		want, err := time.ParseInLocation("2006-01-02 15:04:05.000000", naive, zone)
		if ms, ok := parseISO([]byte(naive), zone); err != nil || !ok || ms != want.UnixMilli() {
			t.Fatalf("%s is %d, %v; want %d", naive, ms, ok, want.UnixMilli())
		}
	})
}

func TestTimesRefuseWhatTheStandardLibraryRefuses(t *testing.T) {
	for _, s := range []string{"", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z",
		"2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z",
		"2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+00:60", "2026-01-01T00:00:00z", "2026-01-01T00:00:00+1:00",
		"2026-1-01T00:00:00ZZ", "2026-01-01T00:00:00Z ", "1969-12-31T23:59:59Z"} {
		if ms, ok := parseISO([]byte(s), nil); ok {
			t.Errorf("%q is %d", s, ms)
		}
	}
	for _, s := range []string{"", "Tue", "Tue, 31 Aug 2010", "Tue, 32 Aug 2010 20:36:29 +0000", "Tue, 31 Agu 2010 20:36:29 +0000",
		"Tue, 31 Aug 2010 20:36:29", "Tue, 31 Aug 2010 20:36:29 ", "Tue, 31 Aug 2010 20:36:29 PST", "31 Aug 10 20:36:29 +0000",
		"Tue, 31 Aug 2010 20:36:29 +00:00", "Tue, 31 Aug 2010 20:36:29 Z"} {
		if ms, ok := parseRFC2822([]byte(s)); ok {
			t.Errorf("%q is %d", s, ms)
		}
	}
	for _, s := range []string{"Tue, 31 Aug 2010 20:36:29 +0000", "31 Aug 2010 20:36:29 GMT", "Tue, 31 Aug 2010 13:36:29 -0700"} {
		if ms, ok := parseRFC2822([]byte(s)); !ok || ms != 1_283_286_989_000 {
			t.Errorf("%q is %d, %v", s, ms, ok)
		}
	}
	if ms, ok := parseRFC2822([]byte("Wed, 1 Sep 2010 00:00:00 UTC")); !ok || ms != 1_283_299_200_000 {
		t.Errorf("a day of one digit: %d, %v", ms, ok)
	}
}

func TestCountSegments(t *testing.T) {
	for _, c := range []struct {
		body     string
		segments uint32
	}{
		{"", 1}, {strings.Repeat("x", 160), 1}, {strings.Repeat("x", 161), 2}, {strings.Repeat("x", 306), 2}, {strings.Repeat("x", 307), 3},
		{strings.Repeat("€", 80), 1}, {strings.Repeat("€", 81), 2}, {strings.Repeat("x", 152) + "€" + strings.Repeat("x", 7), 2},
		{strings.Repeat("€", 152), 2}, // 304 septets, but 76 fit a part of 153
		{strings.Repeat("€", 153), 3},
		{strings.Repeat("ж", 70), 1}, {strings.Repeat("ж", 71), 2}, {strings.Repeat("ж", 134), 2}, {strings.Repeat("ж", 135), 3},
		{strings.Repeat("💩", 35), 1}, {strings.Repeat("💩", 36), 2}, {strings.Repeat("💩", 66), 2}, {strings.Repeat("💩", 67), 3},
		{"O Slash: Ø, PoP: 💩", 1}, {"\n\f[]{}", 1}, {"tab\tis not in the alphabet" + strings.Repeat("x", 50), 2},
	} {
		if got := countSegments([]byte(c.body)); got != c.segments {
			t.Errorf("%.10q… of %d bytes: %d segments, want %d", c.body, len(c.body), got, c.segments)
		}
	}
	if n := len([]rune(gsmDefault)); n != 127 { // the 128th is the escape to the extension
		t.Errorf("the alphabet has %d characters", n)
	}
}
