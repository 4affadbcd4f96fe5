package simulation

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The oracle's book: lists that only grow, searched from end to end. It shares no code with rater/book.

// dated is a change of something: decided at an offset of the book, in force from a time on.
type dated[T any] struct {
	fromMs int64
	value  T
}

// history is all changes of one thing, in the order of the book.
type history[T any] []dated[T]

// at gives what was in force at a time: of the changes before it the one from the latest time on, of two the later.
func (h history[T]) at(ms int64) (value T, ok bool) {
	best := int64(0)
	for _, c := range h {
		if c.fromMs <= ms && (!ok || c.fromMs >= best) {
			value, best, ok = c.value, c.fromMs, true
		}
	}
	return value, ok
}

const beginning = -1 << 62

// change is a record of the book as the oracle reads it: all fields that any kind has.
type change struct {
	Kind, ID, Currency, Plan, Zone, Threshold, RechargeTo, Balance, Number, Tariff, Revision, Topic, Format, DefaultCountry, Source, Day, Param string
	Account, Chunk, Chunks, Piece                                                                                                               uint32
	Shards                                                                                                                                      int32
	Value, FoldVersion                                                                                                                          int64
	From                                                                                                                                        *time.Time
	Rows                                                                                                                                        json.RawMessage
	Raw                                                                                                                                         []byte
}

// deckRow is a price.
type deckRow struct {
	Service, Prefix, Connect, Rate, Minimum, Segment string
	PerSeconds                                       int64 `json:"per_seconds"`
	Initial, Increment                               int64
}

type oracleAccount struct {
	balance, threshold, target int64
	plans, zones               history[string]
}

type format struct{ name, country, source string }

type revision struct {
	number uint32
	rows   []deckRow
}

// oracleBook is what the whole book has decided.
type oracleBook struct {
	opened   bool
	frontier int64
	ids      map[string]bool
	accounts map[uint32]*oracleAccount
	owners   map[string]history[uint32] // by number
	plans    map[string]string          // tariff by plan
	tariffs  map[string]history[revision]
	pending  map[string]map[uint32][]deckRow // chunks by tariff/revision
	used     map[string]bool                 // revisions in force
	versions uint32
	formats  map[string]history[format]
	zones    map[string]uint32
	closed   map[string]int32
	replayed map[string]bool
	fold     int64
	entries  map[int64]*wanted // what records of the book become, by offset
	later    []func()          // what is to be found out when all is read
}

// wanted is what a record must have become: an entry, in one shard or in all.
type wanted struct {
	facts
	reason int
	shard  int32 // -1 all, -2 any one, the same for all of a source
	args   [3]int64
	key    string // of the record's id; "" for none
	raw    string
	partly bool // what could be read of an undecodable record is up to its decoder
}

// facts are what an entry and its row say of a record.
type facts struct {
	kind, service    int
	account          uint32
	number           uint64
	amount, eventMs  int64
	day              int32
	duration, billed uint32
	tariff, row      uint32
	id, peer         string
}

func newOracleBook() *oracleBook {
	return &oracleBook{
		frontier: beginning, ids: map[string]bool{}, accounts: map[uint32]*oracleAccount{}, owners: map[string]history[uint32]{},
		plans: map[string]string{}, tariffs: map[string]history[revision]{}, pending: map[string]map[uint32][]deckRow{},
		used: map[string]bool{}, formats: map[string]history[format]{}, zones: map[string]uint32{"UTC": 0},
		closed: map[string]int32{}, replayed: map[string]bool{}, fold: 1, entries: map[int64]*wanted{},
	}
}

// read takes the record at an offset.
func (b *oracleBook) read(offset, appendMs int64, value []byte) {
	b.frontier = max(b.frontier, appendMs)
	var c change
	if err := json.Unmarshal(value, &c); err != nil {
		panic(fmt.Sprintf("the oracle cannot read the book at %d: %v", offset, err))
	}
	if c.Kind == "heartbeat" || b.ids[c.ID] {
		return
	}
	b.ids[c.ID] = true
	if e := b.decide(&c); e != nil {
		b.entries[offset] = e
		e.eventMs = max(e.eventMs, b.frontier*int64(boolInt(e.key == "")))
		if a := b.accounts[e.account]; e.key == "" && a != nil { // dated by the zone at the frontier, as the whole book has it
			frontier := b.frontier
			e.day = -1 << 20
			b.later = append(b.later, func() {
				zone, _ := a.zones.at(frontier)
				e.day = dayIn(zone, frontier)
			})
		} else if e.key == "" {
			e.day = dayIn("UTC", b.frontier)
		}
	}
}

