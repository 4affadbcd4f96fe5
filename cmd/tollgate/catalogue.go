package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

func numberCommand() *cobra.Command {
	c := &cobra.Command{Use: "number", Short: "Assign, release and list telephone numbers"}
	var key, from string
	dated := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVar(&key, "key", "", "idempotency key")
		c.Flags().StringVar(&from, "from", "", "from when on, RFC 3339 (default as soon as may be)")
		return c
	}
	assign := &cobra.Command{Use: "assign +NUMBER ACCOUNT", Short: "Give a free number to an account", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				account, err := a.account(args[1])
				if err != nil {
					return err
				}
				wish, err := parseWish(from)
				if err != nil {
					return err
				}
				return a.decideOne(ctx, cmd, &book.AssignNumber{Header: book.Header{ID: newID(key)}, Number: args[0], Account: account.Number, From: wish})
			})
		}}
	release := &cobra.Command{Use: "release +NUMBER", Short: "Take a number from its account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				wish, err := parseWish(from)
				if err != nil {
					return err
				}
				return a.decideOne(ctx, cmd, &book.ReleaseNumber{Header: book.Header{ID: newID(key)}, Number: args[0], From: wish})
			})
		}}
	list := &cobra.Command{Use: "list [ACCOUNT]", Short: "List who owned which number when", Args: cobra.MaximumNArgs(1), RunE: listNumbers}
	c.AddCommand(dated(assign), dated(release), list)
	return c
}

func parseWish(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usagef("%q is no time: write it as 2026-11-24T00:00:00Z", text)
	}
	return t, nil
}

// decideOne writes one record and prints what became of it.
func (a *App) decideOne(ctx context.Context, cmd *cobra.Command, r book.Record) error {
	decisions, err := a.decide(ctx, r)
	if err != nil {
		return err
	}
	return showDecision(newPrinter(cmd), decisions[0])
}

// showDecision prints what became of a record of the book.
func showDecision(p *printer, d book.Decision) error {
	type view struct {
		Kind      string `json:"kind"`
		ID        string `json:"id"`
		Repeated  bool   `json:"repeated,omitempty"`
		Effective string `json:"effective,omitempty"`
		Account   uint32 `json:"account,omitempty"`
	}
	v := view{d.Kind, d.ID, d.Repeated, whenText(d.EffectiveMs), d.Account}
	decided := v.Kind
	if v.Repeated {
		decided += ", before"
	}
	return p.fields(v, "decided", decided, "effective", v.Effective, "id", v.ID)
}

// whenText writes a time of the book; "" for always and for never.
func whenText(ms int64) string {
	if ms == math.MinInt64 || ms == math.MaxInt64 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

func listNumbers(cmd *cobra.Command, args []string) error {
	type view struct {
		Number  string `json:"number"`
		Account uint32 `json:"account"`
		From    string `json:"from,omitempty"`
		Until   string `json:"until,omitempty"`
	}
	return withBook(cmd, func(_ context.Context, a *App) error {
		var only uint32
		if len(args) > 0 {
			account, err := a.account(args[0])
			if err != nil {
				return err
			}
			only = account.Number
		}
		var views []view
		for o := range a.follower.Book().Ownerships() {
			if only == 0 || o.Account == only {
				views = append(views, view{book.FormatNumber(o.Number), o.Account, whenText(o.FromMs), whenText(o.UntilMs)})
			}
		}
		return rows(newPrinter(cmd), views, []string{"number", "account", "from", "until"},
			func(v view) []any { return []any{v.Number, v.Account, v.From, v.Until} })
	})
}

func tariffCommand() *cobra.Command {
	c := &cobra.Command{Use: "tariff", Short: "Import, list and check tariffs"}
	c.AddCommand(tariffImportCommand(), tariffListCommand(), tariffCheckCommand())
	return c
}

// readRates reads a rate deck and checks it.
func readRates(path, currencyCode string) ([]book.Row, error) {
	currency, err := money.ParseCurrency(currencyCode)
	if err != nil {
		return nil, exitError{err, exitUsage}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, exitError{err, exitUsage}
	}
	defer file.Close()
	found, err := book.ReadRows(file, currency)
	if err != nil {
		return nil, refusedf("%s: %w", path, err)
	}
	return found, nil
}

// rowsPerRecord bounds a chunk of a tariff in the book.
const rowsPerRecord = 500

// deck is a version of a tariff that an operator brings.
type deck struct {
	tariff, revision, currency string
	from                       time.Time // the wish; zero is as early as may be
	rows                       []book.Row
}

func tariffImportCommand() *cobra.Command {
	var d deck
	var from string
	c := &cobra.Command{Use: "import TARIFF FILE.csv", Short: "Put a new version of a tariff in force", Args: cobra.ExactArgs(2),
		Long: "Put a new version of a tariff in force. Prices that are in force already are left as they are; those of an earlier version\n" +
			"come into force again. A revision of a name of your own (--revision) is activated once only.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			d.tariff = args[0]
			if d.rows, err = readRates(args[1], d.currency); err != nil {
				return err
			}
			if d.from, err = parseWish(from); err != nil {
				return err
			}
			return withBook(cmd, func(ctx context.Context, a *App) error { return a.decideTariff(ctx, cmd, d) })
		}}
	c.Flags().StringVar(&d.currency, "currency", "USD", "ISO 4217 code of the prices")
	c.Flags().StringVar(&from, "from", "", "in force from when on, RFC 3339 (default as soon as may be)")
	c.Flags().StringVar(&d.revision, "revision", "", "name of the version (default a hash of the rows and of what they replace)")
	return c
}

