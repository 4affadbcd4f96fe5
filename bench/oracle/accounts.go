package oracle

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"time"
)

// attempt is a line of the gateway's book: a status, and perhaps another one that follows by itself.
type attempt struct {
	Shard       uint16 `json:"shard"`
	Offset      int64  `json:"offset"`
	Ix          uint32 `json:"ix"`
	Attempt     uint8  `json:"attempt"`
	Account     uint32 `json:"account"`
	AmountUnits int64  `json:"amountUnits"`
	Currency    string `json:"currency"`
	Lost        bool   `json:"lost"`
	Status      int    `json:"status"`
	Then        int    `json:"then"`
	ThenMs      int64  `json:"thenMs"`
}

// Statuses of an attempt.
const (
	gatewaySucceeded = 2
	gatewayDeclined  = 3
)

// captured tells whether the card was charged by a time.
func (a *attempt) captured(nowMs int64) bool {
	return !a.Lost && (a.Status == gatewaySucceeded && (a.Then == 0 || nowMs < a.ThenMs) || a.Then == gatewaySucceeded && nowMs >= a.ThenMs)
}

// credit is a line of the file of accepted top-ups and adjustments.
type credit struct {
	Account  uint32 `json:"account"`
	Currency string `json:"currency"`
	Amount   string `json:"amount"`
	Key      string `json:"key"`
	Kind     string `json:"kind"`
}

// intent names a decided recharge: the entry that decided it. With the attempt it names a charge of the card.
type intent struct {
	at      place
	attempt int64
}

// ledger is what the books say that accounts got, and what ClickHouse says.
type ledger struct {
	*oracle
	funds    map[uint32]*big.Int // what each account had, got and paid, by the oracle's count
	captures map[intent]*attempt // not credited so far
	credits  map[creditKey]*big.Int
	opened   map[uint32]bool
	intents  map[place]granted
	seen     map[place]bool
}

type creditKey struct {
	account uint32
	key     string
}

type granted struct {
	account uint32
	units   int64
}

