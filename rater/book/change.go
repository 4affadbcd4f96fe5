package book

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// The methods of this file each apply one kind of record. They check everything first; an error means that nothing was
// changed.

func (b *Builder) open(r *Open) error {
	switch {
	case b.book.Opened():
		return refusedf("installation %q is open already", b.book.installation)
	case r.Shards < 1 || r.Shards > maxShards:
		return refusedf("an installation cannot have %d shards: use 1 to %d", r.Shards, maxShards)
	}
	if err := checkName("installation", r.Installation); err != nil {
		return err
	}
	b.book.installation, b.book.shards = r.Installation, r.Shards
	return nil
}

// checkName refuses a name that is empty, too long or not printable.
func checkName(what, name string) error {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, unprintable) || !utf8.ValidString(name) {
		return refusedf("%s %q is no name: use 1 to %d bytes of printable text", what, name, maxNameBytes)
	}
	return nil
}

func (b *Builder) openAccount(r *OpenAccount, d *Decision) error {
	number, err := b.freeAccount(r.Account)
	if err != nil {
		return err
	}
	plan, err := b.planFor(r.Plan, r.Currency)
	if err != nil {
		return err
	}
	a := &Account{Number: number, Currency: b.book.plans[plan].Currency, OpenedMs: b.book.frontierMs, plans: since(always, plan)}
	if err := a.readMoney(r); err != nil {
		return err
	}
	zone, err := b.useZone(r.Zone)
	if err != nil {
		return err
	}
	a.zones = since(always, zone.Number)
	b.book.accounts.put(uint64(number), hold(a))
	d.Account = number
	return nil
}

// freeAccount gives the wished number if it is free, or the next free one for 0.
func (b *Builder) freeAccount(wish uint32) (uint32, error) {
	if wish != 0 {
		if b.book.Account(wish) != nil {
			return 0, refusedf("account %d is open already", wish)
		}
		return wish, nil
	}
	for b.book.Account(b.nextAccount) != nil {
		b.nextAccount++
	}
	if b.nextAccount == math.MaxUint32 {
		return 0, refused("no account number is free")
	}
	return b.nextAccount, nil
}

// planFor finds a plan, which must be of the currency.
func (b *Builder) planFor(name, currency string) (uint32, error) {
	plan, ok := b.plans[name]
	if !ok {
		return 0, refusedf("there is no plan %q", name)
	}
	if has := b.book.plans[plan].Currency.String(); has != currency {
		return 0, refusedf("plan %q is in %s, the account in %q", name, has, currency)
	}
	return plan, nil
}

// readMoney reads the amounts of an account and checks them as the ledger does.
func (a *Account) readMoney(r *OpenAccount) error {
	for _, m := range []struct {
		name, text string
		to         *money.Amount
		most       money.Amount
	}{{"balance", r.Balance, &a.BalanceUnits, creditLimit}, {"threshold", r.Threshold, &a.ThresholdUnits, settingsLimit},
		{"recharge target", r.RechargeTo, &a.RechargeUnits, settingsLimit}} {
		amount, err := parseAmount(a.Currency, m.text)
		if err != nil {
			return refusedf("%s: %v", m.name, err)
		}
		if amount > m.most || amount < -m.most {
			return refusedf("%s %s is out of bounds: at most %s in either sign", m.name, m.text, a.Currency.Format(m.most))
		}
		*m.to = amount
	}
	if a.RechargeUnits < 0 || a.RechargeUnits != 0 && a.RechargeUnits < a.ThresholdUnits {
		return refusedf("recharge target %s is below the threshold %q: a recharge would never end", r.RechargeTo, r.Threshold)
	}
	return nil
}

// useZone gives the zone of the name, which gets a number with its first use.
func (b *Builder) useZone(name string) (*Zone, error) {
	if z := b.zones[name]; z != nil {
		return z, nil
	}
	z, err := newZone(uint32(len(b.book.zones)), name)
	if err != nil {
		return nil, refused(err.Error())
	}
	b.zones[name] = z
	b.book.zones = append(b.book.zones, z)
	b.book.closed = append(slices.Clip(b.book.closed), noDay)
	return z, nil
}

