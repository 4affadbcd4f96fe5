package book

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/money"
)

// rowsPerChunk bounds a chunk of a tariff that a file is cut into, so that a record stays below 100 kB.
const rowsPerChunk = 500

// MaxImportIDBytes bounds the id of an import: the ids of its records begin with it.
const MaxImportIDBytes = 36

// File is a book that people wrote: accounts, numbers, plans, tariffs and formats in YAML. README.md and
// testdata/example.yml show all of it.
type File struct {
	records []FileRecord
}

// FileRecord is a record that a file makes.
type FileRecord struct {
	Record Record
	// Line is where in the file it stands.
	Line int
	// Replaces tells, of what Changes gives, that the log says something else of the same thing.
	Replaces bool
}

// The shape of the file. A scalar is its text just as it is written, so that 0.00850 is not a float, nor +1415 an int.
type (
	fileShape struct {
		Tariffs  []fileTariff  `yaml:"tariffs"`
		Plans    []filePlan    `yaml:"plans"`
		Formats  []fileFormat  `yaml:"formats"`
		Accounts []fileAccount `yaml:"accounts"`
		Numbers  []fileNumber  `yaml:"numbers"`
		Params   []fileParam   `yaml:"params"`
	}
	fileTariff struct {
		Tariff   scalar    `yaml:"tariff"`
		Revision scalar    `yaml:"revision"`
		Currency scalar    `yaml:"currency"`
		From     scalar    `yaml:"from"`
		Rows     []fileRow `yaml:"rows"`
		CSV      scalar    `yaml:"csv"`
	}
	fileRow struct {
		Service    scalar `yaml:"service"`
		Prefix     scalar `yaml:"prefix"`
		Connect    scalar `yaml:"connect"`
		Rate       scalar `yaml:"rate"`
		PerSeconds scalar `yaml:"per_seconds"`
		Initial    scalar `yaml:"initial"`
		Increment  scalar `yaml:"increment"`
		Minimum    scalar `yaml:"minimum"`
		Segment    scalar `yaml:"segment"`
	}
	filePlan struct {
		Plan     scalar `yaml:"plan"`
		Currency scalar `yaml:"currency"`
		Tariff   scalar `yaml:"tariff"`
	}
	fileFormat struct {
		Topic          scalar `yaml:"topic"`
		Format         scalar `yaml:"format"`
		Version        scalar `yaml:"version"`
		DefaultCountry scalar `yaml:"default_country"`
		Zone           scalar `yaml:"zone"`
		Source         scalar `yaml:"source"`
		From           scalar `yaml:"from"`
	}
	fileAccount struct {
		Account    scalar   `yaml:"account"`
		Currency   scalar   `yaml:"currency"`
		Plan       scalar   `yaml:"plan"`
		Zone       scalar   `yaml:"zone"`
		Balance    scalar   `yaml:"balance"`
		Threshold  scalar   `yaml:"threshold"`
		RechargeTo scalar   `yaml:"recharge_to"`
		Numbers    []scalar `yaml:"numbers"`
	}
	fileNumber struct {
		Number  scalar `yaml:"number"`
		Account scalar `yaml:"account"`
		From    scalar `yaml:"from"`
	}
	fileParam struct {
		Param scalar `yaml:"param"`
		Value scalar `yaml:"value"`
	}
)

// scalar is the text of a YAML scalar and its line.
type scalar struct {
	text string
	line int
}

// UnmarshalYAML takes the text as it is written.
func (s *scalar) UnmarshalYAML(node ast.Node) error {
	token := node.GetToken()
	s.line = token.Position.Line
	switch n := node.(type) {
	case *ast.StringNode:
		s.text = n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		s.text = token.Value
	default:
		return atLine(s.line, errors.New("a single text or number is wanted here"))
	}
	return nil
}

