package book

import (
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

func example(t testing.TB) *Book {
	t.Helper()
	file, err := LoadFile(os.DirFS("testdata"), "example.yml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := file.Book()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ms(t testing.TB, text string) int64 {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when.UnixMilli()
}

func TestExample(t *testing.T) {
	b := example(t)
	a := b.Account(1001)
	if a == nil || a.BalanceUnits != 2_500_000_000 || a.ThresholdUnits != 1_000_000_000 || a.RechargeUnits != 5_000_000_000 {
		t.Fatalf("account 1001 is %+v", a)
	}
	november, october := ms(t, "2026-11-24T12:00:00Z"), ms(t, "2026-10-24T12:00:00Z")
	for _, c := range []struct {
		service price.Service
		digits  uint64
		rate    money.Amount
	}{
		{price.VoiceIn, 14155550100, 3_000_000}, {price.VoiceIn, 18005550199, 4_500_000},
		{price.VoiceOut, 14155550100, 850_000}, {price.VoiceOut, 12125550100, 1_400_000}, {price.VoiceOut, 4930555010, 25_000_000},
		{price.VoiceOut, 0, 25_000_000},
	} {
		v, row, ok := b.Price(a, c.service, c.digits, november)
		if !ok || v.Rows[row].RateUnits != c.rate {
			t.Errorf("%s %d costs %+v, %v; want a rate of %d", c.service, c.digits, v.Rows[row], ok, c.rate)
		}
	}
	if _, _, ok := b.Price(a, price.VoiceIn, 14155550100, october); ok {
		t.Error("there is a price before the tariff is in force")
	}
	for _, c := range []struct {
		number uint64
		at     int64
		owner  uint32
	}{{14155550100, 0, 1001}, {4930555010, november, 1002}, {14155550101, november, 0}, {14155550101, ms(t, "2026-12-01T00:00:00Z"), 1002}} {
		if owner, ok := b.Owner(c.number, c.at); owner != c.owner || ok != (c.owner != 0) {
			t.Errorf("%d is owned by %d, %v; want %d", c.number, owner, ok, c.owner)
		}
	}
	f, ready := b.FormatAt("didww-calls", november)
	if !ready || f.Format != decode.DIDWWVoiceIn || f.SourceName != "didww" || f.Mapping.DefaultCountry != "1" || f.Mapping.Zone == nil {
		t.Errorf("didww-calls is read by %+v, %v", f, ready)
	}
	if f, ready := b.FormatAt("nothing", november); f != nil || !ready {
		t.Errorf("a topic without a format is read by %+v, %v", f, ready)
	}
}

func TestLists(t *testing.T) {
	b := example(t)
	var text []string
	for o := range b.Ownerships() {
		if o.UntilMs != math.MaxInt64 {
			t.Errorf("%+v ends", o)
		}
		text = append(text, FormatNumber(o.Number))
	}
	for a := range b.Accounts() {
		text = append(text, FormatDay(b.LocalDay(a, ms(t, "2026-11-24T02:00:00Z"), 0)))
	}
	for p := range b.Plans() {
		text = append(text, p.Name)
	}
	for v := range b.Versions() {
		text = append(text, v.Tariff, v.Revision)
	}
	for z := range b.Zones() {
		text = append(text, z.Name)
	}
	for f := range b.Formats() {
		text = append(text, f.Topic)
	}
	want := "+4930555010 +14155550100 +14155550101 +18005550199 2026-11-23 2026-11-24 standard us-standard 2026-11 " +
		"UTC America/New_York Europe/Berlin didww-calls pbx"
	if got := strings.Join(text, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for text, want := range map[string]uint32{"1001": 1001, "+4930555010": 1002} {
		if a, err := b.ResolveAccount(text); err != nil || a.Number != want {
			t.Errorf("%q is %+v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "1003", "x", "+1", "+14155550999", "-1", "99999999999"} {
		if a, err := b.ResolveAccount(text); err == nil {
			t.Errorf("%q is account %d", text, a.Number)
		}
	}
	if z := b.Zone(1); z == nil || z.Name != "America/New_York" || b.Zone(3) != nil || b.ZoneNamed("Asia/Tokyo") != nil {
		t.Error("zones are not found by their numbers and names")
	}
	if v := b.Version(1); v == nil || b.Version(0) != nil || b.Version(2) != nil {
		t.Error("versions are not found by their numbers")
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	tariff := "tariffs:\n  - tariff: a\n    revision: b\n    currency: USD\n    rows:\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":      {"accounts:\n  - account: 1\n    colour: red\n", "line 3: unknown field \"colour\""},
		"key twice":        {"plans:\n  - plan: a\n    plan: b\n", "line 3: "},
		"list for a text":  {"plans:\n  - plan: [a]\n", "line 2: "},
		"second document":  {"plans: []\n---\nplans: []\n", "second document"},
		"no number":        {"accounts:\n  - {account: one}\n", "line 2"},
		"account 0":        {"accounts:\n  - {account: 0}\n", "line 2"},
		"fraction":         {tariff + "      - {service: voice-in, rate: 1, initial: 1.5, increment: 1}\n", "line 6: \"1.5\""},
		"unknown service":  {tariff + "      - {service: fax, rate: 1}\n", "line 6, column service"},
		"too precise":      {tariff + "      - {service: message-in, segment: 0.000000001}\n", "line 6, column segment"},
		"no price":         {tariff + "      - {service: message-in}\n", "line 6, column segment"},
		"prefix with plus": {tariff + "      - {service: message-in, segment: 1, prefix: +1}\n", "line 6, column prefix"},
		"unknown currency": {"tariffs:\n  - {tariff: a, currency: XXX}\n", "line 2"},
		"time":             {"numbers:\n  - {number: +14155550100, account: 1, from: tomorrow}\n", "line 2"},
		"missing csv":      {"tariffs:\n  - tariff: a\n    currency: USD\n    csv: no.csv\n", "line 4"},
		"bad csv":          {"tariffs:\n  - tariff: a\n    currency: USD\n    csv: bad.csv\n", "line 4: bad.csv: line 3, column rate"},
		"prefix twice": {tariff + "      - {service: message-in, segment: 1}\n      - {service: message-in, segment: 2}\n",
			"line 7: message-in without a prefix is on line 6 already"},
		"prefix twice in csv": {tariff + "      - {service: voice-in, prefix: 1, rate: 1, initial: 1, increment: 1}\n    csv: twice.csv\n",
			"line 7: twice.csv: line 3: voice-in with prefix 44 is on line 2 already"},
		"prefix in both": {tariff + "      - {service: voice-in, rate: 1, initial: 1, increment: 1}\n    csv: good.csv\n",
			"line 7: good.csv: line 2: voice-in without a prefix is among the rows of the file already"},
		"parameter":          {"params:\n  - {param: attempts, value: 1000}\n", "line 2: parameter attempts cannot be 1000"},
		"unknown parameter":  {"params:\n  - {param: patience, value: 1}\n", "line 2: there is no parameter"},
		"csv from elsewhere": {"tariffs:\n  - tariff: a\n    currency: USD\n    csv: ../bad.csv\n", "line 4"},
	} {
		files := fstest.MapFS{"book.yml": {Data: []byte(c.yaml)}, "bad.csv": {Data: []byte("service,rate,initial,increment\nvoice-in,1,1,1\nvoice-in,x,1,1\n")},
			"good.csv":  {Data: []byte("service,rate,initial,increment\nvoice-in,1,1,1\n")},
			"twice.csv": {Data: []byte("service,prefix,rate,initial,increment\nvoice-in,44,1,1,1\nvoice-in,44,2,1,1\n")}}
		_, err := LoadFile(files, "book.yml")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestPartsThatDoNotFitTogether(t *testing.T) {
	head := "tariffs:\n  - tariff: a\n    revision: b\n    currency: USD\n    rows: [{service: message-in, segment: 1}]\nplans:\n  - {plan: p, currency: USD, tariff: a}\naccounts:\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"no plan":        {"accounts:\n  - {account: 1, currency: USD, plan: p, zone: UTC}\n", "line 2: account 1: there is no plan"},
		"other currency": {head + "  - {account: 1, currency: EUR, plan: p, zone: UTC}\n", "line 9: account 1: plan \"p\" is in USD"},
		"no zone":        {head + "  - {account: 1, currency: USD, plan: p}\n", "line 9"},
		"target below":   {head + "  - {account: 1, currency: USD, plan: p, zone: UTC, threshold: 5, recharge_to: 4}\n", "line 9"},
		"beyond limit":   {head + "  - {account: 1, currency: USD, plan: p, zone: UTC, threshold: 10000000.01}\n", "line 9"},
		"number twice":   {head + "  - {account: 1, currency: USD, plan: p, zone: UTC, numbers: [+14155550100, +14155550100]}\n", "line 9: assign +14155550100: it is there twice"},
		"short number":   {head + "  - {account: 1, currency: USD, plan: p, zone: UTC, numbers: [911]}\n", "line 9"},
		"no rows":        {"tariffs:\n  - {tariff: a, revision: b, currency: USD}\n", "line 2"},
	} {
		file, err := LoadFile(fstest.MapFS{"book.yml": {Data: []byte(c.yaml)}}, "book.yml")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err = file.Book(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestReadRowsNamesColumns(t *testing.T) {
	usd, err := money.ParseCurrency("USD")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ReadRows(strings.NewReader("\ufeffrate, service ,increment,initial\n0.01,voice-in,6,30\n"), usd)
	if err != nil || len(rows) != 1 || rows[0] != (Row{Service: "voice-in", Rate: "0.01", Initial: 30, Increment: 6}) {
		t.Errorf("rows %+v, %v", rows, err)
	}
	for csv, want := range map[string]string{
		"":                                   "names of the columns",
		"service,color\n":                    `unknown column "color"`,
		"service,service\n":                  "twice",
		"rate\n":                             `no column "service"`,
		"service,rate,initial\nvoice-in,1,x": "line 2, column initial",
		"service,rate\nvoice-in\n":           "line 2",
		"service,segment\nmessage-in,-1\n":   "line 2",
		"service,rate,initial,increment\nvoice-in,1,60,0":                "line 2",
		"service,segment\nmessage-in,1\nmessage-out,1\n\nmessage-in,2\n": "line 5: message-in without a prefix is on line 2 already",
	} {
		if _, err := ReadRows(strings.NewReader(csv), usd); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", csv, err, want)
		}
	}
}

func FuzzLoadFile(f *testing.F) {
	text, err := os.ReadFile("testdata/example.yml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("accounts: [{account: 1, numbers: [+1]}]"))
	f.Add([]byte("tariffs: &a [*a]"))
	f.Add([]byte("plans: [{plan: ~, tariff: {}}]\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := LoadFile(fstest.MapFS{"book.yml": {Data: text}, "us-deck.csv": {Data: []byte("service\n")}}, "book.yml")
		if err != nil {
			return
		}
		file.Book()
	})
}

func FuzzReadRows(f *testing.F) {
	usd, err := money.ParseCurrency("USD")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("service,prefix,connect,rate,per_seconds,initial,increment,minimum,segment\nvoice-in,1,0,1,60,60,60,0,\n")
	f.Add("service,segment\n\"message-in\",\"1\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := ReadRows(strings.NewReader(text), usd)
		if err != nil {
			return
		}
		for i := range rows {
			if _, err := rows[i].Price(usd); err != nil {
				t.Fatalf("row %d of what was read has no price: %v", i, err)
			}
		}
	})
}
