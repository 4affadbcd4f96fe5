// Package price turns what happened (seconds of talk, segments of a message) into a charge, by one row of a tariff.
//
// It is pure: no clock, no I/O, no allocation. Prices are exact rationals until the single rounding at the end,
// and a charge carries its explanation. It never looks up a tariff (rater/book does) and never sees a balance.
package price
