package book

import "fmt"

// Param describes a parameter of the fold that the book may set.
type Param struct {
	// Name is what SetParam carries, with the unit.
	Name string
	// Number is what the Param entry carries: the parameter's number in balance/ledger.
	Number int64
	// Min and Max bound the value.
	Min, Max int64
}

const hourMs = 3600 * 1000

// Params lists the parameters of the fold. balance/ledger says what they do; the stage before it cannot ask there, so
// the names stand here.
var Params = []Param{
	{"window-ms", 0, hourMs, 366 * 24 * hourMs},
	{"grace-ms", 1, 0, 30 * 24 * hourMs},
	{"back-off-ms", 2, 0, 366 * 24 * hourMs},
	{"attempts", 3, 1, 100},
	{"give-up-after", 4, 1, 250},
	{"results-kept", 5, 1, 1_000_000},
}

func findParam(name string, value int64) (*Param, error) {
	for i := range Params {
		p := &Params[i]
		if p.Name != name {
			continue
		}
		if value < p.Min || value > p.Max {
			return nil, fmt.Errorf("parameter %s cannot be %d: use %d to %d", name, value, p.Min, p.Max)
		}
		return p, nil
	}
	return nil, fmt.Errorf("there is no parameter %q of the fold", name)
}
