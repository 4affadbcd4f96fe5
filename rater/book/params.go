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
	{"results-kept", 5, 1, 100_000},
}

// mostResultsKept is up to which the log takes results-kept. Earlier builds wrote such values, and what a log has accepted
// stays accepted; every shard refuses those beyond the table's bound, and goes on with what it had.
const mostResultsKept = 1_000_000

// CheckParam tells why a parameter cannot be set to a value, nil if it can. Whoever writes to the log asks it first.
func CheckParam(name string, value int64) error {
	p, err := findParam(name, value)
	if err == nil && value > p.Max {
		err = outOfBounds(p, value)
	}
	return err
}

func outOfBounds(p *Param, value int64) error {
	return fmt.Errorf("parameter %s cannot be %d: use %d to %d", p.Name, value, p.Min, p.Max)
}

// findParam finds the parameter that a record of the log sets, if the log takes the value.
func findParam(name string, value int64) (*Param, error) {
	for i := range Params {
		p := &Params[i]
		if p.Name != name {
			continue
		}
		most := p.Max
		if p.Name == "results-kept" {
			most = mostResultsKept
		}
		if value < p.Min || value > most {
			return nil, outOfBounds(p, value)
		}
		return p, nil
	}
	return nil, fmt.Errorf("there is no parameter %q of the fold", name)
}
