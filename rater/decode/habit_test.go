package decode

import (
	"reflect"
	"testing"
)

// FuzzHabits holds a decoder that has read another message before to one that has not: what a message becomes must not
// depend on what came before it.
func FuzzHabits(f *testing.F) {
	for _, second := range []string{
		call, call[:len(call)-1], call + call, `[` + call + `,` + call + `]`,
		`{"id":"a"}`, `{"id" :"a"}`, `{"id":`, `{"id"`, `{"idx":1,"id":"a","type":"call"}`, `{"\u0069d":"a"}`, `{"id":"a","type":"message"}`,
		`{"id":"a","type" : "call", "direction":"inbound"}`, `{"type":"call","id":"a"}`, `{"x":{"id":"a"},"id":"b"}`, `{"answered":true`,
	} {
		f.Add([]byte(call), []byte(second), uint8(Tollgate))
		f.Add([]byte(second), []byte(call), uint8(Tollgate))
		f.Add([]byte(second), []byte(second), uint8(TwilioCall))
	}
	for format, message := range benchmarkMessages(f) {
		f.Add(message, message, uint8(format))
	}
	f.Fuzz(func(t *testing.T, first, second []byte, number uint8) {
		format := Format(number)
		var used, fresh Decoder
		if len(first)+len(second) > 1<<16 || used.Reset(format, 1, northAmerica, first) != nil {
			return
		}
		var got, want Record
		for used.Next(&got) {
		}
		if used.Reset(format, 1, northAmerica, second) != nil || fresh.Reset(format, 1, northAmerica, second) != nil {
			t.Fatal("the same version is unknown")
		}
		for {
			more := used.Next(&got)
			if fresh.Next(&want) != more || !reflect.DeepEqual(got, want) {
				t.Fatalf("after %q, %q is %+v instead of %+v", first, second, got, want)
			}
			if !more {
				return
			}
		}
	})
}
