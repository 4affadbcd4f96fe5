package decode

import "time"

// Event times before 1980 or after the year 9999 are mistakes, such as seconds where milliseconds are wanted.
const (
	minEventMs = 315_532_800_000
	maxEventMs = 253_402_300_799_999
)

// parseISO reads the profile of ISO 8601 that RFC 3339 describes, with T or a space in the middle, as milliseconds
// since 1970 UTC; finer fractions are cut. A stamp without an offset is taken in the zone, or refused if zone is nil.
func parseISO(s []byte, zone *time.Location) (ms int64, ok bool) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || s[10] != 'T' && s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	seconds, ok := civil(digits(s[0:4]), digits(s[5:7]), digits(s[8:10]), digits(s[11:13]), digits(s[14:16]), digits(s[17:19]))
	if !ok {
		return 0, false
	}
	fractionMs, rest, ok := cutFraction(s[19:])
	if !ok {
		return 0, false
	}
	if len(rest) == 0 {
		return (seconds-localOffset(seconds, zone))*1000 + fractionMs, zone != nil
	}
	offset, ok := parseOffset(rest)
	return (seconds-offset)*1000 + fractionMs, ok
}

// cutFraction reads the fraction that s begins with, if any, as milliseconds.
func cutFraction(s []byte) (ms int64, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '.' {
		return 0, s, true
	}
	end, ok := scanDigits(s, 1)
	for i := 1; i <= 3; i++ {
		ms *= 10
		if i < end {
			ms += int64(s[i] - '0')
		}
	}
	return ms, s[end:], ok
}

// parseOffset reads Z, +hh:mm or +hhmm as seconds east of UTC.
func parseOffset(s []byte) (seconds int64, ok bool) {
	if len(s) == 1 {
		return 0, s[0] == 'Z'
	}
	if len(s) == 6 && s[3] == ':' {
		s = append(append(make([]byte, 0, 5), s[:3]...), s[4:]...) // stays on the stack
	}
	if len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	hours, minutes := digits(s[1:3]), digits(s[3:5])
	seconds = int64(hours*3600 + minutes*60)
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60
}

// parseRFC2822 reads "Tue, 31 Aug 2010 20:36:29 +0000" as milliseconds since 1970 UTC. The day of the week may be
// missing and is not checked; the zone is an offset, GMT or UTC.
func parseRFC2822(s []byte) (ms int64, ok bool) {
	if len(s) > 5 && s[3] == ',' && s[4] == ' ' {
		s = s[5:]
	}
	if len(s) > 1 && s[1] == ' ' { // a day of one digit
		day := digits(s[:1])
		return parseFromMonth(s[1:], day)
	}
	if len(s) < 2 {
		return 0, false
	}
	return parseFromMonth(s[2:], digits(s[:2]))
}

// parseFromMonth reads the rest, " Aug 2010 20:36:29 +0000".
func parseFromMonth(s []byte, day int) (ms int64, ok bool) {
	if len(s) < 22 || s[0] != ' ' || s[4] != ' ' || s[9] != ' ' || s[12] != ':' || s[15] != ':' || s[18] != ' ' {
		return 0, false
	}
	seconds, ok := civil(digits(s[5:9]), month(s[1:4]), day, digits(s[10:12]), digits(s[13:15]), digits(s[16:18]))
	if !ok {
		return 0, false
	}
	zone := s[19:]
	if name := string(zone); name == "GMT" || name == "UTC" {
		return seconds * 1000, true
	}
	offset, ok := parseOffset(zone)
	return (seconds - offset) * 1000, ok && len(zone) == 5
}

func month(name []byte) int {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for i := 0; i < len(names); i += 3 {
		if string(name) == names[i:i+3] {
			return i/3 + 1
		}
	}
	return 0
}

// digits reads s, all of it digits, as a number; -1 if it is not. s is short.
func digits(s []byte) int {
	n := 0
	for _, c := range s {
		if c-'0' > 9 {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// civil gives the seconds since 1970 of a date and time of the Gregorian calendar, taken as UTC. Leap seconds are not
// seconds of that count: a :60 is not ok.
func civil(year, month, day, hour, minute, second int) (seconds int64, ok bool) {
	if year < 1970 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	// Years are counted from March, so that the leap day is the last of its year.
	if month <= 2 {
		year--
		month += 12
	}
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719_468
	return int64(days)*86_400 + int64(hour*3600+minute*60+second), true
}

func daysIn(year, month int) int {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// localOffset gives the zone's offset at a local time, seconds east of UTC. A time that a zone has twice, when clocks go
// back, is the first of the two; one that it skips is read with the offset from before the jump.
func localOffset(local int64, zone *time.Location) int64 {
	if zone == nil || zone == time.UTC {
		return 0
	}
	const day = 86_400
	before, after := offsetAt(local-day, zone), offsetAt(local+day, zone)
	if before != after && offsetAt(local-before, zone) != before && offsetAt(local-after, zone) == after {
		return after
	}
	return before
}

func offsetAt(unixSeconds int64, zone *time.Location) int64 {
	_, offset := time.Unix(unixSeconds, 0).In(zone).Zone()
	return int64(offset)
}