// decideTariff writes the chunks of a version and activates it, unless its prices are in force already.
func (a *App) decideTariff(ctx context.Context, cmd *cobra.Command, d deck) error {
	b := a.follower.Book()
	if v := d.inForce(b); v != nil && (d.revision == "" || d.revision == v.Revision) {
		return showDecision(newPrinter(cmd), book.Decision{Kind: "tariff", ID: "tariff/" + d.tariff + "/" + v.Revision, Repeated: true, EffectiveMs: v.FromMs})
	}
	if d.revision == "" { // the same rows from the same time, in the place of the same version, are the same version
		d.revision = fmt.Sprintf("%016x", xxhash.Sum64String(fmt.Sprint(d.rows, d.currency, d.from, d.newest(b))))
	}
	records := d.records()
	chunks := records[:len(records)-1]
	for i := 0; i < len(chunks); i += recordsPerAppend {
		if _, err := a.decide(ctx, chunks[i:min(i+recordsPerAppend, len(chunks))]...); err != nil {
			return err
		}
	}
	return a.decideOne(ctx, cmd, records[len(chunks)])
}

// inForce gives the version that has just the deck's prices, if it is in force when the deck is to be.
func (d *deck) inForce(b *book.Book) *book.Version {
	atMs := b.FrontierMs() + 1
	if !d.from.IsZero() {
		atMs = max(atMs, d.from.UnixMilli())
	}
	v := b.VersionAt(d.tariff, atMs)
	if v == nil || v.Currency.String() != d.currency || len(v.Rows) != len(d.rows) {
		return nil
	}
	for i := range d.rows {
		if row, err := d.rows[i].Price(v.Currency); err != nil || row != v.Rows[i] {
			return nil
		}
	}
	return v
}

// newest is the number of the tariff's version that was activated last, 0 if there is none.
func (d *deck) newest(b *book.Book) (number uint32) {
	for v := range b.Versions() {
		if v.Tariff == d.tariff {
			number = v.Number
		}
	}
	return number
}

// records are those of the book that bring the deck: its chunks, then the activation. An id names all that the record
// says, so that a mended deck under the same revision is not taken for the one before.
func (d *deck) records() (records []book.Record) {
	id := func(rows ...book.Row) book.Header {
		return book.Header{ID: fmt.Sprintf("tariff/%s/%s/%d/%016x", d.tariff, d.revision, len(records), xxhash.Sum64String(fmt.Sprint(rows, d.currency, d.from, len(d.rows))))}
	}
	for i := 0; i < len(d.rows); i += rowsPerRecord {
		rows := d.rows[i:min(i+rowsPerRecord, len(d.rows))]
		records = append(records, &book.AddRows{Header: id(rows...), Tariff: d.tariff, Revision: d.revision,
			Currency: d.currency, Chunk: uint32(len(records)), Rows: rows})
	}
	return append(records, &book.ActivateTariff{Header: id(), Tariff: d.tariff, Revision: d.revision,
		Chunks: uint32(len(records)), Rows: uint32(len(d.rows)), From: d.from})
}

