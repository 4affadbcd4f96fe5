package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is where the files of patches are named from.
const root = "../.."

// The bounds of the full form, as README.md gives them.
const (
	killsEnough = 5
	seedsAtMost = 5000
)

// rare are the mutants among Mutants of which less than one seed in twenty or so is killed: they are left to the full form.
var rare = []string{"ids-by-ttl", "late-charge", "no-expired", "tell-unheard"}

// TestMutants takes mechanisms away: some invariant must notice. It runs the mutants that SIM_MUTANT names, or all of them
// for "all", until each is killed a few times, and for at most SIM_SEEDS seeds; if it names none, those that are killed soon
// and need no other build, until each is killed once.
func TestMutants(t *testing.T) {
	named := os.Getenv("SIM_MUTANT")
	names, enough, seeds := strings.Split(named, ","), killsEnough, number("SIM_SEEDS", seedsAtMost)
	switch {
	case named == "" && testing.Short():
		t.Skip("mutants take some seconds")
	case named == "":
		enough, seeds = 1, 100
		names = slices.DeleteFunc(slices.Sorted(maps.Keys(Mutants)), func(name string) bool { return slices.Contains(rare, name) })
	case named == "all":
		names = slices.Sorted(maps.Keys(Mutants))
		names = append(names, slices.Sorted(maps.Keys(Patches))...)
	}
	for _, name := range names {
		p, patched := Patches[name]
		switch {
		case patched && os.Getenv("SIM_PATCHED") != name:
			runPatched(t, name, p)
		case patched:
			kill(t, name, fmt.Sprintf("%s | `%s`", p.What, p.File), Options{}, enough, seeds)
		case Mutants[name].What == "":
			t.Errorf("there is no mutant %q", name)
		default:
			kill(t, name, Mutants[name].What, Options{Mutant: name}, enough, seeds)
		}
	}
}

// kill runs seeds until the mutant is killed often enough, and says so as a row of the table in README.md.
func kill(t *testing.T, name, what string, o Options, enough int, seeds uint64) {
	killed, ran, by := 0, 0, map[string]bool{}
	runSeeds(1, seeds, o, func(seed uint64, r Result) bool {
		ran++
		if len(r.Violations) > 0 {
			killed++
		}
		for _, v := range r.Violations {
			by[v.Invariant] = true
			if os.Getenv("SIM_WHY") != "" {
				t.Logf("seed %d: %s: %.600s", seed, v.Invariant, v.Detail)
			}
		}
		return killed < enough
	})
	t.Logf("| `%s` | %s | %s | %d of %d |", name, what, strings.Join(slices.Sorted(maps.Keys(by)), ", "), killed, ran)
	if killed == 0 || by["panic"] {
		t.Errorf("%s is not killed by an invariant", name)
	}
}

// runPatched builds this test anew with the patch laid over the tree, and runs it.
func runPatched(t *testing.T, name string, p Patch) {
	t.Helper()
	source, err := p.apply()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	folder := t.TempDir()
	laid, overlay, binary := filepath.Join(folder, "patched.go"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "patched.test")
	original, err := filepath.Abs(filepath.Join(root, p.File))
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: laid}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{laid: source, overlay: list} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Errorf("%s: cannot build the patched test: %v\n%s", name, err, out)
		return
	}
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestMutants$", "-test.v", "-test.timeout", "3h")
	run.Env = append(os.Environ(), "SIM_MUTANT="+name, "SIM_PATCHED="+name)
	out, err := run.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if _, said, ok := strings.Cut(strings.TrimRight(line, "\n"), "_test.go:"); ok {
			_, said, _ = strings.Cut(said, ": ") // the number of the line
			t.Log(said)
		}
	}
	if err != nil {
		t.Errorf("%s is not killed: %s: %v", name, p.What, err)
	}
}

// apply gives the patched file.
func (p Patch) apply() ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, p.File))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(source), p.Old); n != 1 {
		return nil, fmt.Errorf("%s holds this %d times instead of once, change the patch with the code: %s", p.File, n, p.Old)
	}
	return []byte(strings.Replace(string(source), p.Old, p.New, 1)), nil
}

// Patches follow the code: each finds its place, and no two mutants have one name.
func TestPatchesApply(t *testing.T) {
	for name, p := range Patches {
		if _, err := p.apply(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if Mutants[name].What != "" {
			t.Errorf("two mutants are called %s", name)
		}
	}
}

// TestReadmeListsMutants holds the tables of README.md to Mutants and Patches, and their figures to what the full form does.
func TestReadmeListsMutants(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, m := range Mutants {
		want[name] = m.What
	}
	for name, p := range Patches {
		want[name] = fmt.Sprintf("%s | `%s`", p.What, p.File)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.*) \\| ([A-Za-z0-9, ]+) \\| ([0-9]+) of ([0-9]+) \\|$")
	for _, found := range row.FindAllStringSubmatch(string(text), -1) {
		name, what := found[1], found[2]
		if want[name] != what {
			t.Errorf("README.md says of the mutant %s, or says it twice: %s; it is: %s", name, what, want[name])
		}
		delete(want, name)
		kills, _ := strconv.Atoi(found[4])
		seeds, _ := strconv.Atoi(found[5])
		if kills < 1 || kills > seeds || seeds > seedsAtMost || kills != killsEnough && seeds != seedsAtMost {
			t.Errorf("README.md says that %s was killed in %d of %d seeds: the full form goes on until %d kills, or for %d seeds", name, kills, seeds, killsEnough, seedsAtMost)
		}
	}
	for name := range want {
		t.Errorf("README.md has no row of the mutant %s", name)
	}
	for _, name := range rare {
		if Mutants[name].What == "" {
			t.Errorf("there is no mutant %q", name)
		}
	}
}
