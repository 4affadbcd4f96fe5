package decode

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

func FuzzTollgate(f *testing.F)      { fuzzFormat(f, Tollgate) }
func FuzzDIDWWVoiceIn(f *testing.F)  { fuzzFormat(f, DIDWWVoiceIn) }
func FuzzTwilioCall(f *testing.F)    { fuzzFormat(f, TwilioCall) }
func FuzzTwilioMessage(f *testing.F) { fuzzFormat(f, TwilioMessage) }

// fuzzFormat holds a format to what is promised of all: at least one record, the same ones every time, whatever the
// decoder read before, with the raw bytes in order inside the message, and good ones only from valid JSON.
func fuzzFormat(f *testing.F, format Format) {
	for _, message := range samples(f, format) {
		f.Add(message)
		f.Add(message[:len(message)/2])
	}
	for _, message := range []string{"", "[", "[{}", `[{"a":"b\u00e9"},]`, "{}\n{", "\x1f\x8b\x08", `{"id":"\ud83d\ude00"}`} {
		f.Add([]byte(message))
	}
	used := &Decoder{}
	f.Fuzz(func(t *testing.T, message []byte) {
		before := bytes.Clone(message)
		records := decodeAll(t, format, message)
		if !bytes.Equal(before, message) {
			t.Fatal("the message was changed")
		}
		if len(records) == 0 || len(records) > MaxRecordsPerMessage {
			t.Fatalf("%d records", len(records))
		}
		if err := used.Reset(format, 1, northAmerica, message); err != nil {
			t.Fatal(err)
		}
		var r Record
		at := 0
		for i := 0; used.Next(&r); i++ {
			again := r
			again.Raw = bytes.Clone(r.Raw)
			again.ID, again.Peer, again.NumberText = bytes.Clone(r.ID), bytes.Clone(r.Peer), bytes.Clone(r.NumberText)
			if !reflect.DeepEqual(again, records[i]) {
				t.Fatalf("record %d is %+v, then %+v", i, records[i], again)
			}
			checkRecord(t, &r)
			found := bytes.Index(used.data[at:], r.Raw)
			if found < 0 {
				t.Fatalf("the raw bytes of record %d are not in the message after the one before", i)
			}
			at += found + len(r.Raw)
			used.Fields(&r)
		}
	})
}

func checkRecord(t *testing.T, r *Record) {
	t.Helper()
	if r.Problem != None {
		if r.Detail == "" {
			t.Fatalf("refused without a reason: %s", r.Raw)
		}
		return
	}
	if !json.Valid(r.Raw) {
		t.Fatalf("good record of bad JSON: %s", r.Raw)
	}
	if !r.Service.Valid() || r.Number < 1_000_000 || r.Number > 999_999_999_999_999 || len(r.ID) == 0 || len(r.ID) > MaxIDBytes ||
		len(r.Peer) > MaxPeerBytes || !utf8.Valid(r.ID) || !utf8.Valid(r.Peer) || r.EventMs < minEventMs || r.EventMs > maxEventMs {
		t.Fatalf("good record with a bad field: %+v", *r)
	}
	if r.Service.Voice() && r.Segments != 0 || !r.Service.Voice() && r.DurationSeconds != 0 {
		t.Fatalf("segments of a call or seconds of a message: %+v", *r)
	}
}

// FuzzObject holds the scanner against encoding/json: the same objects are valid, and the same values are found.
func FuzzObject(f *testing.F) {
	for _, format := range Formats() {
		for _, message := range samples(f, format) {
			f.Add(message)
		}
	}
	for _, object := range []string{`{}`, `{"id":1,"id":"a"}`, `{"id":-0.5e+7,"attributes":{"duration":[{}]}}`, `{"attributes":{"duration":1},"attributes":null}`,
		`{"id":"\ud800\u0041\/\b"}`, `{"\u0069d":tru}`, `{"id":01}`, `{"id":"` + "\x01" + `"}`, `{"a":[1,[2,{"b":null}]],}`, `{"id":"12345678\"12345678"}`} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if len(object) == 0 || object[0] != '{' || nesting(object) > maxDepth {
			return
		}
		d := Decoder{format: DIDWWVoiceIn, data: object}
		end, ok := d.object(0, 0)
		valid := ok && space(object, end) == len(object)
		var want map[string]any
		decoder := json.NewDecoder(bytes.NewReader(object))
		decoder.UseNumber()
		if valid != json.Valid(object) {
			t.Fatalf("valid: %v, json.Valid: %v: %q", valid, json.Valid(object), object)
		}
		if !valid || !utf8.Valid(object) {
			return
		}
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		inner, _ := want["attributes"].(map[string]any)
		for _, s := range []slot{didwwType, didwwID, nested} {
			compare(t, &d, s, want, didwwKeys[s])
		}
		for s := didwwNumber; s <= didwwDuration; s++ {
			compare(t, &d, s, inner, didwwKeys[s][len("attributes."):])
		}
	})
}

func compare(t *testing.T, d *Decoder, s slot, in map[string]any, key string) {
	t.Helper()
	v := d.values[s]
	written := string(d.data[v.start:v.end])
	want, present := in[key]
	same := false
	switch w := want.(type) {
	case nil:
		same = present && v.kind == isNull || !present && v.kind == isAbsent
	case string:
		same = v.kind == isText && string(d.textOf(s)) == w
	case json.Number:
		same = v.kind == isNumber && written == w.String()
	case bool:
		same = v.kind == isBoolean && (written == "true") == w
	default:
		same = v.kind == isComposite && json.Valid([]byte(written))
	}
	if !same {
		t.Fatalf("%q is %+v %q, want %#v", key, v, written, want)
	}
}

// nesting is an upper bound of the depth of the values in b.
func nesting(b []byte) int { return bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("[")) }
