package simulation

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain collects garbage less often: worlds are small and short-lived.
func TestMain(m *testing.M) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(384 << 20)
	os.Exit(m.Run())
}

// number reads a number from the environment.
func number(name string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// runSeeds runs seeds on all processors, and calls each for every result, one at a time.
func runSeeds(from, count uint64, o Options, each func(seed uint64, r Result) (more bool)) {
	shared := NewShared()
	var next atomic.Uint64
	next.Store(from)
	var mu sync.Mutex
	var group sync.WaitGroup
	stopped := false
	for range max(1, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for {
				seed := next.Add(1) - 1
				mu.Lock()
				over := stopped || seed >= from+count
				mu.Unlock()
				if over {
					return
				}
				one := o
				one.Seed = seed
				r := Run(one, shared)
				mu.Lock()
				stopped = stopped || !each(seed, r)
				mu.Unlock()
			}
		})
	}
	group.Wait()
}

// TestSeeds runs seeds from SIM_FROM on and reports what they met: SIM_SEEDS of them, or as many as SIM_MINUTES allow, or
// else a few. It says every minute how far it is, and ends with its report when it is interrupted.
func TestSeeds(t *testing.T) {
	from, until := number("SIM_FROM", 1), time.Now().Add(100*365*24*time.Hour)
	seeds := number("SIM_SEEDS", 200)
	if minutes := number("SIM_MINUTES", 0); os.Getenv("SIM_SEEDS") == "" && minutes > 0 {
		seeds, until = math.MaxInt64, time.Now().Add(time.Duration(minutes)*time.Minute)
	}
	if end, ends := t.Deadline(); ends && end.Add(-time.Minute).Before(until) {
		until = end.Add(-time.Minute)
	}
	if testing.Short() {
		seeds = min(seeds, 40)
	}
	running, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	counts := map[string]int{}
	began, failed := time.Now(), 0
	said := began
	var ran, steps, messages, records, entries int
	runSeeds(from, seeds, Options{}, func(seed uint64, r Result) bool {
		ran, steps, messages, records, entries = ran+1, steps+r.Steps, messages+r.Messages, records+r.Records, entries+r.Entries
		for kind, n := range r.Counts {
			counts[kind] += n
		}
		if len(r.Violations) > 0 {
			report(t, seed, r)
			failed++
		}
		if time.Since(said) >= time.Minute {
			said = time.Now()
			t.Logf("%6.0f s: %d seeds, %d violating", time.Since(began).Seconds(), ran, failed)
		}
		return failed < 10 && running.Err() == nil && time.Now().Before(until)
	})
	took := time.Since(began).Seconds()
	t.Logf("%d seeds (%d to %d), %d violating, in %.1f s: %.1f seeds/s; %d steps, %d messages, %d records, %d blocks of entries",
		ran, from, from+uint64(ran)-1, failed, took, float64(ran)/took, steps, messages, records, entries)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%9d %s", counts[kind], kind)
	}
	if names := missing(ran, counts); len(names) > 0 {
		t.Errorf("in %d seeds there never was: %s", ran, strings.Join(names, ", "))
	}
}

// report prints what is wrong with a seed, the last events of what is left of it when it is shrunk, and how to run both
// again.
func report(t *testing.T, seed uint64, r Result) {
	t.Helper()
	const shown = 60
	small, _ := Shrink(Options{Seed: seed}, NewShared())
	small.Trace = true
	again := Run(small, NewShared())
	t.Errorf("seed %d: %v\nshrunk to %d messages, without %v: %v\n%s\nrun it again: SIM_SEED=%d go test -run 'TestSeed$' -v ./bench/simulation\n"+
		"or shrunk: SIM_SEED=%d SIM_RECORDS=%d SIM_WITHOUT='%s' go test -run 'TestSeed$' -v ./bench/simulation",
		seed, r.Violations, again.Messages, small.Without, again.Violations, strings.Join(again.Events[max(0, len(again.Events)-shown):], "\n"),
		seed, seed, small.Records, strings.Join(small.Without, ","))
}