// money compares what accounts got with what was credited, and their balances with what they must be.
func (o *oracle) money(ctx context.Context, _ []*partition) error {
	l := &ledger{oracle: o, funds: map[uint32]*big.Int{}, captures: map[intent]*attempt{}, credits: map[creditKey]*big.Int{},
		opened: map[uint32]bool{}, intents: map[place]granted{}, seen: map[place]bool{}}
	for number, a := range o.book.accounts {
		l.funds[number] = big.NewInt(a.openingUnits)
	}
	sums := map[string]*big.Int{}
	for number, units := range o.charged {
		l.pay(number, new(big.Int).Neg(units))
		addTo(sums, o.book.accounts[number].currency, units)
	}
	write(o.findings.report.ChargedAmount, sums)
	for _, step := range []func(context.Context) error{l.readIntents, l.readGateway, l.readCredits, l.entries, l.balances} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pay adds to what an account must have.
func (l *ledger) pay(account uint32, units *big.Int) {
	if sum := l.funds[account]; sum != nil {
		sum.Add(sum, units)
	}
}

func addTo(sums map[string]*big.Int, currency string, units *big.Int) {
	if sums[currency] == nil {
		sums[currency] = new(big.Int)
	}
	sums[currency].Add(sums[currency], units)
}

func write(to map[string]string, sums map[string]*big.Int) {
	for currency, units := range sums {
		to[currency] = formatUnits(units, currency)
	}
}

// readIntents reads every entry that decided a recharge.
func (l *ledger) readIntents(ctx context.Context) error {
	for _, table := range []string{"rated_records", "account_entries"} {
		err := l.story.each(ctx, table, "SELECT shard, entry_offset, ix, account_id, intent_units FROM "+table+" WHERE intent_units != 0 AND result != 'repeated'",
			func(scan func(...any) error) error {
				var shard uint16
				var offset int64
				var ix uint32
				var g granted
				if err := scan(&shard, &offset, &ix, &g.account, &g.units); err != nil {
					return err
				}
				at, _ := newPlace(shard, offset, ix)
				l.intents[at] = g
				return nil
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// readGateway reads every capture, each of which needs its intent, and at most one of which an intent may have.
func (l *ledger) readGateway(context.Context) error {
	sums, firsts := map[string]*big.Int{}, map[place]bool{}
	nowMs := time.Now().UnixMilli()
	err := readLines(l.cfg.Gateway, func(a *attempt) error {
		if !a.captured(nowMs) {
			return nil
		}
		l.findings.report.Captures++
		addTo(sums, a.Currency, big.NewInt(a.AmountUnits))
		where := fmt.Sprintf("capture for account %d, recharge of shard %d entry %d, %d, attempt %d", a.Account, a.Shard, a.Offset, a.Ix, a.Attempt)
		at, ok := newPlace(a.Shard, a.Offset, a.Ix)
		if g, decided := l.intents[at]; !ok || !decided {
			l.findings.add("capture-without-recharge", where, "that it was decided", "no such recharge")
		} else if g.account != a.Account || g.units != a.AmountUnits {
			l.findings.add("capture-without-recharge", where, formatInt(g.units, a.Currency)+fmt.Sprintf(" of account %d, as it was decided", g.account),
				formatInt(a.AmountUnits, a.Currency))
		}
		if owner := l.book.accounts[a.Account]; owner == nil || owner.currency != a.Currency {
			l.findings.add("capture-account", where, "an account of the book, in its currency", a.Currency)
		}
		reversed := a.Status == gatewayDeclined // a decline that was captured after all: the customer pays, and is credited
		if firsts[at] && !reversed {
			l.findings.add("captured-twice", where, "one capture a recharge", "another one")
		}
		firsts[at] = firsts[at] || !reversed
		name := intent{at, int64(a.Attempt)}
		if l.captures[name] != nil {
			l.findings.add("captured-twice", where, "one capture an attempt", "another one")
		}
		l.captures[name] = a
		l.pay(a.Account, big.NewInt(a.AmountUnits))
		return nil
	})
	write(l.findings.report.CapturedAmount, sums)
	return err
}

// readCredits reads what was accepted from outside.
func (l *ledger) readCredits(context.Context) error {
	sums := map[string]*big.Int{}
	err := readLines(l.cfg.Credits, func(c *credit) error {
		units, err := exactUnits(c.Amount, c.Currency)
		if err != nil {
			return err
		}
		key, where := creditKey{c.Account, c.Key}, fmt.Sprintf("credit of account %d, key %s", c.Account, c.Key)
		if owner := l.book.accounts[c.Account]; owner == nil || owner.currency != c.Currency {
			l.findings.add("credit-account", where, "an account of the book, in its currency", c.Currency)
		}
		if l.credits[key] != nil {
			return nil // accepted again: it counts once
		}
		l.findings.report.Credits++
		addTo(sums, c.Currency, big.NewInt(units))
		l.credits[key] = big.NewInt(units)
		l.pay(c.Account, big.NewInt(units))
		return nil
	})
	write(l.findings.report.CreditedAmount, sums)
	return err
}

// readLines reads a file of one JSON value a line; "" is no file. A last line without its end was never written whole.
func readLines[T any](path string, each func(*T) error) error {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the lines of %s: %w", path, err)
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil
		}
		value := new(T)
		if err := json.Unmarshal(line, value); err != nil {
			return fmt.Errorf("cannot read line %d of %s: %w", number, path, err)
		}
		if err := each(value); err != nil {
			return fmt.Errorf("line %d of %s: %w", number, path, err)
		}
	}
}

// entry is a row of account_entries that moved money, or should have.
type entry struct {
	place                   place
	account                 uint32
	kind, id, result        string
	offsetOf, ixOf, attempt int64
	amount                  int64
}

// String names the entry.
func (e *entry) String() string {
	return fmt.Sprintf("%s of account %d at shard %d entry %d, %d", e.kind, e.account, e.place.shard(), e.place.offset(), e.place.ix())
}

// entries compares every entry that moved money with the books, and finds what was not credited.
func (l *ledger) entries(ctx context.Context) error {
	const query = `SELECT shard, entry_offset, ix, account_id, toString(kind), id, toString(result), arg0, arg1, arg2, amount_units
		FROM account_entries WHERE result != 'repeated' AND (amount_units != 0 OR kind = 'account')`
	if err := l.story.each(ctx, "account_entries", query, func(scan func(...any) error) error {
		var shard uint16
		var offset int64
		var ix uint32
		var e entry
		if err := scan(&shard, &offset, &ix, &e.account, &e.kind, &e.id, &e.result, &e.offsetOf, &e.ixOf, &e.attempt, &e.amount); err != nil {
			return err
		}
		if e.place, _ = newPlace(shard, offset, ix); !l.seen[e.place] {
			l.seen[e.place] = true
			l.entry(&e)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, a := range l.captures {
		l.findings.add("not-credited", fmt.Sprintf("capture for account %d, recharge of shard %d entry %d, %d, attempt %d", a.Account, a.Shard, a.Offset,
			a.Ix, a.Attempt), "a payment of "+formatInt(a.AmountUnits, a.Currency), "none")
	}
	for key, units := range l.credits {
		l.findings.add("not-credited", fmt.Sprintf("credit of account %d, key %s", key.account, key.key), units.String()+" units", "none")
	}
	for number := range l.book.accounts {
		if !l.opened[number] {
			l.findings.add("not-opened", fmt.Sprintf("account %d", number), "its opening", "none")
		}
	}
	return nil
}

// entry takes an entry off what is to be credited.
func (l *ledger) entry(e *entry) {
	owner := l.book.accounts[e.account]
	switch {
	case e.result != "applied":
		l.findings.add("entry-amount", e, "no amount: it is "+e.result, fmt.Sprint(e.amount, " units"))
	case owner == nil:
		l.findings.add("unknown-account", e, "an account of the book", "none")
	case e.kind == "account":
		if l.opened[e.account] || e.amount != owner.openingUnits {
			l.findings.add("opening", e, "one opening balance of "+formatInt(owner.openingUnits, owner.currency), formatInt(e.amount, owner.currency))
		}
		l.opened[e.account] = true
	case e.kind == "payment":
		at, _ := newPlace(e.place.shard(), e.offsetOf, uint32(e.ixOf))
		name := intent{at, e.attempt}
		a := l.captures[name]
		if a == nil || a.Account != e.account || a.AmountUnits != e.amount {
			l.findings.add("payment", e, "a capture of its own, with its amount", formatInt(e.amount, owner.currency)+" credited")
		}
		delete(l.captures, name)
	case e.kind == "credit", e.kind == "adjustment":
		key := creditKey{e.account, e.id}
		units := l.credits[key]
		if units == nil || units.Cmp(big.NewInt(e.amount)) != 0 {
			l.findings.add("credit", e, "a credit that was accepted, with its amount", formatInt(e.amount, owner.currency)+" credited under key "+e.id)
		}
		delete(l.credits, key)
	default:
		l.findings.add("entry-amount", e, "no amount", formatInt(e.amount, owner.currency))
	}
}

// balances compares the balance after the last entry of every account with what it must have.
func (l *ledger) balances(ctx context.Context) error {
	const query = `SELECT account_id, argMax(balance_units, (entry_offset, ix)), uniqExact(shard) FROM (
		SELECT account_id, balance_units, shard, entry_offset, ix FROM rated_records WHERE result != 'repeated'
		UNION ALL SELECT account_id, balance_units, shard, entry_offset, ix FROM account_entries WHERE result != 'repeated' AND account_id != 0)
		GROUP BY account_id`
	missing := map[uint32]bool{}
	for number := range l.book.accounts {
		missing[number] = true
	}
	err := l.story.each(ctx, "balances", query, func(scan func(...any) error) error {
		var number uint32
		var units int64
		var shards uint64
		if err := scan(&number, &units, &shards); err != nil {
			return err
		}
		where := fmt.Sprintf("account %d", number)
		owner := l.book.accounts[number]
		if owner == nil {
			l.findings.add("unknown-account", where, "an account of the book", "none")
			return nil
		}
		delete(missing, number)
		l.findings.report.Accounts++
		if shards != 1 {
			l.findings.add("account-moved", where, "one shard", fmt.Sprint(shards))
		}
		if want := l.funds[number]; want.Cmp(big.NewInt(units)) != 0 {
			l.findings.add("balance", where, formatUnits(want, owner.currency), formatInt(units, owner.currency))
		}
		return nil
	})
	for number := range missing {
		l.findings.add("balance", fmt.Sprintf("account %d", number), formatUnits(l.funds[number], l.book.accounts[number].currency), "no entries")
	}
	return err
}
