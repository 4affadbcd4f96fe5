package book

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testZones = []string{"UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
	"America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Africa/Casablanca", "America/Havana", "Pacific/Kiritimati"}

func zoneOf(t testing.TB, name string) *Zone {
	t.Helper()
	z, err := newZone(1, name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// dayByCalendar is Day by package time alone.
func dayByCalendar(z *Zone, ms int64) int32 {
	year, month, day := time.UnixMilli(ms).In(z.location).Date()
	return int32(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay)
}

func TestDayIsTheCalendars(t *testing.T) {
	for _, name := range testZones {
		z := zoneOf(t, name)
		rapid.Check(t, func(t *rapid.T) {
			ms := rapid.OneOf(rapid.Int64Range(planFromMs, planUntilMs),
				rapid.Int64Range(1_400_000_000_000, 1_900_000_000_000),
				rapid.Int64Range(0, 4*planUntilMs),
				rapid.Map(rapid.SampledFrom(z.starts), func(ms int64) int64 { return ms - 1 }),
				rapid.SampledFrom(z.starts)).Draw(t, "ms")
			if got, want := z.Day(ms), dayByCalendar(z, ms); got != want {
				t.Fatalf("%s at %d: day %d, want %d", name, ms, got, want)
			}
		})
	}
}

func TestNextMidnightIsTheFirstInstantOfALaterDay(t *testing.T) {
	for _, name := range testZones {
		z := zoneOf(t, name)
		rapid.Check(t, func(t *rapid.T) {
			ms := rapid.OneOf(rapid.Int64Range(planFromMs, 4*planUntilMs),
				rapid.Map(rapid.SampledFrom(z.starts), func(ms int64) int64 { return ms - 90*60*1000 }),
				rapid.SampledFrom(z.starts)).Draw(t, "ms")
			midnight, today := z.NextMidnight(ms), dayByCalendar(z, ms)
			for step := ms; step < midnight; step += 60_000 { // changes of offset happen at whole minutes
				if dayByCalendar(z, step) > today {
					t.Fatalf("%s at %d: %d is already the next day, the midnight given is %d", name, ms, step, midnight)
				}
			}
			if dayByCalendar(z, midnight) <= today || dayByCalendar(z, midnight-1) > today {
				t.Fatalf("%s at %d: %d is not the first instant of a later day", name, ms, midnight)
			}
		})
	}
}

func TestSkippedDayAndMissingMidnight(t *testing.T) {
	at := func(name, text string) time.Time {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		when, err := time.ParseInLocation("2006-01-02 15:04", text, z)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	// Samoa had no 30 December 2011. In São Paulo 4 November 2018 began at 01:00.
	for _, c := range []struct{ zone, ms, midnight string }{
		{"Pacific/Apia", "2011-12-29 10:00", "2011-12-31 00:00"},
		{"America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 01:00"},
		{"America/New_York", "2026-03-08 00:00", "2026-03-09 00:00"},
		{"America/New_York", "2026-11-01 00:00", "2026-11-02 00:00"},
	} {
		got := zoneOf(t, c.zone).NextMidnight(at(c.zone, c.ms).UnixMilli())
		if want := at(c.zone, c.midnight).UnixMilli(); got != want {
			t.Errorf("%s %s: %s, want %s", c.zone, c.ms, time.UnixMilli(got), time.UnixMilli(want))
		}
	}
}

func TestUnknownZonesAreRefused(t *testing.T) {
	for _, name := range []string{"", "Local", "Mars/Olympus", "../etc/passwd"} {
		if _, err := newZone(1, name); err == nil {
			t.Errorf("zone %q was taken", name)
		}
	}
}

func BenchmarkDay(b *testing.B) {
	z := zoneOf(b, "America/New_York")
	ms := int64(1_790_000_000_000)
	for b.Loop() {
		ms = planFromMs + (ms+3_600_123_457)%(planUntilMs-planFromMs)
		if z.Day(ms) < 0 {
			b.Fatal("a day before 1970")
		}
	}
}
