package simulation

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/stream"
	"github.com/tollgate/tollgate/sink/late"
)

const (
	installation       = "simulated"
	shardCount         = 2
	minuteMs     int64 = 60_000
	hourMs       int64 = 60 * minuteMs
	dayMs        int64 = 24 * hourMs
)

// Options say which seed to run and how.
type Options struct {
	Seed uint64
	// Mutant names the mutant of Mutants to run, "" for none.
	Mutant string
	// Records bounds the carrier messages, 0 for what the seed draws.
	Records int
	// Without names kinds of faults that must not happen, as Result.Counts names them.
	Without []string
	// Trace keeps all events, not only the last.
	Trace bool
}

// Result is what a seed came to.
type Result struct {
	// Violations are the invariants that did not hold, each with what is wrong; empty for a good run.
	Violations []Violation
	// Hash is that of all events: the same seed has the same.
	Hash uint64
	// Steps, Messages, Records and Entries count what happened; Counts the faults and changes by kind.
	Steps, Messages, Records, Entries int
	Counts                            map[string]int
	// Events are the last events, or all.
	Events []string
}

// Violation is an invariant that did not hold.
type Violation struct{ Invariant, Detail string }

// rates are the chances of faults, drawn for each seed: some seeds have none of one kind and many of another.
type rates struct {
	die, lost, mute                            int   // of 10,000 calls
	slow                                       int   // percent of calls that take seconds
	failover, rebalance, outage, loss, promote int   // weights among what the world does
	decline                                    int   // percent of card charges
	gateway, sleep                             int   // weights, too
	bookLag                                    int64 // most that a call of who follows the book takes, ms
}

// world is everything around the loops, and the scheduler.
type world struct {
	Options
	r      *rand.Rand
	rates  rates
	nowMs  int64
	step   int
	faults bool // false once all is healed
	tasks  []*task
	shared *Shared

	topics     map[string]*topic
	allTopics  []*topic
	topicsMade int
	flights    []flight
	commits    map[commitKey]stream.CommitOffset
	rated      map[sourceKey]int64 // committed ends of sources
	codec      stream.Codec
	batchMax   int

	masters [shardCount]*node
	old     [shardCount][]*node
	folds   [shardCount][]folded
	posted  [shardCount]postedState
	nonces  int

	storeDown, gatewayDown bool
	rows                   map[rowKey]*row
	dead                   []*row
	chargedIDs             map[late.Record]bool

	payments  []*payment
	requests  []lateRequest
	keyLifeMs int64

	bookImages int64 // records of the book between two of its images, about

	stages                  map[string]*stage
	followers               []*follower
	operators               *operators
	carriers                []*carrier
	sent                    []sentRecord
	api                     []request
	callers                 int
	answers, unkept         []answer
	records                 int
	messages                int
	raises                  bool // the window of ids may grow beyond twice what it was; see README.md
	patience                int  // most seconds between two changes of the book
	wanted                  int  // carrier messages still to be sent
	made                    int
	changes, revisions, ids int
	actMs                   int64 // when the world acts next
	skews                   map[string]int64
	mutation                mutation

	hashed     uint64
	events     []string
	violations []Violation
	seen       map[string]bool
	counts     map[string]int
}

// Run runs one seed to its end.
func Run(o Options, shared *Shared) (result Result) {
	w := newWorld(o, shared)
	defer func() {
		if r := recover(); r != nil {
			w.violate("panic", "%v", r)
		}
		for _, t := range w.tasks {
			t.stop()
			t.cancel()
		}
		result = w.result()
	}()
	w.open()
	w.trouble()
	w.heal()
	w.check()
	return result
}

