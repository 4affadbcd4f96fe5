package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

func benchmarkMessages(t testing.TB) map[Format][]byte {
	messages := map[Format][]byte{Tollgate: []byte(call)}
	for format, name := range map[Format]string{DIDWWVoiceIn: "unanswered", TwilioCall: "inbound-completed", TwilioMessage: "outbound-sent"} {
		var compact bytes.Buffer
		sample := samples(t, format)["testdata/"+format.String()+"/"+name+".json"]
		if err := json.Compact(&compact, sample); err != nil {
			t.Fatal(err)
		}
		messages[format] = compact.Bytes()
	}
	return messages
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	var d Decoder
	var r Record
	messages := benchmarkMessages(t)
	for format, message := range messages {
		spelled := bytes.ReplaceAll(bytes.ReplaceAll(message, []byte(`"+1`), []byte(`"\u002b1`)), []byte(`"to"`), []byte(`"\u0074o"`))
		array := []byte("[" + string(message) + "," + string(spelled) + "]")
		for _, m := range [][]byte{message, spelled, array} {
			allocations := testing.AllocsPerRun(100, func() {
				if err := d.Reset(format, 1, northAmerica, m); err != nil {
					t.Fatal(err)
				}
				for d.Next(&r) {
					if r.Problem != None {
						t.Fatal(r.Detail)
					}
				}
			})
			if allocations != 0 {
				t.Errorf("%s: %v allocations for %s", format, allocations, m)
			}
		}
	}
	counted := with(t, string(messages[TwilioMessage]), "num_segments", `"0"`)
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Reset(TwilioMessage, 1, northAmerica, counted); err != nil || !d.Next(&r) {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("counting segments allocates %v times", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	messages := benchmarkMessages(b)
	messages[Tollgate] = append(bytes.TrimSuffix([]byte(call), []byte("}")), `,"carrier":"example-east","trunk":"trunk-0007","codec":"PCMU","cause":16,"cell":"310-410-1234-567","note":"abcdefghijklmno"}`...)
	for _, format := range Formats() {
		b.Run(fmt.Sprintf("%s/%dB", format, len(messages[format])), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(messages[format])))
			var d Decoder
			var r Record
			for b.Loop() {
				if err := d.Reset(format, 1, northAmerica, messages[format]); err != nil || !d.Next(&r) || r.Problem != None {
					b.Fatal(err, r.Detail)
				}
			}
		})
	}
}

// BenchmarkDecodeBatch reads lines of one message, in turn different.
func BenchmarkDecodeBatch(b *testing.B) {
	var message []byte
	for i := range 1000 {
		message = fmt.Appendf(message, `{"id":"c-%d","type":"call","direction":"inbound","from":"+1310%07d","to":"+1212%07d","start":"2026-11-22T10:%02d:%02d.123Z","duration":%d,"answered":true,"carrier":"example-east"}`+"\n",
			i, i*7919, i*104729%10_000_000, i%60, i*7%60, i*31%600)
	}
	for name, m := range map[string][]byte{"plain": message, "gzip": gzipped(b, message)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var d Decoder
			var r Record
			records := 0
			for b.Loop() {
				if err := d.Reset(Tollgate, 1, northAmerica, m); err != nil {
					b.Fatal(err)
				}
				for d.Next(&r) {
					records++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
		})
	}
}
