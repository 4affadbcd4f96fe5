package book

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tollgate/tollgate/rater/money"
)

// csvColumns are the columns of a tariff in CSV, and how each goes into a row.
var csvColumns = map[string]func(r *Row, text string) error{
	"service":     func(r *Row, text string) error { r.Service = text; return nil },
	"prefix":      func(r *Row, text string) error { r.Prefix = text; return nil },
	"connect":     func(r *Row, text string) error { r.Connect = text; return nil },
	"rate":        func(r *Row, text string) error { r.Rate = text; return nil },
	"per_seconds": func(r *Row, text string) error { return readSeconds(text, &r.PerSeconds) },
	"initial":     func(r *Row, text string) error { return readSeconds(text, &r.Initial) },
	"increment":   func(r *Row, text string) error { return readSeconds(text, &r.Increment) },
	"minimum":     func(r *Row, text string) error { r.Minimum = text; return nil },
	"segment":     func(r *Row, text string) error { r.Segment = text; return nil },
}

// readSeconds reads whole seconds that may be left out.
func readSeconds(text string, to *uint32) error {
	if text == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no number of seconds", text)
	}
	*to = uint32(seconds)
	return nil
}

// ReadRows reads the rows of a tariff from CSV. The first line names the columns, in any order, by the names that Row
// has in JSON; "service" is needed, a column that is not there is empty in every row. Each row is checked in the
// tariff's currency, and none may have the prefix of another. Errors name the line and the column.
func ReadRows(from io.Reader, currency money.Currency) ([]Row, error) {
	return readRows(from, currency, places{})
}

// readRows is ReadRows for a deck that goes on where others end: no row may be at one of the places already.
func readRows(from io.Reader, currency money.Currency, taken places) ([]Row, error) {
	reader := csv.NewReader(from)
	reader.ReuseRecord = true
	names, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read the line with the names of the columns: %w", err)
	}
	columns, err := checkColumns(names)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for {
		fields, err := reader.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err // which names the line
		}
		var r Row
		for i, name := range columns {
			if err := csvColumns[name](&r, strings.TrimSpace(fields[i])); err != nil {
				line, _ := reader.FieldPos(i)
				return nil, fmt.Errorf("line %d, column %s: %w", line, name, err)
			}
		}
		line, _ := reader.FieldPos(0)
		if _, err := r.Price(currency); err != nil {
			return nil, atLine(line, err)
		}
		if err := taken.take(&r, fmt.Sprintf("on line %d", line)); err != nil {
			return nil, atLine(line, err)
		}
		rows = append(rows, r)
	}
}

// places are the services and prefixes that the rows of a version have, and where each row stands.
type places map[place]string

type place struct{ service, prefix string }

// take notes where a row stands. A second row for the same service and prefix is an error: the log would refuse both.
func (p places) take(r *Row, where string) error {
	at := place{r.Service, r.Prefix}
	if first, taken := p[at]; taken {
		if r.Prefix == "" {
			return fmt.Errorf("%s without a prefix is %s already", r.Service, first)
		}
		return fmt.Errorf("%s with prefix %s is %s already", r.Service, r.Prefix, first)
	}
	p[at] = where
	return nil
}

// elsewhere gives the places as those of another file are to speak of them.
func (p places) elsewhere() places {
	others := make(places, len(p))
	for at := range p {
		others[at] = "among the rows of the file"
	}
	return others
}

// checkColumns gives the names of the columns, once each and known.
func checkColumns(names []string) ([]string, error) {
	columns := make([]string, len(names))
	seen := map[string]bool{}
	for i, name := range names {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if csvColumns[name] == nil {
			return nil, fmt.Errorf("line 1: unknown column %q: use service, prefix, connect, rate, per_seconds, initial, "+
				"increment, minimum, segment", name)
		}
		if seen[name] {
			return nil, fmt.Errorf("line 1: column %q is there twice", name)
		}
		columns[i], seen[name] = name, true
	}
	if !seen["service"] {
		return nil, errors.New(`line 1: there is no column "service"`)
	}
	return columns, nil
}

// atLine says where a row is wrong.
func atLine(line int, err error) error {
	var c *columnError
	if errors.As(err, &c) {
		return fmt.Errorf("line %d, column %s: %w", line, c.column, c.err)
	}
	return fmt.Errorf("line %d: %w", line, err)
}