func boolInt(is bool) int {
	if is {
		return 1
	}
	return 0
}

// effect is when a change with a wish comes into force.
func (b *oracleBook) effect(c *change) int64 {
	wish := int64(beginning)
	if c.From != nil {
		wish = c.From.UnixMilli()
	}
	if b.opened {
		wish = max(wish, b.frontier+1)
	}
	return wish
}

// decide does what a record says if it may, and gives what it becomes.
func (b *oracleBook) decide(c *change) *wanted {
	switch c.Kind {
	case "open":
		b.opened = true
	case "account":
		return b.openAccount(c)
	case "account-plan":
		if a := b.accounts[c.Account]; a != nil && b.plans[c.Plan] != "" {
			a.plans = append(a.plans, dated[string]{b.effect(c), c.Plan})
		}
	case "zone":
		return b.changeZone(c)
	case "assign":
		return b.assign(c)
	case "release":
		return b.release(c)
	case "plan":
		if b.plans[c.Plan] == "" && b.tariffs[c.Tariff] != nil {
			b.plans[c.Plan] = c.Tariff
		}
	case "tariff-rows":
		b.addChunk(c)
	case "tariff":
		b.activate(c)
	case "format":
		b.formats[c.Topic] = append(b.formats[c.Topic], dated[format]{b.effect(c), format{c.Format, c.DefaultCountry, c.Source}})
	case "close":
		return b.close(c)
	case "param":
		return &wanted{facts: facts{kind: 7}, shard: -1, args: [3]int64{params[c.Param], c.Value}}
	case "fold-version":
		if c.FoldVersion > b.fold {
			b.fold = c.FoldVersion
			return &wanted{facts: facts{kind: 8}, shard: -1, args: [3]int64{c.FoldVersion}}
		}
	case "replay":
		return b.replay(c)
	default:
		panic("the oracle does not know records of kind " + c.Kind)
	}
	return nil
}

var params = map[string]int64{"window-ms": 0, "grace-ms": 1, "back-off-ms": 2, "attempts": 3, "give-up-after": 4, "results-kept": 5}

func (b *oracleBook) openAccount(c *change) *wanted {
	if b.accounts[c.Account] != nil || b.plans[c.Plan] == "" {
		return nil
	}
	a := &oracleAccount{balance: units(c.Balance), threshold: units(c.Threshold), target: units(c.RechargeTo)}
	if a.target != 0 && a.target < a.threshold {
		return nil
	}
	a.plans, a.zones = history[string]{{beginning, c.Plan}}, history[string]{{beginning, c.Zone}}
	b.accounts[c.Account] = a
	return &wanted{facts: facts{kind: 3, account: c.Account, amount: a.balance}, shard: int32(c.Account % shardCount),
		args: [3]int64{int64(b.zoneNumber(c.Zone)), a.threshold, a.target}}
}

func (b *oracleBook) zoneNumber(zone string) uint32 {
	if _, known := b.zones[zone]; !known {
		b.zones[zone] = uint32(len(b.zones))
	}
	return b.zones[zone]
}

func (b *oracleBook) changeZone(c *change) *wanted {
	a := b.accounts[c.Account]
	if a == nil {
		return nil
	}
	last := newest(a.zones)
	if last.value == c.Zone {
		return nil
	}
	a.zones = append(a.zones, dated[string]{max(midnightAfter(last.value, b.frontier), last.fromMs), c.Zone})
	return &wanted{facts: facts{kind: 5, account: c.Account}, shard: int32(c.Account % shardCount), args: [3]int64{int64(b.zoneNumber(c.Zone))}}
}

// newest gives the change that is in force last.
func newest[T any](h history[T]) (last dated[T]) {
	for i, c := range h {
		if i == 0 || c.fromMs >= last.fromMs {
			last = c
		}
	}
	return last
}

