package oracle

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Records are dated within these years; another date is a mistake, such as seconds for milliseconds.
var (
	earliestMs = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	latestMs   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() - 1
)

func plausible(ms int64) bool { return ms >= earliestMs && ms <= latestMs }

const isoSeconds = "2006-01-02T15:04:05"

// parseISO reads a time such as 2026-11-22T10:00:00.123+01:00, in milliseconds. One without an offset is in the zone, or
// refused where zone is nil.
func parseISO(written []byte, zone *time.Location) (ms int64, ok bool) {
	if len(written) < len(isoSeconds) {
		return 0, false
	}
	seconds, rest := string(written[:len(isoSeconds)]), string(written[len(isoSeconds):])
	if seconds[10] == ' ' {
		seconds = seconds[:10] + "T" + seconds[11:]
	}
	local, err := time.Parse(isoSeconds, seconds)
	if err != nil || local.Year() < 1970 || local.Format(isoSeconds) != seconds {
		return 0, false
	}
	millis := int64(0)
	if fraction, dotted := strings.CutPrefix(rest, "."); dotted {
		rest = strings.TrimLeft(fraction, "0123456789")
		digits := fraction[:len(fraction)-len(rest)]
		if digits == "" {
			return 0, false
		}
		millis, _ = strconv.ParseInt((digits + "00")[:3], 10, 64)
	}
	if rest == "" {
		if zone == nil {
			return 0, false
		}
		return inZone(local, zone).UnixMilli() + millis, true
	}
	if len(rest) == 6 && rest[3] == ':' {
		rest = rest[:3] + rest[4:]
	}
	east, ok := parseOffset(rest)
	return local.Add(-east).UnixMilli() + millis, ok
}

// parseOffset reads Z or +hhmm.
func parseOffset(written string) (east time.Duration, ok bool) {
	if written == "Z" {
		return 0, true
	}
	if len(written) != 5 || written[0] != '+' && written[0] != '-' || strings.Trim(written[1:], "0123456789") != "" {
		return 0, false
	}
	hours, _ := strconv.Atoi(written[1:3])
	minutes, _ := strconv.Atoi(written[3:])
	east = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if written[0] == '-' {
		east = -east
	}
	return east, hours < 24 && minutes < 60
}

// inZone places a clock's reading in a zone: the earlier of two where clocks go back, and by the offset before the jump
// where they go forward.
func inZone(local time.Time, zone *time.Location) time.Time {
	if zone == time.UTC {
		return local
	}
	reading := func(t time.Time) time.Time {
		_, east := t.In(zone).Zone()
		return t.UTC().Add(time.Duration(east) * time.Second)
	}
	_, before := local.Add(-24 * time.Hour).In(zone).Zone()
	_, after := local.Add(24 * time.Hour).In(zone).Zone()
	first := local.Add(-time.Duration(before) * time.Second)
	second := local.Add(-time.Duration(after) * time.Second)
	if !reading(first).Equal(local) && reading(second).Equal(local) {
		return second
	}
	return first
}

var rfc2822 = regexp.MustCompile(`^(\d\d?) ([A-Z][a-z][a-z]) (\d{4}) (\d\d:\d\d:\d\d) (GMT|UTC|[+-]\d{4})$`)

// parseRFC2822 reads a time such as Tue, 31 Aug 2010 20:36:29 +0000, in milliseconds.
func parseRFC2822(written []byte) (ms int64, ok bool) {
	if len(written) > 5 && string(written[3:5]) == ", " { // the day of the week says nothing new
		written = written[5:]
	}
	found := rfc2822.FindSubmatch(written)
	if found == nil {
		return 0, false
	}
	day := string(found[1])
	local, err := time.Parse("2 Jan 2006 15:04:05", day+" "+string(found[2])+" "+string(found[3])+" "+string(found[4]))
	if err != nil || local.Year() < 1970 {
		return 0, false
	}
	zone := string(found[5])
	if zone == "GMT" || zone == "UTC" {
		return local.UnixMilli(), true
	}
	east, ok := parseOffset(zone)
	return local.Add(-east).UnixMilli(), ok
}

// dayOf gives the day of a time in a zone, in days since 1970.
func dayOf(ms int64, zone *time.Location) int32 {
	t := time.UnixMilli(ms)
	_, east := t.In(zone).Zone()
	seconds := t.Unix() + int64(east)
	days := seconds / 86_400
	if seconds%86_400 < 0 {
		days--
	}
	return int32(days)
}