func newWorld(o Options, shared *Shared) *world {
	w := &world{
		Options: o, shared: shared, r: rand.New(rand.NewPCG(o.Seed, 17)), faults: true,
		topics: map[string]*topic{}, commits: map[commitKey]stream.CommitOffset{}, rated: map[sourceKey]int64{},
		rows: map[rowKey]*row{}, chargedIDs: map[late.Record]bool{}, stages: map[string]*stage{},
		skews: map[string]int64{}, seen: map[string]bool{}, counts: map[string]int{},
	}
	w.mutation = Mutants[o.Mutant].mutation
	w.nowMs = epochs[w.r.IntN(len(epochs))] + w.r.Int64N(3*hourMs)
	r := func(n int) int { // every third rate is none at all
		if w.r.IntN(3) == 0 {
			return 0
		}
		return w.r.IntN(n + 1)
	}
	w.rates = rates{die: r(60), lost: r(300), mute: r(300), slow: r(10), failover: r(10), rebalance: r(10), outage: r(4),
		loss: r(3), promote: r(5), decline: w.r.IntN(60),
		gateway: r(5), sleep: r(8), bookLag: int64(r(4)) * minuteMs / 2}
	w.codec = stream.CodecNone
	if w.r.IntN(96) == 0 { // unpacking is slow
		w.count("compressed logs")
		w.codec = []stream.Codec{stream.CodecSnappy, stream.CodecLZ4}[w.r.IntN(2)]
	}
	w.batchMax = 1 << 20
	if w.r.IntN(4) == 0 {
		w.batchMax = 600 + w.r.IntN(3000)
	}
	w.raises = w.r.IntN(2) == 0
	w.bookImages = []int64{20, 150, 300}[w.r.IntN(3)]
	w.keyLifeMs = 20*minuteMs + w.r.Int64N(30*minuteMs)
	w.patience = []int{20 * 60, 6 * 60, 2 * 60}[w.r.IntN(3)]
	w.wanted = 40 + w.r.IntN(50)
	if o.Records > 0 {
		w.wanted = min(w.wanted, o.Records)
	}
	for p := range w.posted {
		w.posted[p].last = -1
	}
	return w
}

// trouble runs the world while everything fails.
func (w *world) trouble() {
	limit := 60_000
	for w.step = 0; w.step < limit && (w.made < w.wanted || w.step < 2500); w.step++ {
		w.advance()
		if w.hopeless() {
			return
		}
	}
}

// hopeless tells whether there is nothing left to prove.
func (w *world) hopeless() bool { return len(w.violations) > 0 }

