// Package protocol checks the protocol itself, exhaustively within small bounds: the Spin models of debit takeover, of rate
// and of loading a lost shard, and what happens to each when one of its mechanisms is taken away.
//
// It runs Spin and gcc, and never the product: bench/simulation runs that, without bounds and without exhausting anything.
package protocol

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A check is one run of a model: which file, and what is defined for it.
type check struct {
	model   string
	defines string
}

// small are the checks of every test run, large those of `make model`: every interleaving within the bounds.
var (
	small = []check{
		{"debit", "N=2 FAILOVERS=1"},
		{"rate", ""},
		{"image", "N=1 DEBITS=1 COUNT_ROUNDS"},
	}
	large = []check{
		{"debit", "N=3 FAILOVERS=2"},
		{"debit", "N=2 FAILOVERS=1 DEBITS=3"},
		{"debit", "N=3 FAILOVERS=2 DEBITS=1 COUNT_ROUNDS"},
		{"rate", "REMADE=1"},
		{"rate", "BOOK"},
		{"image", "N=1"},
		{"image", "N=2 DEBITS=1 COUNT_ROUNDS"},
	}
)

// mutants are the mechanisms that can be taken away: by model and switch, with the bounds that suffice to notice, and the
// invariant that breaks first. They run without the assertions on what stands in Redis: the harm must show in the logs.
var mutants = []struct{ model, without, bounds, killedBy string }{
	{"debit", "NO_JOURNAL", "N=2 FAILOVERS=1", "I9_everything_is_posted"},
	{"debit", "NO_GAP", "N=2 FAILOVERS=1", "I3_postings_are_equal"},
	{"debit", "NO_TRIMMED", "N=2 FAILOVERS=1", "I3_postings_are_equal"},
	{"debit", "TRIM_EARLY", "N=2 FAILOVERS=1", "I9_everything_is_posted"},
	{"debit", "SHIPPED_LIES", "N=2 FAILOVERS=1", "I9_everything_is_posted"},
	{"debit", "NO_MIN", "N=2 FAILOVERS=1 DEBITS=1 COUNT_ROUNDS", "I9_comes_to_rest"},
	{"debit", "BATCH_FOLD", "N=2 FAILOVERS=1", "I3_postings_are_equal"},
	{"debit", "TORN_SCRIPT", "N=2 FAILOVERS=1", "I3_postings_are_equal"},
	{"debit", "START_AT_WM", "N=2 FAILOVERS=1", "I9_everything_is_posted"},
	{"debit", "SHIP_UNAWAITED", "N=2 FAILOVERS=1", "I9_everything_is_posted"},
	{"debit", "SHIP_UNORDERED", "N=2 FAILOVERS=1", "I4_postings_have_no_gap"},
	{"debit", "NO_PROBE", "N=2 FAILOVERS=1", "I9_everything_is_applied"},
	{"debit", "NOT_TOLD", "N=2 FAILOVERS=1", "I9_base_reaches_the_end"},

	{"rate", "NO_IX", "", "I10_no_record_vanishes"},
	{"rate", "NO_WATERMARK", "", "I5_one_row_per_record"},
	{"rate", "TWO_IN_FLIGHT", "", "I4_no_shard_halts"},
	{"rate", "NO_PREV", "TWO_IN_FLIGHT", "I10_no_record_vanishes"},
	{"rate", "COMMITS_EARLY", "", "I10_no_record_vanishes"},
	{"rate", "COMMITS_CUT_MESSAGE", "", "I10_no_record_vanishes"},
	{"rate", "COMMITTED_BY_NAME", "REMADE=1", "I10_no_record_vanishes"},
	{"rate", "TOPIC_ID_BEFORE", "REMADE=1", "I5_one_row_per_record"},
	{"rate", "NO_FRONTIER", "BOOK", "I5_one_row_per_record"},
	{"rate", "NO_CLAMP", "BOOK", "I5_one_row_per_record"},
	{"rate", "NEWEST_OWNER", "BOOK", "I5_one_row_per_record"},

	{"image", "NO_WIPE", "DEBITS=1 COUNT_ROUNDS", "I9_comes_to_rest"},
	{"image", "NO_CHAIN", "DEBITS=1", "I3_postings_are_equal"},
	{"image", "NO_NONCE", "N=2", "I3_postings_are_equal"},
	{"image", "EARLY_IMAGE", "DEBITS=1", "I9_everything_is_posted"},
	{"image", "CUT_BEYOND_IMAGE", "DEBITS=1 COUNT_ROUNDS", "I9_comes_to_rest"},
}

const (
	memoryMiB = 5500    // more than that is an error, not a slow machine
	maxDepth  = 1000000 // steps; a search that is cut off there is an error as well
)

// asked tells whether `make model` asked for everything.
func asked() bool { return os.Getenv("MODEL") == "all" }