func (b *oracleBook) assign(c *change) *wanted {
	from := b.effect(c)
	if h := b.owners[c.Number]; b.accounts[c.Account] == nil || len(h) > 0 && (newest(h).value != 0 || newest(h).fromMs > from) {
		return nil
	}
	b.owners[c.Number] = append(b.owners[c.Number], dated[uint32]{from, c.Account})
	return &wanted{facts: facts{kind: 4, account: c.Account, number: digitsOf(c.Number)}, shard: int32(c.Account % shardCount), args: [3]int64{1}}
}

func (b *oracleBook) release(c *change) *wanted {
	h := b.owners[c.Number]
	if len(h) == 0 || newest(h).value == 0 || c.Account != 0 && c.Account != newest(h).value {
		return nil
	}
	owner := newest(h).value
	b.owners[c.Number] = append(h, dated[uint32]{max(b.effect(c), newest(h).fromMs), 0})
	return &wanted{facts: facts{kind: 4, account: owner, number: digitsOf(c.Number)}, shard: int32(owner % shardCount)}
}

func (b *oracleBook) addChunk(c *change) {
	name := c.Tariff + "/" + c.Revision
	var rows []deckRow
	if json.Unmarshal(c.Rows, &rows) != nil || len(rows) == 0 || b.used[name] || b.pending[name][c.Chunk] != nil {
		return
	}
	if b.pending[name] == nil {
		b.pending[name] = map[uint32][]deckRow{}
	}
	b.pending[name][c.Chunk] = rows
}

func (b *oracleBook) activate(c *change) {
	name := c.Tariff + "/" + c.Revision
	var rows []deckRow
	for chunk := range c.Chunks {
		if b.pending[name][chunk] == nil {
			return
		}
		rows = append(rows, b.pending[name][chunk]...)
	}
	if len(b.pending[name]) != int(c.Chunks) || string(c.Rows) != fmt.Sprint(len(rows)) || b.used[name] {
		return
	}
	b.used[name] = true
	b.versions++
	b.tariffs[c.Tariff] = append(b.tariffs[c.Tariff], dated[revision]{b.effect(c), revision{b.versions, rows}})
}

func (b *oracleBook) close(c *change) *wanted {
	number, usedZone := b.zones[c.Zone]
	t, _ := time.Parse(time.DateOnly, c.Day)
	day := int32(t.Unix() / 86400)
	if closed, any := b.closed[c.Zone]; !usedZone || any && day <= closed || day >= dayIn(c.Zone, b.frontier) {
		return nil
	}
	b.closed[c.Zone] = day
	return &wanted{facts: facts{kind: 6}, shard: -1, args: [3]int64{int64(number), int64(day)}}
}

func (b *oracleBook) replay(c *change) *wanted {
	f, ok := b.formats[c.Topic].at(b.frontier)
	if !ok || !b.opened {
		return nil
	}
	pieces := split(string(c.Raw))
	if int(c.Piece) >= len(pieces) {
		return nil
	}
	r := readRecord(pieces[c.Piece], f)
	if r == nil || r.eventMs-2000 > b.frontier {
		return nil
	}
	owner, _ := b.owners[r.number].at(r.eventMs - 2000)
	if owner == 0 {
		owner = c.Account
	}
	if b.accounts[owner] == nil {
		return nil
	}
	e := b.rate(r, owner, f, r.eventMs-2000)
	if e.kind != 1 {
		e = b.rate(r, owner, f, b.frontier)
	}
	if e.kind != 1 || b.replayed[r.key] {
		return nil
	}
	b.replayed[r.key] = true
	return e
}

// units reads a decimal amount of dollars.
func units(text string) int64 {
	if text == "" {
		return 0
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic("no amount: " + text)
	}
	r.Mul(r, big.NewRat(100_000_000, 1))
	if !r.IsInt() {
		panic("no whole units: " + text)
	}
	return r.Num().Int64()
}

// split gives the records of a message.
func split(message string) []string {
	if !strings.HasPrefix(message, "[") {
		return strings.Split(message, "\n")
	}
	var elements []json.RawMessage
	if err := json.Unmarshal([]byte(message), &elements); err != nil {
		panic(err)
	}
	pieces := make([]string, len(elements))
	for i, e := range elements {
		pieces[i] = string(e)
	}
	return pieces
}