func tariffListCommand() *cobra.Command {
	type view struct {
		Number   uint32 `json:"number"`
		Tariff   string `json:"tariff"`
		Revision string `json:"revision"`
		Currency string `json:"currency"`
		Rows     int    `json:"rows"`
		From     string `json:"from,omitempty"`
	}
	return &cobra.Command{Use: "list", Short: "List the versions of all tariffs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBook(cmd, func(_ context.Context, a *App) error {
				var views []view
				for v := range a.follower.Book().Versions() {
					views = append(views, view{v.Number, v.Tariff, v.Revision, v.Currency.String(), len(v.Rows), whenText(v.FromMs)})
				}
				return rows(newPrinter(cmd), views, []string{"number", "tariff", "revision", "currency", "rows", "from"},
					func(v view) []any { return []any{v.Number, v.Tariff, v.Revision, v.Currency, v.Rows, v.From} })
			})
		}}
}

func tariffCheckCommand() *cobra.Command {
	var currency string
	c := &cobra.Command{Use: "check FILE.csv", Short: "Check a rate deck, without a server", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := readRates(args[0], currency)
			if err != nil {
				return err
			}
			counts := map[string]int{}
			for _, r := range found {
				counts[r.Service]++
			}
			pairs := []string{"rows", fmt.Sprint(len(found))}
			for s := price.VoiceIn; s <= price.MessageOut; s++ {
				pairs = append(pairs, s.String(), fmt.Sprint(counts[s.String()]))
			}
			return newPrinter(cmd).fields(map[string]any{"rows": len(found), "services": counts}, pairs...)
		}}
	c.Flags().StringVar(&currency, "currency", "USD", "ISO 4217 code of the prices")
	return c
}

func formatCommand() *cobra.Command {
	c := &cobra.Command{Use: "format", Short: "Say how a carrier topic is written"}
	r := &book.SetFormat{}
	var from, key string
	set := &cobra.Command{Use: "set TOPIC FORMAT", Short: "Point a Kafka topic at a format", Args: cobra.ExactArgs(2),
		Long: "Point a Kafka topic at a format. Messages that arrive within the first two seconds still count as having none: they become\n" +
			"dead letters, which can be replayed.",
		Example: "  tollgate format set carrier.didww didww-voice-in --source didww",
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := decode.ParseFormat(args[1])
			if err != nil {
				return exitError{err, exitUsage}
			}
			r.Topic, r.Format, r.FormatVersion, r.ID = args[0], args[1], format.Newest(), newID(key)
			if r.Source == "" {
				r.Source = r.Topic
			}
			if r.From, err = parseWish(from); err != nil {
				return err
			}
			return withBook(cmd, func(ctx context.Context, a *App) error {
				if a.topics.own(r.Topic) {
					return refusedf("%s is one of Tollgate's own logs: what is not rated from it would come back to it", r.Topic)
				}
				return a.decideOne(ctx, cmd, r)
			})
		}}
	f := set.Flags()
	f.StringVar(&r.DefaultCountry, "default-country", "", "calling code of national numbers, such as 1")
	f.StringVar(&r.Zone, "zone", "", "IANA zone of time stamps that name none (default UTC)")
	f.StringVar(&r.Source, "source", "", "name within which the record ids are unique (default the topic)")
	f.StringVar(&from, "from", "", "from when on, RFC 3339 (default as soon as may be)")
	f.StringVar(&key, "key", "", "idempotency key")
	list := &cobra.Command{Use: "list", Short: "List the formats of all topics", Args: cobra.NoArgs, RunE: listFormats}
	c.AddCommand(set, list)
	return c
}

func listFormats(cmd *cobra.Command, _ []string) error {
	type view struct {
		Topic   string `json:"topic"`
		Format  string `json:"format"`
		Version uint16 `json:"version"`
		Source  string `json:"source"`
		From    string `json:"from,omitempty"`
	}
	return withBook(cmd, func(_ context.Context, a *App) error {
		var views []view
		for f := range a.follower.Book().Formats() {
			views = append(views, view{f.Topic, f.Name, f.Version, f.SourceName, whenText(f.FromMs)})
		}
		return rows(newPrinter(cmd), views, []string{"topic", "format", "version", "source", "from"},
			func(v view) []any { return []any{v.Topic, v.Format, v.Version, v.Source, v.From} })
	})
}
