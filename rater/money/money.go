// Package money holds amounts: int64 counts of millionths of a currency's minor unit.
//
// For US dollars one unit is 10⁻⁸ dollars, for yen 10⁻⁶ yen, for Kuwaiti dinars 10⁻⁹ dinars. Integers travel
// through the hot path; decimals exist only at the edges (config, API, rate decks, printing). The package is
// pure and knows nothing of accounts or prices.
package money

// Amount is a sum of money in units: millionths of the currency's minor unit. The currency is that of the account.
type Amount int64

// UnitsPerMinor is the number of units in one minor unit (one cent, one yen) of every currency.
const UnitsPerMinor = 1_000_000

// Limit bounds every balance and every single amount, in either sign. Redis scripts count in doubles, which are
// exact up to 2⁵³ ≈ 9.007·10¹⁵.
const Limit Amount = 9_000_000_000_000_000
