package simulation

import (
	"sync"
	"time"
)

// locations keeps zones by name: loading one reads a file. They never change.
var locations sync.Map

// location gives a zone.
func location(zone string) *time.Location {
	if l, ok := locations.Load(zone); ok {
		return l.(*time.Location)
	}
	l, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	locations.Store(zone, l)
	return l
}

// dayIn gives the local day of a time, as days since 1970-01-01, by the calendar of package time.
func dayIn(zone string, ms int64) int32 {
	year, month, day := time.UnixMilli(ms).In(location(zone)).Date()
	return int32(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// midnightAfter gives the first millisecond after ms that is of a later local day.
func midnightAfter(zone string, ms int64) int64 {
	day := dayIn(zone, ms)
	at := ms
	for step := int64(hourMs); step > 0; {
		if dayIn(zone, at+step) > day {
			step /= 2
			continue
		}
		at += step
	}
	return at + 1
}

func rfc3339(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format("01-02T15:04:05.000") }
