package workload

import "time"

// hourShares is how the calls of a real month spread over the hours of the day, in hundredths of a percent.
var hourShares = [24]int64{53, 22, 9, 5, 4, 5, 31, 239, 504, 776, 893, 805, 722, 703, 721, 723, 681, 568, 510, 364, 395, 481, 468, 318}

// MomentOfDay gives the moment, in milliseconds since 1970 UTC, at which a fraction of a day's traffic has passed on the
// UTC day that begins at midnightMs. Who plays n records of a day takes MomentOfDay(midnightMs, i/n) for the i-th nowMs.
func MomentOfDay(midnightMs int64, fraction float64) int64 {
	total := int64(0)
	for _, share := range hourShares {
		total += share
	}
	passed := min(max(fraction, 0), 1) * float64(total)
	hour := 0
	for hour < len(hourShares)-1 && passed > float64(hourShares[hour]) {
		passed -= float64(hourShares[hour])
		hour++
	}
	within := min(passed/float64(hourShares[hour]), 1)
	return midnightMs + int64((float64(hour)+within)*float64(time.Hour.Milliseconds()))
}
