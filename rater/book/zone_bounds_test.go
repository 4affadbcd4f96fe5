package book

import (
	"testing"
	"time"
)

// TestZonesAgreeWithTime holds the laid-out offsets to package time, hour by hour around every new year and in
// steps of a week otherwise. It guards against time.ZoneBounds standing still at the end of a year.
func TestZonesAgreeWithTime(t *testing.T) {
	for _, name := range []string{"America/New_York", "Europe/Berlin", "Australia/Sydney", "Asia/Kolkata", "America/Sao_Paulo", "Africa/Casablanca", "UTC"} {
		z, err := newZone(1, name)
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2100; {
			_, want := at.In(z.location).Zone()
			if got := z.offset(at.UnixMilli()); got != int64(want) {
				t.Fatalf("%s at %s: %d s ahead of UTC, time says %d", name, at, got, want)
			}
			if at.Month() == time.December && at.Day() > 24 || at.Month() == time.January && at.Day() < 3 {
				at = at.Add(time.Hour)
			} else {
				at = at.Add(7 * 24 * time.Hour)
			}
		}
	}
}
