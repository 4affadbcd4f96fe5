package statement

import "testing"

// FuzzParseDay holds that a day is written as it was read.
func FuzzParseDay(f *testing.F) {
	for _, text := range []string{"2026-11-24", "1969-12-31", "0000-01-01", "9999-12-31", "2026-02-29", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if day, err := ParseDay(text); err == nil && day.String() != text {
			t.Fatalf("%q is read as %s", text, day)
		}
	})
}