// TestModels runs the models as they are: no assertion may fail in any interleaving.
func TestModels(t *testing.T) {
	needSpin(t)
	checks := small
	if asked() {
		checks = large
	}
	for _, c := range checks {
		t.Run(strings.TrimSpace(c.model+" "+c.defines), func(t *testing.T) {
			began := time.Now()
			v := c.verify(t, "-O2")
			if v.violated != "" {
				t.Fatalf("%s is violated; the steps that lead there:\n%s", v.violated, v.steps)
			}
			t.Logf("%d states in %.1f s and %s MiB, every interleaving, 0 errors", v.states, time.Since(began).Seconds(), v.memory)
		})
	}
}

// TestModelMutants takes one mechanism after the other away: the model must notice each, in the way that README.md says.
func TestModelMutants(t *testing.T) {
	needSpin(t)
	for _, m := range mutants {
		t.Run(m.model+" "+m.without, func(t *testing.T) {
			v := check{m.model, m.bounds + " OUTWARD " + m.without}.verify(t, "-O0") // it finds something soon: compiling takes longer
			switch v.violated {
			case m.killedBy:
				t.Logf("killed by %s after %d states", v.violated, v.states)
			case "":
				t.Errorf("survived %d states: what was taken away is not needed, or not looked at", v.states)
			default:
				t.Errorf("killed by %s instead of %s", v.violated, m.killedBy)
			}
		})
	}
}

// TestReadmeListsMutants holds the table of README.md to the one of this file.
func TestReadmeListsMutants(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		row := regexp.MustCompile("(?m)^\\| `" + m.model + "` \\| `" + m.without + "` \\|.*\\| `" + m.killedBy + "` \\|$")
		if !row.Match(text) {
			t.Errorf("README.md has no row that says: %s without %s is killed by %s", m.model, m.without, m.killedBy)
		}
	}
}

// verdict is what an exhaustive run found.
type verdict struct {
	states   int
	memory   string // MiB
	violated string // the name of the invariant, or "" if there is none
	steps    string // those that lead there
}

var (
	statesLine = regexp.MustCompile(`(\d+) states, stored`)
	memoryLine = regexp.MustCompile(`(\d+)\.\d+\s+total actual memory usage`)
	firstError = regexp.MustCompile(`(?m)^pan:\d+: (?:assertion violated )?(.*) \(at depth`)
	cutOff     = regexp.MustCompile(`max search depth too small|Search not completed|out of memory|reached -DMEMLIM|aborting`)
)

// verify has Spin write the verifier of a check, compiles and runs it.
func (c check) verify(t *testing.T, optimize string) (v verdict) {
	dir := t.TempDir()
	text, err := os.ReadFile(c.model + ".pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, c.model+".pml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	spin := []string{"-a"}
	for _, d := range strings.Fields(c.defines) {
		spin = append(spin, "-D"+d)
	}
	run(t, dir, "spin", append(spin, c.model+".pml")...)
	run(t, dir, "gcc", optimize, "-w", "-DSAFETY", "-DCOLLAPSE", fmt.Sprintf("-DMEMLIM=%d", memoryMiB), "-o", "pan", "pan.c")
	output := run(t, dir, "./pan", fmt.Sprintf("-m%d", maxDepth), "-w22")
	if found := statesLine.FindStringSubmatch(output); found != nil {
		v.states, _ = strconv.Atoi(found[1])
	}
	if found := memoryLine.FindStringSubmatch(output); found != nil {
		v.memory = found[1]
	}
	if found := firstError.FindStringSubmatch(output); found != nil {
		v.violated = found[1]
		v.steps = run(t, dir, "./pan", "-r")
		return v
	}
	if v.states == 0 || cutOff.MatchString(output) {
		t.Fatalf("the search did not come to its end:\n%s", output)
	}
	return v
}

func run(t *testing.T, dir, name string, args ...string) string {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// needSpin skips the test where Spin or gcc is missing, unless everything was asked for: then it installs them, on Debian
// as root, or says what to install.
func needSpin(t *testing.T) {
	missing := func() (names []string) {
		for _, name := range []string{"spin", "gcc"} {
			if _, err := exec.LookPath(name); err != nil {
				names = append(names, name)
			}
		}
		return names
	}
	names := missing()
	if len(names) == 0 {
		return
	}
	if !asked() {
		t.Skipf("%s is not on PATH: `make model` installs it", strings.Join(names, " and "))
	}
	if _, err := os.Stat("/etc/debian_version"); err != nil || os.Geteuid() != 0 {
		t.Fatalf("%s is not on PATH: install it (on Debian and Ubuntu: apt-get install spin gcc libc6-dev)", strings.Join(names, " and "))
	}
	t.Setenv("DEBIAN_FRONTEND", "noninteractive")
	run(t, ".", "apt-get", "-q", "update")
	run(t, ".", "apt-get", "-q", "install", "-y", "--no-install-recommends", "spin", "gcc", "libc6-dev")
}