// account finds an account for a change.
func (b *Builder) account(number uint32) (*Account, error) {
	if a := b.book.Account(number); a != nil {
		return a, nil
	}
	return nil, refusedf("there is no account %d", number)
}

func (b *Builder) changePlan(r *ChangePlan, d *Decision) error {
	a, err := b.account(r.Account)
	if err != nil {
		return err
	}
	plan, err := b.planFor(r.Plan, a.Currency.String())
	if err != nil {
		return err
	}
	changed := *a
	d.Account, d.EffectiveMs = a.Number, b.effective(r.From)
	changed.plans = a.plans.with(d.EffectiveMs, plan)
	b.book.accounts.put(uint64(a.Number), hold(&changed))
	return nil
}

func (b *Builder) changeZone(r *ChangeZone, d *Decision) error {
	a, err := b.account(r.Account)
	if err != nil {
		return err
	}
	last := b.book.zones[a.zones.newest.value]
	if last.Name == r.Zone {
		return refusedf("account %d is in zone %s already", a.Number, r.Zone)
	}
	zone, err := b.useZone(r.Zone)
	if err != nil {
		return err
	}
	changed := *a
	d.Account, d.EffectiveMs = a.Number, max(last.NextMidnight(b.book.frontierMs), a.zones.newest.fromMs)
	changed.zones = a.zones.with(d.EffectiveMs, zone.Number)
	b.book.accounts.put(uint64(a.Number), hold(&changed))
	return nil
}

func (b *Builder) assign(r *AssignNumber, d *Decision) error {
	number, err := ParseNumber(r.Number)
	if err != nil {
		return refused(err.Error())
	}
	if _, err := b.account(r.Account); err != nil {
		return err
	}
	fromMs := b.effective(r.From)
	owners := since(fromMs, r.Account)
	if h := b.book.numbers.get(number); h != nil {
		if last := h.newest; last.value != 0 {
			return refusedf("%s is account %d's: release it first", r.Number, last.value)
		} else if last.fromMs > fromMs {
			return refusedf("%s is free only from %s on", r.Number, time.UnixMilli(last.fromMs).UTC().Format(time.RFC3339Nano))
		}
		owners = h.with(fromMs, r.Account)
	}
	b.book.numbers.put(number, owners)
	d.Account, d.EffectiveMs = r.Account, fromMs
	return nil
}

func (b *Builder) release(r *ReleaseNumber, d *Decision) error {
	number, err := ParseNumber(r.Number)
	if err != nil {
		return refused(err.Error())
	}
	h := b.book.numbers.get(number)
	if h == nil || h.newest.value == 0 {
		return refusedf("no account owns %s", r.Number)
	}
	owner := h.newest.value
	if r.Account != 0 && r.Account != owner {
		return refusedf("%s is account %d's, not account %d's", r.Number, owner, r.Account)
	}
	d.Account, d.EffectiveMs = owner, max(b.effective(r.From), h.newest.fromMs)
	b.book.numbers.put(number, h.with(d.EffectiveMs, 0))
	return nil
}

func (b *Builder) addPlan(r *AddPlan) error {
	if err := checkName("plan", r.Plan); err != nil {
		return err
	}
	if _, ok := b.plans[r.Plan]; ok {
		return refusedf("there is a plan %q already", r.Plan)
	}
	index, ok := b.tariffs[r.Tariff]
	if !ok {
		return refusedf("there is no tariff %q", r.Tariff)
	}
	t := b.book.tariffs[index]
	if t.currency.String() != r.Currency {
		return refusedf("tariff %q is in %s, the plan in %q", r.Tariff, t.currency, r.Currency)
	}
	b.plans[r.Plan] = uint32(len(b.book.plans))
	b.book.plans = append(b.book.plans, &Plan{Name: r.Plan, Currency: t.currency, Tariff: r.Tariff, tariff: index})
	return nil
}

