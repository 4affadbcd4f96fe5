package statement

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/tollgate/tollgate/rater/money"
)

// category is what a line of usage is about.
func (u *Usage) category() string {
	if u.Late {
		return u.Service + ", late usage"
	}
	return u.Service
}

func (s *Statement) status() string {
	if s.Closed {
		return "closed"
	}
	return "provisional"
}

func (s *Statement) amount(a money.Amount) string { return s.Currency.Format(a) }

// WriteTable writes the statement for people to read.
func (s *Statement) WriteTable(w io.Writer) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	days := s.From.String()
	if s.To != s.From {
		days += " to " + s.To.String()
	}
	t.SetTitle(fmt.Sprintf("Account %d %s\n%s (%s), %s as of %s", s.Account, printable(s.Label), days, s.Zone, s.status(), s.AsOf.UTC().Format(time.RFC3339)))
	t.AppendHeader(table.Row{"number", "what", "count", "seconds", "billed", s.Currency.String()})
	t.AppendRow(table.Row{"", "opening balance", "", "", "", s.amount(s.Opening)})
	t.AppendSeparator()
	for i := range s.Usage {
		u := &s.Usage[i]
		t.AppendRow(table.Row{numberText(u.Number), u.category(), u.Count, u.DurationSeconds, u.Billed, s.amount(u.Amount)})
	}
	for i := range s.Changes {
		c := &s.Changes[i]
		what := strings.TrimSpace(c.Day.String() + " " + c.Kind + " " + printable(c.Note))
		t.AppendRow(table.Row{numberText(c.Number), what, "", "", "", s.amount(c.Amount)})
	}
	t.AppendSeparator()
	t.AppendRow(table.Row{"", "closing balance", "", "", "", s.amount(s.Closing)})
	var columns []table.ColumnConfig
	for i := 3; i <= 6; i++ {
		columns = append(columns, table.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	_, err := io.WriteString(w, t.Render()+"\n")
	return err
}

// printable leaves out what could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

func numberText(number uint64) string {
	if number == 0 {
		return ""
	}
	return strconv.FormatUint(number, 10)
}

// jsonStatement is the statement as programs read it: amounts are decimal strings of the currency.
type jsonStatement struct {
	Account  uint32       `json:"account"`
	Label    string       `json:"label"`
	Currency string       `json:"currency"`
	Zone     string       `json:"zone"`
	From     string       `json:"from"`
	To       string       `json:"to"`
	Status   string       `json:"status"`
	AsOf     time.Time    `json:"as_of"`
	Opening  string       `json:"opening"`
	Usage    []jsonUsage  `json:"usage"`
	Changes  []jsonChange `json:"changes"`
	Closing  string       `json:"closing"`
}

type jsonUsage struct {
	Number          string `json:"number"`
	Service         string `json:"service"`
	Late            bool   `json:"late"`
	Count           uint64 `json:"count"`
	DurationSeconds uint64 `json:"duration_seconds"`
	Billed          uint64 `json:"billed"`
	Amount          string `json:"amount"`
}

type jsonChange struct {
	Time   time.Time `json:"time"`
	Day    string    `json:"day"`
	Kind   string    `json:"kind"`
	Number string    `json:"number,omitempty"`
	Note   string    `json:"note,omitempty"`
	Amount string    `json:"amount"`
}

// WriteJSON writes the statement as one JSON object.
func (s *Statement) WriteJSON(w io.Writer) error {
	j := jsonStatement{
		Account: s.Account, Label: s.Label, Currency: s.Currency.String(), Zone: s.Zone, From: s.From.String(), To: s.To.String(),
		Status: s.status(), AsOf: s.AsOf.UTC(), Opening: s.amount(s.Opening), Usage: []jsonUsage{}, Changes: []jsonChange{}, Closing: s.amount(s.Closing),
	}
	for i := range s.Usage {
		u := &s.Usage[i]
		j.Usage = append(j.Usage, jsonUsage{numberText(u.Number), u.Service, u.Late, u.Count, u.DurationSeconds, u.Billed, s.amount(u.Amount)})
	}
	for i := range s.Changes {
		c := &s.Changes[i]
		j.Changes = append(j.Changes, jsonChange{c.Time.UTC(), c.Day.String(), c.Kind, numberText(c.Number), c.Note, s.amount(c.Amount)})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(j)
}

// WriteCSV writes the statement's lines for a spreadsheet: text that such a program would take for a formula begins with
// an apostrophe.
func (s *Statement) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	header := []string{"account", "currency", "from", "to", "status", "line", "day", "number", "count", "seconds", "billed", "amount", "note"}
	line := func(what, day, number, count, seconds, billed string, amount money.Amount, note string) []string {
		return []string{strconv.FormatUint(uint64(s.Account), 10), s.Currency.String(), s.From.String(), s.To.String(), s.status(),
			what, day, number, count, seconds, billed, s.amount(amount), neutral(note)}
	}
	lines := [][]string{header, line("opening balance", "", "", "", "", "", s.Opening, s.Label)}
	for i := range s.Usage {
		u := &s.Usage[i]
		lines = append(lines, line(u.category(), "", numberText(u.Number), strconv.FormatUint(u.Count, 10),
			strconv.FormatUint(u.DurationSeconds, 10), strconv.FormatUint(u.Billed, 10), u.Amount, ""))
	}
	for i := range s.Changes {
		c := &s.Changes[i]
		lines = append(lines, line(c.Kind, c.Day.String(), numberText(c.Number), "", "", "", c.Amount, c.Note))
	}
	lines = append(lines, line("closing balance", "", "", "", "", "", s.Closing, ""))
	return out.WriteAll(lines)
}

// neutral keeps a spreadsheet from taking text for a formula. Amounts are made here and need no such care.
func neutral(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
