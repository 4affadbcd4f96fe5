package oracle

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// always is before every time that a record can have.
const always int64 = math.MinInt64

// marginMs is how far behind a record's time the book is asked: part of the product's promise.
const marginMs = 2000

// aheadMs is how far past its append time a record may be dated.
const aheadMs = 60_000

// book is what the operator imported: accounts, numbers, tariffs and formats, as they were when the installation opened.
type book struct {
	accounts map[uint32]*account
	numbers  map[uint64]ownership
	plans    map[string]*tariff
	formats  map[string][]format // by topic, ascending
	windowMs int64               // for how long ids are remembered
}

// account is an account as the book has it.
type account struct {
	number       uint32
	currency     string
	tariff       *tariff
	zone         *time.Location
	openingUnits int64
}

// ownership says who owns a number from a time on.
type ownership struct {
	account *account
	fromMs  int64
}

// format says how a carrier topic is written from a time on.
type format struct {
	fromMs  int64
	carrier carrierFormat
	source  string // name within which ids are unique
	country string // calling code of national numbers, or ""
	zone    *time.Location
}

// ownerAt gives the account that owns a number, nil if none does.
func (b *book) ownerAt(number uint64, ms int64) *account {
	if o, ok := b.numbers[number]; ok && o.fromMs <= ms {
		return o.account
	}
	return nil
}

// formatAt gives the format of a topic, nil if it has none yet.
func (b *book) formatAt(topic string, ms int64) *format {
	list := b.formats[topic]
	i := sort.Search(len(list), func(i int) bool { return list[i].fromMs > ms })
	if i == 0 {
		return nil
	}
	return &list[i-1]
}

// The shape of a book file. Every scalar is its text just as written, so that 0.00850 is no float and +1415 no int.
type (
	bookShape struct {
		Tariffs  []tariffShape  `yaml:"tariffs"`
		Plans    []planShape    `yaml:"plans"`
		Formats  []formatShape  `yaml:"formats"`
		Accounts []accountShape `yaml:"accounts"`
		Numbers  []numberShape  `yaml:"numbers"`
		Params   []paramShape   `yaml:"params"`
	}
	tariffShape struct {
		Tariff   text       `yaml:"tariff"`
		Revision text       `yaml:"revision"`
		Currency text       `yaml:"currency"`
		From     text       `yaml:"from"`
		Rows     []rowShape `yaml:"rows"`
		CSV      text       `yaml:"csv"`
	}
	rowShape struct {
		Service    text `yaml:"service"`
		Prefix     text `yaml:"prefix"`
		Connect    text `yaml:"connect"`
		Rate       text `yaml:"rate"`
		PerSeconds text `yaml:"per_seconds"`
		Initial    text `yaml:"initial"`
		Increment  text `yaml:"increment"`
		Minimum    text `yaml:"minimum"`
		Segment    text `yaml:"segment"`
	}
	planShape struct {
		Plan     text `yaml:"plan"`
		Currency text `yaml:"currency"`
		Tariff   text `yaml:"tariff"`
	}
	formatShape struct {
		Topic   text `yaml:"topic"`
		Format  text `yaml:"format"`
		Version text `yaml:"version"`
		Country text `yaml:"default_country"`
		Zone    text `yaml:"zone"`
		Source  text `yaml:"source"`
		From    text `yaml:"from"`
	}
	accountShape struct {
		Account    text   `yaml:"account"`
		Currency   text   `yaml:"currency"`
		Plan       text   `yaml:"plan"`
		Zone       text   `yaml:"zone"`
		Balance    text   `yaml:"balance"`
		Threshold  text   `yaml:"threshold"`
		RechargeTo text   `yaml:"recharge_to"`
		Numbers    []text `yaml:"numbers"`
	}
	numberShape struct {
		Number  text `yaml:"number"`
		Account text `yaml:"account"`
		From    text `yaml:"from"`
	}
	paramShape struct {
		Param text `yaml:"param"`
		Value text `yaml:"value"`
	}
)

// text is a YAML scalar as it is written, and its line.
type text struct {
	text string
	line int
}

// UnmarshalYAML keeps the text of a scalar.
func (t *text) UnmarshalYAML(node ast.Node) error {
	token := node.GetToken()
	t.line = token.Position.Line
	switch n := node.(type) {
	case *ast.StringNode:
		t.text = n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		t.text = token.Value
	default:
		return fmt.Errorf("line %d: one text or number is wanted", t.line)
	}
	return nil
}

// defaultWindow is for how long ids are remembered where the book does not say.
const defaultWindow = 72 * time.Hour

// readBook reads the book file, and the rate decks that lie beside it.
func readBook(path string) (*book, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the book: %w", err)
	}
	var shape bookShape
	if err := yaml.UnmarshalWithOptions(data, &shape, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("cannot read the book %s: %w", path, err)
	}
	b := &book{accounts: map[uint32]*account{}, numbers: map[uint64]ownership{}, plans: map[string]*tariff{},
		formats: map[string][]format{}, windowMs: defaultWindow.Milliseconds()}
	if err := b.fill(&shape, filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("cannot read the book %s: %w", path, err)
	}
	return b, nil
}