func (b *Builder) addRows(r *AddRows) error {
	if err := checkName("tariff", r.Tariff); err != nil {
		return err
	}
	if err := checkName("revision", r.Revision); err != nil {
		return err
	}
	id := revision{r.Tariff, r.Revision}
	if _, ok := b.activated[id]; ok {
		return refusedf("revision %q of tariff %q was activated already", r.Revision, r.Tariff)
	}
	currency, err := b.tariffCurrency(r)
	if err != nil {
		return err
	}
	v := b.pending[id]
	if v != nil && v.currency != currency {
		return refusedf("revision %q of tariff %q is in %s, the chunk in %s", r.Revision, r.Tariff, v.currency, currency)
	}
	if v != nil && v.chunks[r.Chunk] != nil {
		return refusedf("chunk %d of revision %q of tariff %q is there already", r.Chunk, r.Revision, r.Tariff)
	}
	if len(r.Rows) == 0 || b.pendingRows+len(r.Rows) > maxPendingRows {
		return refusedf("a chunk of %d rows cannot be taken: at most %d may wait for their activation", len(r.Rows), maxPendingRows)
	}
	rows := make([]price.Row, len(r.Rows))
	for i := range r.Rows {
		if rows[i], err = r.Rows[i].Price(currency); err != nil {
			return refusedf("row %d of the chunk: %v", i, err)
		}
	}
	if v == nil {
		v = &pendingVersion{currency: currency, chunks: map[uint32][]price.Row{}}
		b.pending[id] = v
	}
	v.keep(r.Chunk, rows)
	b.pendingRows += len(rows)
	return nil
}

// tariffCurrency reads the chunk's currency, which must be that of the tariff's versions in force.
func (b *Builder) tariffCurrency(r *AddRows) (money.Currency, error) {
	currency, err := money.ParseCurrency(r.Currency)
	if err != nil {
		return currency, refused(err.Error())
	}
	if i, ok := b.tariffs[r.Tariff]; ok && b.book.tariffs[i].currency != currency {
		return currency, refusedf("tariff %q is in %s, the chunk in %s", r.Tariff, b.book.tariffs[i].currency, currency)
	}
	return currency, nil
}

func (b *Builder) activate(r *ActivateTariff, d *Decision) error {
	id := revision{r.Tariff, r.Revision}
	pending := b.pending[id]
	if _, again := b.activated[id]; again {
		return refusedf("revision %q of tariff %q was activated already: give what is to be in force again a name of its own", r.Revision, r.Tariff)
	}
	if pending == nil {
		return refusedf("no rows of revision %q of tariff %q wait for their activation", r.Revision, r.Tariff)
	}
	rows, err := pending.collect(r)
	if err != nil {
		return err
	}
	index, exists := b.tariffs[r.Tariff]
	if exists && b.book.tariffs[index].currency != pending.currency {
		return refusedf("tariff %q is in %s, its revision %q in %s", r.Tariff, b.book.tariffs[index].currency, r.Revision, pending.currency)
	}
	v, err := newVersion(rows)
	if err != nil {
		pending.condemn(err)
		return refused(err.Error())
	}
	d.EffectiveMs = b.effective(r.From)
	v.Number, v.Tariff, v.Revision = uint32(len(b.book.versions)+1), r.Tariff, r.Revision
	v.Currency, v.FromMs = pending.currency, d.EffectiveMs
	b.book.versions = append(b.book.versions, v)
	b.book.tariffs = slices.Clone(b.book.tariffs)
	if exists {
		t := *b.book.tariffs[index]
		t.versions = t.versions.with(v.FromMs, v)
		b.book.tariffs[index] = &t
	} else {
		b.tariffs[r.Tariff] = uint32(len(b.book.tariffs))
		b.book.tariffs = append(b.book.tariffs, &tariff{r.Tariff, v.Currency, since(v.FromMs, v)})
	}
	b.activated[id] = struct{}{}
	b.pendingRows -= pending.rows
	delete(b.pending, id)
	return nil
}

