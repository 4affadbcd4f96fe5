// Package simulation runs the production loops of all stages in one goroutine, under one seed, against a world of fakes
// that fails in every way it can, and then asks a naive oracle whether a record was lost or charged twice.
//
// It stands outside of the flow: the loops of rate, debit, store, late, act, recharge and audit are the code of production,
// the logs serve real record batches through the decoder of production, and Redis is the fold of balance/ledger behind
// the protocol of the script. Time is virtual. Every call to a fake yields to a scheduler that draws from the seed who
// goes on and what fails, so a seed runs the same, step for step, as often as one likes. Nothing of production imports it.
package simulation
