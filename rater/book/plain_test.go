package book

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What Encode writes of accounts and numbers is read the quick way, unless a wish or a letter is in it that the quick
// way does not know; and both ways read the same.
func TestPlainRecordsAreReadAlike(t *testing.T) {
	text := rapid.StringMatching(`[!-\[\]-~]{1,20}`).Filter(func(s string) bool { return !strings.ContainsAny(s, `"<>&`) })
	optional := rapid.OneOf(rapid.Just(""), text)
	rapid.Check(t, func(t *rapid.T) {
		account := rapid.Uint32Range(0, 999_999_999).Draw(t, "account")
		records := []Record{
			&AssignNumber{Header: Header{ID: text.Draw(t, "id")}, Number: optional.Draw(t, "number"), Account: account},
			&OpenAccount{Header: Header{ID: text.Draw(t, "id")}, Account: account, Currency: optional.Draw(t, "currency"), Plan: optional.Draw(t, "plan"),
				Zone: optional.Draw(t, "zone"), Threshold: optional.Draw(t, "threshold"), RechargeTo: optional.Draw(t, "target"), Balance: optional.Draw(t, "balance")},
		}
		for _, r := range records {
			value, err := Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			if quick := plainRecord(value); !reflect.DeepEqual(quick, r) {
				t.Fatalf("%s is read as %+v", value, quick)
			}
		}
	})
}

// FuzzPlainRecord holds the quick way to the strict one: what it reads at all, it reads alike.
func FuzzPlainRecord(f *testing.F) {
	for _, value := range []string{
		`{"v":1,"kind":"assign","id":"a","number":"+14155550100","account":7}`,
		`{"v":1,"kind":"account","id":"a","account":7,"currency":"USD","plan":"p","zone":"UTC","threshold":"1","rechargeTo":"2","balance":"3"}`,
		`{"v":1,"kind":"account","id":"","currency":"","plan":"","zone":""}`,
		`{"v":1,"kind":"assign","id":"a","number":"+1","account":07}`, `{"v":1,"kind":"assign","id":"a","number":"\u002b1","account":7}`,
		`{"v":1,"kind":"assign","id":"a","number":"+1","account":-1}`, `{"v":1,"kind":"assign","id":"a","number":"+1","account":7} `,
		`{"v":1,"kind":"assign","id":"a","number":"ü","account":7,"from":"2026-11-24T00:00:00Z"}`, `{"v":1,"kind":"assign","id":"`,
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		quick := plainRecord(value)
		if quick == nil {
			return
		}
		r, err := decodeStrictly(value)
		if refused := quick.header().validate(); (err != nil) != (refused != nil) || !reflect.DeepEqual(quick, r) {
			t.Fatalf("%s is %+v, %v, read strictly %+v, %v", value, quick, refused, r, err)
		}
	})
}
