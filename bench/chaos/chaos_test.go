package chaos

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// What the short form must reach to be one.
const (
	leastKills   = 50
	leastRecords = 1_000_000
)

// TestChaos is the short form of `make chaos`: no record is lost or charged twice, whatever dies.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers and takes minutes: not run with -short")
	}
	cfg := DefaultConfig()
	cfg.Seed = seed(t)
	cfg.Tollgate, cfg.Oracle = build(t)
	cfg.DataDir = t.TempDir()
	cfg.Say = func(line string) { t.Log(line) }
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows() {
		t.Logf("%-48s %s", row[0], row[1])
	}
	if n := r.Differences(); n != 0 {
		t.Errorf("%d differences", n)
	}
	if r.AllKills() < leastKills || r.Records < leastRecords || r.Failovers == 0 {
		t.Errorf("only %d kills, %d records and %d failovers", r.AllKills(), r.Records, r.Failovers)
	}
}

// seed gives the seed: TOLLGATE_SEED, or a new one.
func seed(t *testing.T) uint64 {
	n := rand.Uint64N(1<<32) + 1
	if text := os.Getenv("TOLLGATE_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TOLLGATE_SEED: %v", err)
		}
	}
	t.Logf("seed %d (repeat with TOLLGATE_SEED=%d)", n, n)
	return n
}

// build builds the programs.
func build(t *testing.T) (tollgate, oracle string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "../../cmd/tollgate", "../../cmd/tolloracle")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "tollgate"), filepath.Join(dir, "tolloracle")
}

// The same seed deals the same faults, and every card comes once before any comes again.
func TestLanesDealBySeed(t *testing.T) {
	deal := func(seed uint64, n int) (names []string) {
		l := newLane(&Config{Seed: seed, Calm: 1}, "test", 0, time.Second, fault{name: "a", cards: 3}, fault{name: "b", cards: 1}, fault{name: "c", cards: 2})
		for range n {
			names = append(names, l.next().name)
		}
		return names
	}
	if !slices.Equal(deal(7, 60), deal(7, 60)) {
		t.Error("one seed deals differently")
	}
	if slices.Equal(deal(7, 60), deal(8, 60)) {
		t.Error("two seeds deal the same")
	}
	for seed := range uint64(50) {
		dealt := deal(seed, 12)
		for from := 0; from < len(dealt); from += 6 {
			counts := map[string]int{}
			for _, name := range dealt[from : from+6] {
				counts[name]++
			}
			if counts["a"] != 3 || counts["b"] != 1 || counts["c"] != 2 {
				t.Fatalf("seed %d deals %v", seed, dealt)
			}
		}
	}
}

// Whatever anyone finds counts as a difference, and the report survives JSON.
func TestReportAddsUpDifferences(t *testing.T) {
	r := newReport(&Config{Seed: 1})
	r.killed("redis")
	r.count("redis killed")
	if r.Differences() != 0 {
		t.Errorf("nothing was found, and yet %d differences", r.Differences())
	}
	r.Oracle, r.Verify = &OracleReport{Differences: 1}, &VerifyReport{Differences: 10, Notes: []string{"something was left out"}}
	r.AuditDifferences, r.Impossible = 100, []string{"BUG: this cannot be"}
	if r.Differences() != 113 {
		t.Errorf("%d differences instead of 113", r.Differences())
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Differences() != 113 || back.AllKills() != 1 {
		t.Errorf("%s comes back with %d differences: %v", text, back.Differences(), err)
	}
}
