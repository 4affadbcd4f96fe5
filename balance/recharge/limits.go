package recharge

import "time"

// bucket bounds how many charges are sent: so many per second, so many at once after a silence.
type bucket struct {
	perSecond, burst float64
	tokens           float64
	filled           time.Time
}

func newBucket(perSecond float64, burst int) bucket {
	return bucket{perSecond: perSecond, burst: float64(burst), tokens: float64(burst)}
}

// take takes a token, if there is one.
func (b *bucket) take(now time.Time) bool {
	if elapsed := now.Sub(b.filled); elapsed > 0 {
		if !b.filled.IsZero() {
			b.tokens = min(b.burst, b.tokens+b.perSecond*elapsed.Seconds())
		}
		b.filled = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// breaker leaves a gateway alone that has failed several times in a row.
type breaker struct {
	limit    int
	rest     time.Duration
	failures int // in a row
	until    time.Time
}

// note counts the outcome of one call. It tells whether the gateway is left alone from now on.
func (b *breaker) note(err error, now time.Time) (resting bool) {
	if err == nil {
		b.failures = 0
		return false
	}
	if b.failures++; b.failures < b.limit {
		return false
	}
	b.until = now.Add(b.rest)
	return true
}

// allowed tells how many calls may be tried now, at most n.
func (b *breaker) allowed(n int, now time.Time) int {
	switch {
	case b.failures < b.limit:
		return n
	case now.Before(b.until):
		return 0
	}
	return min(n, 1)
}
