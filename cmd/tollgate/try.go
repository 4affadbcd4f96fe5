package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
)

// formatFlags are how decode and rate are told what they read.
type formatFlags struct{ format, country, zone string }

func (f *formatFlags) register(c *cobra.Command) {
	c.Flags().StringVarP(&f.format, "format", "f", "", "format of the records, such as tollgate or twilio-call")
	c.Flags().StringVar(&f.country, "default-country", "", "calling code of national numbers, such as 1")
	c.Flags().StringVar(&f.zone, "zone", "UTC", "IANA zone of time stamps that name none")
	_ = c.MarkFlagRequired("format")
	_ = c.RegisterFlagCompletionFunc("format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, format := range decode.Formats() {
			names = append(names, format.String())
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

func (f *formatFlags) mapping() (decode.Format, *decode.Mapping, error) {
	format, err := decode.ParseFormat(f.format)
	if err != nil {
		return 0, nil, exitError{err, exitUsage}
	}
	zone, err := book.LoadLocation(f.zone)
	if err != nil {
		return 0, nil, exitError{err, exitUsage}
	}
	mapping := &decode.Mapping{DefaultCountry: f.country, Zone: zone}
	if err := mapping.Validate(); err != nil {
		return 0, nil, exitError{err, exitUsage}
	}
	return format, mapping, nil
}

// input reads the file that is named, or standard input. It is taken for one message of a carrier.
func input(args []string) ([]byte, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, decode.MaxMessageBytes+1))
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, exitError{err, exitUsage}
	}
	return text, nil
}

func decodeCommand() *cobra.Command {
	var flags formatFlags
	c := &cobra.Command{
		Use: "decode --format NAME [FILE]", Short: "Show field by field what a carrier's record becomes, or why it is refused",
		Args: cobra.MaximumNArgs(1), Example: "  tollgate decode --format twilio-call call.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			format, mapping, err := flags.mapping()
			if err != nil {
				return err
			}
			message, err := input(args)
			if err != nil {
				return err
			}
			var d decode.Decoder
			if err := d.Reset(format, format.Newest(), mapping, message); err != nil {
				return err
			}
			p := newPrinter(cmd)
			var r decode.Record
			refused := 0
			for ix := 0; d.Next(&r); ix++ {
				if r.Problem != decode.None {
					refused++
				}
				if err := printFields(p, ix, d.Fields(&r)); err != nil {
					return err
				}
			}
			if refused > 0 {
				return refusedf("%d records are refused", refused)
			}
			return nil
		},
	}
	flags.register(c)
	return c
}

// printFields prints one decoded record.
func printFields(p *printer, ix int, fields []decode.Field) error {
	if p.json {
		v := map[string]any{"ix": ix}
		for _, f := range fields {
			v[f.Name] = f.Value
		}
		return p.value(v)
	}
	p.say("record %d", ix)
	return rows(p, fields, []string{"field", "from", "value"}, func(f decode.Field) []any { return []any{f.Name, f.Key, f.Value} })
}

// ratedView is a priced record, or the reason why it has no price.
type ratedView struct {
	Ix          uint32             `json:"ix"`
	ID          string             `json:"id,omitempty"`
	Number      string             `json:"number,omitempty"`
	Peer        string             `json:"peer,omitempty"`
	Event       string             `json:"event,omitempty"`
	Account     uint32             `json:"account,omitempty"`
	Service     string             `json:"service,omitempty"`
	Charge      string             `json:"charge,omitempty"`
	Currency    string             `json:"currency,omitempty"`
	Tariff      string             `json:"tariff,omitempty"`
	Prefix      string             `json:"prefix,omitempty"`
	Explanation *price.Explanation `json:"explanation,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	Detail      string             `json:"detail,omitempty"`
}

func rateCommand() *cobra.Command {
	var flags formatFlags
	var bookFile string
	c := &cobra.Command{
		Use: "rate --format NAME --book FILE [FILE]", Short: "Price records with the production code: one JSON line a record",
		Args: cobra.MaximumNArgs(1), Example: "  tollgate rate --format tollgate --book book.yml records.ndjson",
		RunE: func(cmd *cobra.Command, args []string) error {
			format, mapping, err := flags.mapping()
			if err != nil {
				return err
			}
			file, err := loadBookFile(bookFile)
			if err != nil {
				return err
			}
			b, err := file.Book()
			if err != nil {
				return exitError{fmt.Errorf("%s: %w", bookFile, err), exitUsage}
			}
			message, err := input(args)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			return errors.Join(rateAll(&printer{out: out, json: true}, b, format, mapping, message), out.Flush())
		},
	}
	flags.register(c)
	c.Flags().StringVarP(&bookFile, "book", "b", "", "book file with accounts, numbers, plans and tariffs")
	_ = c.MarkFlagRequired("book")
	return c
}

// rateAll prices every record of the message. Records count as received when they happened, so none is too far ahead.
func rateAll(p *printer, b *book.Book, format decode.Format, mapping *decode.Mapping, message []byte) error {
	var d decode.Decoder
	if err := d.Reset(format, format.Newest(), mapping, message); err != nil {
		return err
	}
	source := book.SourceInfo{Format: &book.Format{Topic: "file", Format: format, Name: format.String(), Version: format.Newest(), Mapping: *mapping}}
	var r decode.Record
	var e entry.Entry
	for position := (entry.Position{}); d.Next(&r); position.Ix++ {
		if _, ready := b.Rate(&r, &source, position, r.EventMs, &e); !ready {
			return fmt.Errorf("BUG: a book without a log has no end, and yet record %d waits for it", position.Ix)
		}
		if err := p.value(rated(b, &r, &e)); err != nil {
			return err
		}
	}
	return nil
}

// rated shows what became of one record.
func rated(b *book.Book, r *decode.Record, e *entry.Entry) ratedView {
	v := ratedView{Ix: e.Position.Ix, ID: string(e.ID), Peer: string(e.Peer), Account: e.Account, Detail: r.Detail}
	if e.Number != 0 {
		v.Number = book.FormatNumber(e.Number)
	}
	if r.EventMs != 0 {
		v.Event = time.UnixMilli(r.EventMs).UTC().Format(time.RFC3339Nano)
	}
	if r.Service.Valid() {
		v.Service = r.Service.String()
	}
	if e.Kind != entry.Usage {
		v.Reason = e.Reason.String()
		return v
	}
	version := b.Version(e.Tariff)
	row := &version.Rows[e.Row]
	v.Charge, v.Currency, v.Tariff = version.Currency.Format(-e.AmountUnits), version.Currency.String(), version.Tariff
	if row.PrefixDigits > 0 {
		v.Prefix = strconv.FormatUint(row.Prefix, 10)
	}
	if explanation, ok := price.Explain(row, r.DurationSeconds, r.Segments, version.Currency); ok {
		v.Explanation = &explanation
	}
	return v
}
