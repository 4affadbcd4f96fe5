package book

import "time"

const msPerSecond, secondsPerDay = 1000, 24 * 3600

// Zone is a time zone of the book. It never changes. Its changes of offset are laid out, so that a day is found
// without the work of time.Time.
type Zone struct {
	// Number is how entries name the zone: zones count by their first use in the book, UTC is 0.
	Number uint32
	// Name is the IANA name.
	Name string

	location *time.Location
	// starts[i] is when the offset seconds[i] begins, milliseconds since 1970 UTC; the first begins at planFromMs.
	starts  []int64
	seconds []int64
}

// The span in which the offsets are laid out; times outside take the long way.
var (
	planFromMs  = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	planUntilMs = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
)

// newZone lays out an IANA zone.
func newZone(number uint32, name string) (*Zone, error) {
	location, err := LoadLocation(name)
	if err != nil {
		return nil, err
	}
	z := &Zone{Number: number, Name: name, location: location}
	for t := time.UnixMilli(planFromMs).In(location); ; {
		_, offset := t.Zone()
		z.starts, z.seconds = append(z.starts, t.UnixMilli()), append(z.seconds, int64(offset))
		_, end := t.ZoneBounds()
		if end.IsZero() || end.UnixMilli() >= planUntilMs {
			return z, nil
		}
		if !end.After(t) { // at the end of some leap years ZoneBounds gives the time itself
			end = t.Add(time.Hour)
		}
		t = end
	}
}

// Day gives the local day of a time, as days since 1970-01-01.
func (z *Zone) Day(ms int64) int32 {
	return int32(floorDiv(floorDiv(ms, msPerSecond)+z.offset(ms), secondsPerDay))
}

// offset gives the seconds that local time is ahead of UTC.
func (z *Zone) offset(ms int64) int64 {
	if ms < planFromMs || ms >= planUntilMs {
		_, seconds := time.UnixMilli(ms).In(z.location).Zone()
		return int64(seconds)
	}
	low, high := 0, len(z.starts) // starts[low] ≤ ms < starts[high]
	for high-low > 1 {
		if middle := int(uint(low+high) / 2); z.starts[middle] <= ms {
			low = middle
		} else {
			high = middle
		}
	}
	return z.seconds[low]
}

// NextMidnight gives the first millisecond after ms that belongs to a later local day. It is 00:00 of the next day, or
// what takes its place where a change of offset leaves midnight or a whole day out.
func (z *Zone) NextMidnight(ms int64) int64 {
	const mostMs = 50 * 3600 * msPerSecond // a day with the largest change of offset, and then some
	today, low, high := z.Day(ms), ms, ms+mostMs
	for high-low > 1 {
		if middle := low + (high-low)/2; z.Day(middle) > today {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// floorDiv divides towards minus infinity; b > 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// utcDay is the day that dates what belongs to no account.
func utcDay(ms int64) int32 { return int32(floorDiv(ms, msPerSecond*secondsPerDay)) }
