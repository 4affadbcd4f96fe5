package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is where the files of patches are named from.
const root = "../.."

// TestMutants runs the mutants that SIM_MUTANT names, or all of them for "all", until each is killed a few times, and for
// at most SIM_SEEDS seeds: some invariant must notice.
func TestMutants(t *testing.T) {
	names := strings.Split(os.Getenv("SIM_MUTANT"), ",")
	switch names[0] {
	case "":
		t.Skip(`SIM_MUTANT names no mutants: use "all", or some of them parted by commas`)
	case "all":
		names = slices.Sorted(maps.Keys(Mutants))
		names = append(names, slices.Sorted(maps.Keys(Patches))...)
	}
	for _, name := range names {
		p, patched := Patches[name]
		switch {
		case patched && os.Getenv("SIM_PATCHED") != name:
			runPatched(t, name, p)
		case patched:
			kill(t, name, Options{})
		case Mutants[name].What == "":
			t.Errorf("there is no mutant %q", name)
		default:
			kill(t, name, Options{Mutant: name})
		}
	}
}

// kill runs seeds until the mutant is killed a few times.
func kill(t *testing.T, name string, o Options) {
	const enough = 5
	killed, ran, by := 0, 0, map[string]int{}
	runSeeds(1, number("SIM_SEEDS", 5000), o, func(seed uint64, r Result) bool {
		ran++
		if len(r.Violations) > 0 {
			killed++
		}
		for _, v := range r.Violations {
			by[v.Invariant]++
			if os.Getenv("SIM_WHY") != "" {
				t.Logf("seed %d: %s: %.600s", seed, v.Invariant, v.Detail)
			}
		}
		return killed < enough
	})
	var list []string
	for _, invariant := range slices.Sorted(maps.Keys(by)) {
		list = append(list, fmt.Sprintf("%s (%d)", invariant, by[invariant]))
	}
	t.Logf("%-22s killed in %d of %4d seeds by %s", name, killed, ran, strings.Join(list, ", "))
	if killed == 0 || by["panic"] > 0 {
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
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestMutants$", "-test.v", "-test.timeout", "1h")
	run.Env = append(os.Environ(), "SIM_MUTANT="+name, "SIM_PATCHED="+name)
	out, err := run.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if _, said, ok := strings.Cut(strings.TrimRight(line, "\n"), "_test.go:"); ok {
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