// TestSeed runs the one seed that SIM_SEED names, with SIM_MUTANT, SIM_RECORDS and SIM_WITHOUT where they are set, and prints
// all that happens.
func TestSeed(t *testing.T) {
	if os.Getenv("SIM_SEED") == "" {
		t.Skip("SIM_SEED names no seed")
	}
	o := Options{Seed: number("SIM_SEED", 0), Mutant: os.Getenv("SIM_MUTANT"), Trace: true, Records: int(number("SIM_RECORDS", 0))}
	if without := os.Getenv("SIM_WITHOUT"); without != "" {
		o.Without = strings.Split(without, ",")
	}
	r := Run(o, NewShared())
	for _, e := range r.Events {
		fmt.Println(e)
	}
	fmt.Println(r.Counts)
	if len(r.Violations) > 0 {
		t.Errorf("%v", r.Violations)
	}
}

// A seed runs the same, step for step, whatever runs beside it, and whether or not somebody keeps the trace.
func TestSameSeedSameTrace(t *testing.T) {
	hashes := map[uint64]uint64{}
	for _, o := range []Options{{}, {}, {Trace: true}} {
		runSeeds(1_000_000, 12, o, func(seed uint64, r Result) bool {
			if before, ran := hashes[seed]; ran && before != r.Hash {
				t.Errorf("seed %d ran in two ways: %x and %x", seed, before, r.Hash)
			}
			hashes[seed] = r.Hash
			return true
		})
	}
}

// Runs that differ in one fault, one call or one name have different hashes.
func TestHashTellsEventsApart(t *testing.T) {
	hashes := map[uint64]string{}
	for name, note := range map[string]func(w *world, debit, audit *task){
		"a fault":                  func(w *world, _, _ *task) { w.noteText("fault: %s", "redis lost") },
		"another, as long":         func(w *world, _, _ *task) { w.noteText("fault: %s", "time jumps") },
		"a call":                   func(w *world, debit, _ *task) { w.noteFate(debit, "flip", 0, 7, fine) },
		"another, as long a name":  func(w *world, debit, _ *task) { w.noteFate(debit, "wipe", 0, 7, fine) },
		"the call of another task": func(w *world, _, audit *task) { w.noteFate(audit, "flip", 0, 7, fine) },
		"the call, lost":           func(w *world, debit, _ *task) { w.noteFate(debit, "flip", 0, 7, lost) },
		"the call, unheard":        func(w *world, debit, _ *task) { w.noteFate(debit, "flip", 0, 7, mute) },
		"the call, of another":     func(w *world, debit, _ *task) { w.noteFate(debit, "flip", 1, 7, fine) },
		"the end of a task":        func(w *world, debit, _ *task) { w.note(debit, "ends", 0, 0) },
		"the end of another":       func(w *world, _, audit *task) { w.note(audit, "ends", 0, 0) },
	} {
		w := newWorld(Options{}, nil)
		debit, audit := &task{name: "debit", named: 1}, &task{name: "audit", named: 2}
		note(w, debit, audit)
		if other, same := hashes[w.hashed]; same {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		hashes[w.hashed] = name
	}
}

// A failing seed shrinks to one that fails alike, with less in it.
func TestShrink(t *testing.T) {
	o := Options{Mutant: "no-gap"}
	shared := NewShared()
	for r := (Result{}); len(r.Violations) == 0; {
		o.Seed++
		r = Run(o, shared)
	}
	small, r := Shrink(o, shared)
	if len(r.Violations) == 0 || len(small.Without) < 5 {
		t.Errorf("shrunk to %+v: %v", small, r.Violations)
	}
	t.Logf("seed %d: %d messages, without %v", small.Seed, r.Messages, small.Without)
}