// LoadFile reads a book file, and the CSV files that it names, which lie beside it. Unknown keys and values that cannot be
// read are errors that name the line. Whether the parts fit together is for the Builder to say.
func LoadFile(files fs.FS, name string) (*File, error) {
	data, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot open the book file: %w", err)
	}
	defer data.Close()
	var shape fileShape
	decoder := yaml.NewDecoder(data, yaml.Strict())
	if err := decoder.Decode(&shape); err != nil && err != io.EOF {
		return nil, fmt.Errorf("cannot read %s: %w", name, onOneLine(err))
	}
	if err := decoder.Decode(&fileShape{}); err != io.EOF {
		return nil, fmt.Errorf("cannot read %s: it holds a second document: use one", name)
	}
	r := fileReader{files: files, folder: path.Dir(name)}
	r.read(&shape)
	if r.err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, r.err)
	}
	return &File{r.records}, nil
}

// onOneLine leaves out the excerpt of the file that the decoder shows.
func onOneLine(err error) error {
	var found yaml.Error
	if errors.As(err, &found) && found.GetToken() != nil {
		return atLine(found.GetToken().Position.Line, errors.New(found.GetMessage()))
	}
	return err
}

// Records gives the records of the file, without ids, in an order in which each finds what it needs. Changes gives those
// that a log is to have.
func (f *File) Records() []FileRecord { return f.records }

// naturalKey says what a record of a file is about, uniquely in its kind, for people to read.
func naturalKey(r Record) string {
	switch r := r.(type) {
	case *AddRows:
		return fmt.Sprintf("%s:%s:%d", r.Tariff, r.Revision, r.Chunk)
	case *ActivateTariff:
		return r.Tariff + ":" + r.Revision
	case *AddPlan:
		return r.Plan
	case *SetFormat:
		return r.Topic + ":" + r.From.UTC().Format(time.RFC3339Nano)
	case *OpenAccount:
		return strconv.FormatUint(uint64(r.Account), 10)
	case *AssignNumber:
		return r.Number
	case *SetParam:
		return r.Param
	}
	panic(fmt.Sprintf("BUG: a file makes no record of type %T", r))
}

