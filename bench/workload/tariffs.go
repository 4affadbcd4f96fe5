package workload

import (
	_ "embed" // for tariffs.csv
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// Tariff is a price list.
type Tariff struct {
	// Name identifies the tariff; it is that of its plan.
	Name string
	// Currency is its ISO 4217 code.
	Currency string
	// Rows are its lines. For each number the row of its service with the longest prefix counts.
	Rows []Row
}

// Row is one line of a tariff. Its prefix is one of the number called or written to: of the account's number for inbound
// services, of the other party's for outbound ones. Amounts are decimals of the tariff's currency.
type Row struct {
	Service Service
	// Prefix is the digits that the number begins with.
	Prefix string
	// Connect is the fee of an answered call, PerMinute the price of 60 s, Minimum the least charge of an answered call.
	Connect, PerMinute, Minimum decimal.Decimal
	// InitialSeconds is the least billed time of a call, IncrementSeconds the step beyond it; 0 for messages.
	InitialSeconds, IncrementSeconds int
	// PerSegment is the price of one segment of a message.
	PerSegment decimal.Decimal
}

// Tariffs gives the tariffs. The caller must not change them.
func (w *Workload) Tariffs() []Tariff { return w.tariffs }

//go:embed tariffs.csv
var tariffFile string

// readTariffs reads tariffs.csv and gives every tariff deckRows rows for single exchanges.
func readTariffs(deckRows int) ([]Tariff, error) {
	tariffs := []Tariff{{Name: standard, Currency: "USD"}, {Name: volume, Currency: "USD"}, {Name: europe, Currency: "EUR"}}
	lines, err := csv.NewReader(strings.NewReader(tariffFile)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("cannot read tariffs.csv: %w", err)
	}
	for number, line := range lines[1:] {
		row, err := readRow(line)
		if err != nil {
			return nil, fmt.Errorf("cannot read line %d of tariffs.csv: %w", number+2, err)
		}
		for i := range tariffs {
			if tariffs[i].Name != line[0] {
				continue
			}
			for _, row.Prefix = range strings.Fields(line[2]) {
				tariffs[i].Rows = append(tariffs[i].Rows, row)
			}
		}
	}
	for i := range tariffs {
		tariffs[i].Rows = appendDeck(tariffs[i].Rows, deckRows)
	}
	return tariffs, nil
}

// readRow reads a line but for its tariff and its prefixes. An empty field is 0.
func readRow(line []string) (row Row, err error) {
	var problems []error
	amount := func(text string) decimal.Decimal {
		if text == "" {
			return decimal.Decimal{}
		}
		d, err := decimal.NewFromString(text)
		problems = append(problems, err)
		return d
	}
	seconds := func(text string) int {
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		problems = append(problems, err)
		return n
	}
	row.Service = VoiceIn
	for row.Service.String() != line[1] {
		if row.Service++; row.Service > MessageOut {
			return row, fmt.Errorf("unknown service %q", line[1])
		}
	}
	row.Connect, row.PerMinute, row.Minimum = amount(line[3]), amount(line[4]), amount(line[7])
	row.InitialSeconds, row.IncrementSeconds = seconds(line[5]), seconds(line[6])
	row.PerSegment = amount(line[8])
	return row, errors.Join(problems...)
}

// appendDeck appends rows for that many exchanges, spread over all area codes, with prices as wholesale decks have them.
func appendDeck(rows []Row, count int) []Row {
	for i := range count {
		exchange := uint64(i) * uint64(exchangeCount) / uint64(count)
		rows = append(rows, Row{
			Service:          VoiceOut,
			Prefix:           strconv.FormatUint(nanp(areaCodes[:], exchange*linesPerExchange)/linesPerExchange, 10),
			PerMinute:        decimal.New(int64(150+mix(exchange)%2500), -5),
			InitialSeconds:   6,
			IncrementSeconds: 6,
		})
	}
	return rows
}