func (b *book) fill(shape *bookShape, folder string) error {
	tariffs := map[string]*tariff{}
	for i := range shape.Tariffs {
		if err := addTariff(tariffs, &shape.Tariffs[i], folder); err != nil {
			return fmt.Errorf("line %d: %w", shape.Tariffs[i].Tariff.line, err)
		}
	}
	for _, p := range shape.Plans {
		t := tariffs[p.Tariff.text]
		if t == nil || t.currency != p.Currency.text {
			return fmt.Errorf("line %d: there is no tariff %q in %s", p.Plan.line, p.Tariff.text, p.Currency.text)
		}
		b.plans[p.Plan.text] = t
	}
	for _, f := range shape.Formats {
		if err := b.addFormat(&f); err != nil {
			return fmt.Errorf("line %d: %w", f.Topic.line, err)
		}
	}
	for i := range shape.Accounts {
		if err := b.addAccount(&shape.Accounts[i]); err != nil {
			return fmt.Errorf("line %d: %w", shape.Accounts[i].Account.line, err)
		}
	}
	for _, n := range shape.Numbers {
		if err := b.addNumber(n.Number.text, n.Account.text, n.From.text); err != nil {
			return fmt.Errorf("line %d: %w", n.Number.line, err)
		}
	}
	for _, p := range shape.Params {
		if p.Param.text != "window-ms" {
			continue
		}
		window, err := strconv.ParseInt(p.Value.text, 10, 64)
		if err != nil {
			return fmt.Errorf("line %d: %w", p.Param.line, err)
		}
		b.windowMs = window
	}
	return nil
}

func addTariff(tariffs map[string]*tariff, shape *tariffShape, folder string) error {
	t := tariffs[shape.Tariff.text]
	if t == nil {
		t = &tariff{currency: shape.Currency.text}
		tariffs[shape.Tariff.text] = t
	}
	if t.currency != shape.Currency.text {
		return fmt.Errorf("tariff %q has two currencies", shape.Tariff.text)
	}
	fromMs, err := since(shape.From.text)
	if err != nil {
		return err
	}
	rows := shape.Rows
	if shape.CSV.text != "" {
		deck, err := readDeck(filepath.Join(folder, shape.CSV.text))
		if err != nil {
			return err
		}
		rows = append(rows[:len(rows):len(rows)], deck...)
	}
	v := version{fromMs: fromMs, rows: map[prefix]*rateRow{}}
	for i := range rows {
		p, row, err := newRow(&rows[i])
		if err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
		if v.rows[p] != nil {
			return fmt.Errorf("row %d: %s has the prefix %q twice", i+1, p.service, p.digits)
		}
		v.rows[p] = row
	}
	t.versions = append(t.versions, v)
	sort.SliceStable(t.versions, func(i, j int) bool { return t.versions[i].fromMs < t.versions[j].fromMs })
	return nil
}

// readDeck reads the rows of a rate deck, whose first line names the columns.
func readDeck(path string) ([]rowShape, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := csv.NewReader(file)
	names, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var rows []rowShape
	for {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var r rowShape
		columns := map[string]*text{"service": &r.Service, "prefix": &r.Prefix, "connect": &r.Connect, "rate": &r.Rate,
			"per_seconds": &r.PerSeconds, "initial": &r.Initial, "increment": &r.Increment, "minimum": &r.Minimum, "segment": &r.Segment}
		for i, name := range names {
			to := columns[strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))]
			if to == nil {
				return nil, fmt.Errorf("%s: there is no column %q", path, name)
			}
			to.text = strings.TrimSpace(fields[i])
		}
		rows = append(rows, r)
	}
}

func (b *book) addFormat(shape *formatShape) error {
	f := format{carrier: formatNames[shape.Format.text], source: shape.Source.text, country: shape.Country.text, zone: time.UTC}
	if f.carrier == 0 || shape.Version.text != "1" {
		return fmt.Errorf("format %q version %q is none that this oracle reads", shape.Format.text, shape.Version.text)
	}
	var err error
	if f.fromMs, err = since(shape.From.text); err != nil {
		return err
	}
	if shape.Zone.text != "" {
		if f.zone, err = time.LoadLocation(shape.Zone.text); err != nil {
			return err
		}
	}
	list := append(b.formats[shape.Topic.text], f)
	sort.SliceStable(list, func(i, j int) bool { return list[i].fromMs < list[j].fromMs })
	b.formats[shape.Topic.text] = list
	return nil
}

func (b *book) addAccount(shape *accountShape) error {
	number, err := strconv.ParseUint(shape.Account.text, 10, 32)
	if err != nil || number == 0 {
		return fmt.Errorf("%q is no account", shape.Account.text)
	}
	a := &account{number: uint32(number), currency: shape.Currency.text, tariff: b.plans[shape.Plan.text]}
	if a.tariff == nil || a.tariff.currency != a.currency {
		return fmt.Errorf("there is no plan %q in %s", shape.Plan.text, a.currency)
	}
	if a.zone, err = time.LoadLocation(shape.Zone.text); err != nil {
		return err
	}
	if a.openingUnits, err = exactUnits(shape.Balance.text, a.currency); err != nil {
		return err
	}
	if b.accounts[a.number] != nil {
		return fmt.Errorf("account %d is there twice", a.number)
	}
	b.accounts[a.number] = a
	for _, n := range shape.Numbers {
		if err := b.addNumber(n.text, shape.Account.text, ""); err != nil {
			return err
		}
	}
	return nil
}

func (b *book) addNumber(number, owner, from string) error {
	digits, plus := strings.CutPrefix(number, "+")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || !plus {
		return fmt.Errorf("%q is no number", number)
	}
	id, err := strconv.ParseUint(owner, 10, 32)
	if err != nil || b.accounts[uint32(id)] == nil {
		return fmt.Errorf("there is no account %q", owner)
	}
	if _, taken := b.numbers[n]; taken {
		return fmt.Errorf("%s has two owners", number)
	}
	fromMs, err := since(from)
	if err != nil {
		return err
	}
	b.numbers[n] = ownership{b.accounts[uint32(id)], fromMs}
	return nil
}

// since reads the time from which something holds; "" is always.
func since(text string) (int64, error) {
	if text == "" {
		return always, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return t.UnixMilli(), nil
}