// Book makes a Book of the file alone, without a log or a server: all that it says holds from its date on, or always,
// and the frontier is behind all records. The error names the lines of what does not fit together.
func (f *File) Book() (*Book, error) {
	b := NewBuilder()
	var problems []error
	for i, r := range f.records {
		r.Record.header().ID = "file:" + r.Record.kind() + ":" + naturalKey(r.Record)
		value, err := Encode(r.Record)
		if err == nil {
			if d := b.Apply(int64(i), 0, value); d.Repeated {
				err = errors.New("it is there twice")
			} else if !d.Accepted {
				err = errors.New(d.Refusal)
			}
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %s %s: %w", r.Line, r.Record.kind(), naturalKey(r.Record), err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	value, err := Encode(&Open{Header: Header{ID: "file"}, Installation: "file", Shards: 1})
	if err != nil {
		return nil, err
	}
	b.Apply(b.Offset(), latestMs, value)
	return b.Book(), nil
}

// fileReader turns the shape of a file into records. The first error sticks.
type fileReader struct {
	files   fs.FS
	folder  string
	records []FileRecord
	err     error
}

func (r *fileReader) read(shape *fileShape) {
	for i := range shape.Tariffs {
		r.tariff(&shape.Tariffs[i])
	}
	for _, p := range shape.Plans {
		r.add(p.Plan.line, &AddPlan{Plan: p.Plan.text, Currency: p.Currency.text, Tariff: p.Tariff.text})
	}
	for _, f := range shape.Formats {
		if _, err := decode.ParseFormat(f.Format.text); err != nil { // the log may hold formats of newer builds, a file may not
			r.fail(f.Format.line, err)
		}
		r.add(f.Topic.line, &SetFormat{Topic: f.Topic.text, Format: f.Format.text, FormatVersion: uint16(r.number(f.Version, 16)),
			DefaultCountry: f.DefaultCountry.text, Zone: f.Zone.text, Source: f.Source.text, From: r.time(f.From)})
	}
	for _, a := range shape.Accounts {
		number := uint32(r.number(a.Account, 32))
		if number == 0 {
			r.fail(a.Account.line, errors.New("an account needs a number, from 1 on"))
		}
		r.add(a.Account.line, &OpenAccount{Account: number, Currency: a.Currency.text, Plan: a.Plan.text, Zone: a.Zone.text,
			Threshold: a.Threshold.text, RechargeTo: a.RechargeTo.text, Balance: a.Balance.text})
		for _, n := range a.Numbers {
			r.add(n.line, &AssignNumber{Number: n.text, Account: number})
		}
	}
	for _, n := range shape.Numbers {
		r.add(n.Number.line, &AssignNumber{Number: n.Number.text, Account: uint32(r.number(n.Account, 32)), From: r.time(n.From)})
	}
	for _, p := range shape.Params {
		value := int64(r.number(p.Value, 63))
		r.fail(p.Param.line, CheckParam(p.Param.text, value))
		r.add(p.Param.line, &SetParam{Param: p.Param.text, Value: value})
	}
}

func (r *fileReader) add(line int, record Record) {
	r.records = append(r.records, FileRecord{Record: record, Line: line})
}

func (r *fileReader) fail(line int, err error) {
	if r.err == nil && err != nil {
		r.err = atLine(line, err)
	}
}

// number reads a whole number of at most the given bits; what is left out is 0.
func (r *fileReader) number(s scalar, bits int) uint64 {
	if s.text == "" {
		return 0
	}
	n, err := strconv.ParseUint(s.text, 10, bits)
	if err != nil {
		r.fail(s.line, fmt.Errorf("%q is no whole number of at most %d bits", s.text, bits))
	}
	return n
}

// time reads a wish; what is left out is the zero time.
func (r *fileReader) time(s scalar) (t time.Time) {
	if s.text == "" {
		return t
	}
	t, err := time.Parse(time.RFC3339, s.text)
	if err != nil {
		r.fail(s.line, fmt.Errorf("%q is no time: write it as 2026-11-24T00:00:00Z", s.text))
	}
	return t
}

// tariff cuts the rows, those in the file and then those in CSV, into chunks.
func (r *fileReader) tariff(t *fileTariff) {
	currency, err := money.ParseCurrency(t.Currency.text)
	if err != nil {
		r.fail(t.Tariff.line, err)
		return
	}
	var rows []Row
	taken := places{}
	for i := range t.Rows {
		rows = append(rows, r.row(&t.Rows[i], currency))
		line := t.Rows[i].Service.line
		r.fail(line, taken.take(&rows[i], fmt.Sprintf("on line %d", line)))
	}
	rows = append(rows, r.csv(t.CSV, currency, taken.elsewhere())...)
	chunks := (len(rows) + rowsPerChunk - 1) / rowsPerChunk
	for i := range chunks {
		r.add(t.Tariff.line, &AddRows{Tariff: t.Tariff.text, Revision: t.Revision.text, Currency: t.Currency.text,
			Chunk: uint32(i), Rows: rows[i*rowsPerChunk : min((i+1)*rowsPerChunk, len(rows))]})
	}
	r.add(t.Tariff.line, &ActivateTariff{Tariff: t.Tariff.text, Revision: t.Revision.text, Chunks: uint32(chunks),
		Rows: uint32(len(rows)), From: r.time(t.From)})
}

func (r *fileReader) row(f *fileRow, currency money.Currency) Row {
	row := Row{Service: f.Service.text, Prefix: f.Prefix.text, Connect: f.Connect.text, Rate: f.Rate.text,
		PerSeconds: uint32(r.number(f.PerSeconds, 32)), Initial: uint32(r.number(f.Initial, 32)),
		Increment: uint32(r.number(f.Increment, 32)), Minimum: f.Minimum.text, Segment: f.Segment.text}
	if _, err := row.Price(currency); err != nil {
		r.fail(f.Service.line, err)
	}
	return row
}

func (r *fileReader) csv(name scalar, currency money.Currency, taken places) []Row {
	if name.text == "" {
		return nil
	}
	file, err := r.files.Open(path.Join(r.folder, name.text))
	if err != nil {
		r.fail(name.line, err)
		return nil
	}
	defer file.Close()
	rows, err := readRows(file, currency, taken)
	if err != nil {
		r.fail(name.line, fmt.Errorf("%s: %w", name.text, err))
	}
	return rows
}