// collect joins the chunks, if they are just those that the activation names.
func (p *pendingVersion) collect(r *ActivateTariff) ([]price.Row, error) {
	if int64(len(p.chunks)) != int64(r.Chunks) || int64(p.rows) != int64(r.Rows) {
		return nil, refusedf("revision %q of tariff %q has %d chunks with %d rows so far, the activation names %d with %d",
			r.Revision, r.Tariff, len(p.chunks), p.rows, r.Chunks, r.Rows)
	}
	if p.why != nil {
		return nil, refused(p.why.Error())
	}
	rows := make([]price.Row, 0, p.rows)
	for chunk := range r.Chunks {
		if p.chunks[chunk] == nil {
			return nil, refusedf("chunk %d of revision %q of tariff %q is missing", chunk, r.Revision, r.Tariff)
		}
		rows = append(rows, p.chunks[chunk]...)
	}
	return rows, nil
}

// keep takes a chunk.
func (p *pendingVersion) keep(chunk uint32, rows []price.Row) {
	p.rows += len(rows)
	if p.why != nil {
		rows = []price.Row{}
	}
	p.chunks[chunk] = rows
}

// condemn lets go of the rows of a version that can never be activated, since they contradict each other. Its chunks
// still count as there, as they always did: what logs have decided stays decided.
func (p *pendingVersion) condemn(why error) {
	p.why = why
	for chunk := range p.chunks {
		p.chunks[chunk] = []price.Row{}
	}
}

func (b *Builder) setFormat(r *SetFormat, d *Decision) error {
	for _, n := range []struct{ what, name string }{{"topic", r.Topic}, {"format", r.Format}, {"source", r.Source}} {
		if err := checkName(n.what, n.name); err != nil {
			return err
		}
	}
	f := &Format{Topic: r.Topic, Name: r.Format, Version: r.FormatVersion, SourceName: r.Source, FromMs: b.effective(r.From),
		voiceSeed: xxhash.Sum64String(r.Source + "\x00voice"), messageSeed: xxhash.Sum64String(r.Source + "\x00message"),
		Mapping: decode.Mapping{DefaultCountry: r.DefaultCountry}}
	// A name that this build does not know is no reason to refuse: a newer build may. Format stays 0, which no build knows.
	f.Format, _ = decode.ParseFormat(r.Format)
	if r.FormatVersion == 0 {
		return refused("formats count their versions from 1")
	}
	if err := f.Mapping.Validate(); err != nil {
		return refused(err.Error())
	}
	if r.Zone != "" {
		var err error
		if f.Mapping.Zone, err = LoadLocation(r.Zone); err != nil {
			return refused(err.Error())
		}
	}
	d.EffectiveMs = f.FromMs
	formats := since(f.FromMs, f)
	if h := b.book.formats[r.Topic]; h != nil {
		formats = h.with(f.FromMs, f)
	}
	b.book.formats = maps.Clone(b.book.formats)
	b.book.formats[r.Topic] = &formats
	return nil
}

func (b *Builder) closeDay(r *CloseDay) error {
	zone := b.zones[r.Zone]
	if zone == nil {
		return refusedf("no account uses the zone %q", r.Zone)
	}
	day, err := ParseDay(r.Day)
	if err != nil {
		return refused(err.Error())
	}
	if closed := b.book.closed[zone.Number]; day <= closed {
		return refusedf("day %s of zone %s is closed already", r.Day, r.Zone)
	}
	if day >= zone.Day(b.book.frontierMs) {
		return refusedf("day %s of zone %s is not over", r.Day, r.Zone)
	}
	b.book.closed = slices.Clone(b.book.closed)
	b.book.closed[zone.Number] = day
	return nil
}

// ParseDay reads a day such as "2026-11-24" as days since 1970-01-01.
func ParseDay(text string) (int32, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, fmt.Errorf("%q is no day: write it as 2026-11-24", text)
	}
	return utcDay(t.UnixMilli()), nil
}

// FormatDay writes a day as ParseDay reads it.
func FormatDay(day int32) string {
	return time.Unix(int64(day)*secondsPerDay, 0).UTC().Format(time.DateOnly)
}

func (b *Builder) raiseFold(r *RaiseFold) error {
	if r.FoldVersion <= b.foldVersion || r.FoldVersion > math.MaxUint16 {
		return refusedf("the fold has version %d: it only rises", b.foldVersion)
	}
	b.foldVersion = r.FoldVersion
	return nil
}