// heal ends all faults and waits until nothing is left to do: I9.
func (w *world) heal() {
	if w.hopeless() {
		return
	}
	w.noteText("the last fault heals")
	w.faults, w.storeDown, w.gatewayDown = false, false, false
	for _, r := range w.requests {
		w.charge(r.request)
	}
	w.requests = nil
	w.healRedis()
	for _, f := range w.followers {
		if f.build != newerBuild {
			f.build = newerBuild
			w.restart(f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.stages)) {
		if w.r.IntN(2) == 0 { // the others must find their way by themselves
			w.rebalance(w.stages[name])
		}
	}
	began, from := w.nowMs, w.step
	for quiet := 0; quiet < 3; w.step++ {
		if w.step-from > 150_000 || w.nowMs-began > 20*dayMs {
			w.violate("I9", "after the last fault, still %s", w.unsettled())
			return
		}
		w.advance()
		if w.hopeless() {
			return
		}
		if w.step%64 == 0 {
			if quiet++; w.unsettled() != "" {
				quiet = 0
			}
		}
	}
}

// advance is one step: somebody whose time has come goes on; if there is nobody, time passes.
func (w *world) advance() {
	w.land()
	w.arrive()
	ready, next := 0, w.actMs
	var chosen *task
	for i := 0; i < len(w.tasks); i++ {
		t := w.tasks[i]
		if t.zombie > 0 && w.step > t.zombie {
			t.dies, t.wakeMs = true, w.nowMs
		}
		if t.wakeMs > w.nowMs {
			next = min(next, t.wakeMs)
			continue
		}
		if ready++; w.r.IntN(ready) == 0 {
			chosen = t
		}
	}
	if w.actMs <= w.nowMs {
		if ready++; w.r.IntN(ready) == 0 {
			w.act()
			return
		}
	}
	if chosen == nil {
		for _, f := range w.flights {
			next = min(next, f.dueMs)
		}
		for _, r := range w.requests {
			next = min(next, r.dueMs)
		}
		w.nowMs = max(w.nowMs, next)
		return
	}
	w.run(chosen)
	if w.faults && w.r.IntN(4) == 0 {
		w.nowMs += w.r.Int64N(20)
	}
}

// run lets a task go on until its next call.
func (w *world) run(t *task) {
	t.wakeMs = w.nowMs + 1
	_, alive := t.resume()
	if alive {
		return
	}
	t.ended = true
	t.stop()
	t.cancel()
	w.tasks = slices.DeleteFunc(w.tasks, func(x *task) bool { return x == t })
	w.note(t, "ends", 0, 0)
	w.succeed(t)
}

// count notes that something of a kind happened.
func (w *world) count(kind string) { w.counts[kind]++ }

// violate notes that an invariant does not hold; the first detail of each is kept.
func (w *world) violate(invariant, format string, args ...any) {
	if w.seen[invariant] {
		return
	}
	w.seen[invariant] = true
	v := Violation{invariant, fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.hash(xxhash.Sum64String(invariant))
	w.trace(fmt.Sprintf("VIOLATION of %s: %s", v.Invariant, v.Detail))
}

// note records an event of a task.
func (w *world) note(t *task, what string, a, b int64) {
	w.hash(t.named ^ xxhash.Sum64String(what))
	w.hash(uint64(w.nowMs)<<20 ^ uint64(a)<<8 ^ uint64(b))
	if w.Trace {
		w.keep(fmt.Sprintf("%s %-14s %s %d %d", w.clock(), t.name, what, a, b))
	}
}

// noteFate records a call of a task, and what happens to it.
func (w *world) noteFate(t *task, what string, a, b int64, f fate) {
	w.hash(t.named ^ xxhash.Sum64String(what) ^ uint64(f))
	w.hash(uint64(w.nowMs)<<20 ^ uint64(a)<<8 ^ uint64(b))
	if w.Trace {
		w.keep(fmt.Sprintf("%s %-14s %s %d %d%s", w.clock(), t.name, what, a, b, [...]string{"", ": LOST", ": reply lost", ": dies after it", ": dies before it"}[f]))
	}
}

// noteText records an event that is told in words.
func (w *world) noteText(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.hash(uint64(w.nowMs) ^ xxhash.Sum64String(text))
	w.trace(text)
}

// trace records what is only for those who read a trace: it is no part of the hash.
func (w *world) trace(text string) {
	if w.Trace {
		w.keep(w.clock() + " " + text)
	}
}

func (w *world) clock() string { return fmt.Sprintf("%6d %s", w.step, timeText(w.nowMs)) }

func (w *world) keep(line string) { w.events = append(w.events, line) }

func (w *world) hash(x uint64) { w.hashed = mix(w.hashed, x) }

func (w *world) result() Result {
	entries := 0
	if w.topics["entries"] != nil {
		for _, p := range w.topics["entries"].partitions {
			entries += int(p.end)
		}
	}
	return Result{Violations: w.violations, Hash: w.hashed, Steps: w.step, Messages: w.messages, Records: w.records, Entries: entries,
		Counts: w.counts, Events: w.events}
}

// logger gives a loop a logger that turns what must never happen into violations.
func (w *world) logger(t *task) *slog.Logger { return slog.New(&handler{w: w, t: t}) }

// happens counts a kind of fault, unless it must not happen in this run.
func (w *world) happens(kind string) bool {
	if slices.Contains(w.Without, kind) {
		return false
	}
	w.counts[kind]++
	return true
}

// isBug tells whether a message says that something impossible has happened.
func isBug(message string) bool {
	return strings.Contains(message, "BUG:") || strings.Contains(message, "DIFFERENCE")
}
