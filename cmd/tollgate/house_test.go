package main

import (
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestHouse keeps the house: who may import whom, what is documented, how long things may grow. It parses the tree and
// needs nothing else. Every exception is named in a table of this file, with its reason; a table that has become too
// generous is a failure too.
func TestHouse(t *testing.T) {
	h := openHouse(t)
	for name, rule := range map[string]func(*testing.T){
		"top": h.top, "floors": h.floors, "stages": h.stages, "drivers": h.drivers, "pure": h.pure, "clock": h.clock, "names": h.names,
		"readmes": h.readmes, "links": h.links, "comments": h.comments, "lengths": h.lengths, "requirements": h.requirements,
	} {
		t.Run(name, rule)
	}
}

// topLevel is all that stands at the root of the tree, names that begin with a dot aside; bin is not under version control.
var topLevel = []string{"cmd", "rater", "balance", "sink", "bench", "deploy", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "bin"}

// mayImport says which parts of the tree the code of a part may import, tests aside; the longest name counts. A floor
// imports its own rooms and those of the floors before it in the flow, so that nothing upstream knows what is downstream.
var mayImport = map[string][]string{
	"rater":            {"rater"},
	"balance":          {"rater", "balance"},
	"sink":             {"rater", "balance", "sink"},
	"bench":            {"rater/stream", "bench/workload"},
	"bench/workload":   {}, // an oracle that shares code with what it checks shares its mistakes
	"bench/simulation": {"rater", "balance", "sink"},
	"bench/oracle":     {}, // the same
	"cmd/tolloracle":   {"bench/oracle"},
	"bench/chaos":      {"rater/stream", "bench", "deploy/local"}, // the programs it runs as processes
	"deploy":           {"deploy"},
	"cmd":              {"rater", "balance", "sink", "bench", "deploy"},
}

// mayImportInTests is what tests may import besides: servers, and, of the floors after theirs, nothing.
var mayImportInTests = []string{"deploy/local"}

// mayImportInTestsOf is what the tests of one part may import besides.
var mayImportInTestsOf = map[string][]string{"cmd/tolloracle": {"bench"}}

// stageImporters are those that may import a floor's root package, which is the stage: its loop and its metrics.
var stageImporters = map[string][]string{
	"rater":   {"cmd/tollgate", "bench/simulation"},
	"balance": {"cmd/tollgate", "bench/simulation"},
	"sink":    {"cmd/tollgate", "bench/simulation"},
}

// driverUsers are the parts that may import a module which talks to a server, or makes the command line.
var driverUsers = map[string][]string{
	"github.com/ClickHouse":         {"sink", "bench/oracle", "cmd"},
	"github.com/redis/go-redis":     {"balance/lua", "cmd"},
	"github.com/segmentio/kafka-go": {"rater/stream", "bench/oracle", "deploy/local", "cmd"},
	"github.com/twmb/franz-go":      {"deploy/local"},
	"github.com/spf13/cobra":        {"cmd/tollgate"},
	"github.com/Shopify/toxiproxy":  {"bench/chaos"},
}

// driversNowhere are those that a floor's tests must not import either.
var driversNowhere = map[string]string{
	"rater": "github.com/ClickHouse", "balance": "github.com/ClickHouse", "sink": "github.com/redis/go-redis",
}

// pureImports are all imports of the pure packages beyond the standard library.
var pureImports = map[string][]string{
	"rater/money":     {"github.com/shopspring/decimal"},
	"rater/price":     {"rater/money"},
	"rater/entry":     {"rater/money", "rater/price"},
	"balance/posting": {"rater/money", "rater/entry"},
	"balance/ledger":  {"rater/money", "rater/entry", "balance/posting"},
}

// impureImports are the parts of the standard library that a pure package has no use for.
var impureImports = []string{"context", "crypto/rand", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "os", "runtime", "sync", "syscall"}

// clockReaders are the files of the floors that ask package time what time it is, or have it wait. All others are told,
// by a stream.Clock or by what they read.
var clockReaders = map[string]string{
	"rater/stream/roles.go":       "it is the clock of production",
	"rater/stream/produce.go":     "stamps batches of topics whose time the broker does not set",
	"rater/stream/fetch.go":       "bounds how long a fetch waits for all brokers",
	"rater/stream/group.go":       "bounds how soon a member joins again",
	"sink/statement/statement.go": "the read side: pauses before it reads an unsettled statement again",
}

const (
	maxFunctionLines = 70
	maxFileLines     = 500
)

// tooLong are the files and functions beyond the bounds, with the lines that they have. A number here may only fall.
var tooLong = map[string]int{
	"rater/stream/stream_test.go":           538,
	"sink/late/world_test.go":               516,
	"sink/servers_test.go: TestRealServers": 87,
}

// top: nothing else stands at the root, such as a binary that `go build` left there.
func (h *house) top(t *testing.T) {
	entries, err := os.ReadDir(houseRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s does not belong at the top level: remove it", name)
		}
	}
}

// floors: nobody imports what comes after it in the flow, and nobody imports cmd.
func (h *house) floors(t *testing.T) {
	for _, f := range h.files {
		part := ""
		for p := range mayImport {
			if within(f.folder, p) && len(p) > len(part) {
				part = p
			}
		}
		if part == "" {
			t.Errorf("%s lies in no part of the tree that mayImport knows", f.path)
		}
		for _, imported := range f.imports {
			allowed := within(imported, mayImport[part]...) || f.test && (within(imported, mayImportInTests...) || within(imported, mayImportInTestsOf[part]...) || imported == f.folder)
			if ofTree(imported) && !allowed {
				t.Errorf("%s imports %s: %s may import only %v", f.path, imported, part, mayImport[part])
			}
			if within(imported, "cmd") {
				t.Errorf("%s imports %s: nobody imports cmd", f.path, imported)
			}
		}
	}
}

// stages: the root package of a floor is wired by cmd and by the simulator alone.
func (h *house) stages(t *testing.T) {
	for _, f := range h.files {
		for _, imported := range f.imports {
			if by, isStage := stageImporters[imported]; isStage && !f.test && !slices.Contains(by, f.folder) {
				t.Errorf("%s imports the stage %s: only %v may", f.path, imported, by)
			}
		}
	}
}

// drivers: each server is known to one place.
func (h *house) drivers(t *testing.T) {
	for _, f := range h.files {
		for _, imported := range f.imports {
			for module, users := range driverUsers {
				if within(imported, module) && !f.test && !within(f.folder, users...) {
					t.Errorf("%s imports %s: only %v may", f.path, imported, users)
				}
			}
			for floor, module := range driversNowhere {
				if within(f.folder, floor) && within(imported, module) {
					t.Errorf("%s imports %s: %s knows nothing of it, not even in tests", f.path, imported, floor)
				}
			}
		}
	}
}

// pure: the pure packages import what is listed, and nothing that could make two runs differ.
func (h *house) pure(t *testing.T) {
	for folder, listed := range pureImports {
		found := map[string]bool{}
		for _, f := range h.files {
			if f.folder != folder || f.test {
				continue
			}
			for _, imported := range f.imports {
				if slices.Contains(impureImports, imported) {
					t.Errorf("%s imports %s: %s is pure", f.path, imported, folder)
				}
				if strings.Contains(imported, ".") || ofTree(imported) {
					found[imported] = true
				}
			}
		}
		if have := slices.Sorted(maps.Keys(found)); !slices.Equal(have, slices.Sorted(slices.Values(listed))) {
			t.Errorf("%s imports %v: pureImports lists %v", folder, have, listed)
		}
	}
}

// clock: of the floors, only the files listed ask package time what time it is.
func (h *house) clock(t *testing.T) {
	asks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	found := map[string]bool{}
	for _, f := range h.files {
		if f.test || !within(f.folder, "rater", "balance", "sink") || !slices.Contains(f.imports, "time") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, isSelector := n.(*ast.SelectorExpr)
			if !isSelector {
				return true
			}
			if x, isName := s.X.(*ast.Ident); isName && x.Name == "time" && slices.Contains(asks, s.Sel.Name) {
				found[f.path] = true
				if clockReaders[f.path] == "" {
					t.Errorf("%s: time.%s: take a stream.Clock, or the time from what is read", h.positions.Position(n.Pos()), s.Sel.Name)
				}
			}
			return true
		})
	}
	for name := range clockReaders {
		if !found[name] {
			t.Errorf("%s reads no clock any more: take it from clockReaders", name)
		}
	}
}

// names: no package is called after what it is not, nothing runs by itself, nothing is left for later.
func (h *house) names(t *testing.T) {
	banned := []string{"util", "utils", "common", "model", "models", "helper", "helpers", "misc", "shared"}
	later := regexp.MustCompile(`\b(` + "TO" + `DO|FIX` + `ME)\b`)
	for _, f := range h.files {
		if name := strings.TrimSuffix(f.syntax.Name.Name, "_test"); slices.Contains(banned, name) || slices.Contains(banned, path.Base(f.folder)) {
			t.Errorf("%s: package %s: name it after what it does", f.path, name)
		}
		for _, fn := range f.functions() {
			if fn.Recv == nil && fn.Name.Name == "init" && !f.test {
				t.Errorf("%s: no init: have app.go call it", h.positions.Position(fn.Pos()))
			}
		}
		for _, group := range f.syntax.Comments {
			if later.MatchString(group.Text()) {
				t.Errorf("%s: do it now, or file an issue", h.positions.Position(group.Pos()))
			}
		}
	}
	for name, text := range h.texts {
		if later.MatchString(text) {
			t.Errorf("%s: do now what it says, or file an issue", name)
		}
	}
}

// readmes: every folder with code has a README, and the map in the top one names it. A command may be described in the
// folder above it.
func (h *house) readmes(t *testing.T) {
	top, ok := h.texts["README.md"]
	if !ok {
		t.Error("there is no README.md at the top")
	}
	for _, folder := range h.folders {
		places := []string{folder}
		if h.isCommand(folder) {
			places = append(places, path.Dir(folder))
		}
		described := func(place string) bool { return h.texts[place+"/README.md"] != "" }
		if !slices.ContainsFunc(places, described) {
			t.Errorf("%s has no README.md: one page with its job, its layout and its decisions", folder)
		}
		mapped := func(place string) bool { return strings.Contains(top, "`"+place+"`") }
		if !slices.ContainsFunc(places, mapped) {
			t.Errorf("the map in README.md does not name `%s`", folder)
		}
	}
}

// links: what a page of the tree points to within the tree is there, and so are the tests that it names.
func (h *house) links(t *testing.T) {
	link, proof := regexp.MustCompile(`\]\(([^)\s#]+)[^)]*\)`), regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][a-z]\w*`)
	tests := map[string]bool{}
	for _, f := range h.files {
		for _, fn := range f.functions() {
			tests[fn.Name.Name] = tests[fn.Name.Name] || f.test
		}
	}
	for name, text := range h.texts {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, named := range proof.FindAllString(text, -1) {
			if !tests[named] {
				t.Errorf("%s names the test %s, which is not there", name, named)
			}
		}
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(found[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(houseRoot, path.Dir(name), filepath.FromSlash(found[1]))); err != nil {
				t.Errorf("%s points to %s, which is not there", name, found[1])
			}
		}
	}
}

// comments: each package opens with its job, its place and what it never does; every exported name says what it holds.
func (h *house) comments(t *testing.T) {
	opened := map[string]int{}
	for _, f := range h.files {
		if f.test {
			continue
		}
		if doc := f.syntax.Doc; doc != nil {
			opened[f.folder]++
			lines := h.span(doc)
			if lines > 8 || lines < 3 && f.syntax.Name.Name != "main" {
				t.Errorf("%s: the package comment has %d lines: use 3 to 8", f.path, lines)
			}
		}
		for _, d := range f.syntax.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no comment", h.positions.Position(name.Pos()), name.Name)
			}
		}
	}
	for _, folder := range h.folders {
		if opened[folder] != 1 {
			t.Errorf("%s has %d package comments: use one", folder, opened[folder])
		}
	}
}

// lengths: functions and files stay short enough to be read at once.
func (h *house) lengths(t *testing.T) {
	exceptions := maps.Clone(tooLong)
	check := func(name string, lines, bound int) {
		was, listed := exceptions[name]
		delete(exceptions, name)
		switch {
		case listed && lines <= bound:
			t.Errorf("%s has %d lines: take it from tooLong", name, lines)
		case lines > max(bound, was):
			t.Errorf("%s has %d lines: at most %d", name, lines, max(bound, was))
		}
	}
	for _, f := range h.files {
		check(f.path, f.lines, maxFileLines)
		for _, fn := range f.functions() {
			check(f.path+": "+fn.Name.Name, h.span(fn), maxFunctionLines)
		}
	}
	for name := range exceptions {
		t.Errorf("%s is not there any more: take it from tooLong", name)
	}
}

// requirements: go.mod requires directly what the tree imports, and nothing else.
func (h *house) requirements(t *testing.T) {
	line := regexp.MustCompile(`(?m)^(?:\t|require )(\S+) v\S+( // indirect)?$`)
	direct := map[string]bool{} // by module; false for what is required by others
	for _, found := range line.FindAllStringSubmatch(h.texts["go.mod"], -1) {
		direct[found[1]] = found[2] == ""
	}
	if !slices.Contains(slices.Collect(maps.Values(direct)), true) {
		t.Skip("go.mod marks every requirement as indirect: it was never tidied")
	}
	imported := map[string]bool{}
	for _, f := range h.files {
		for _, name := range f.imports {
			module := ""
			for m := range direct {
				if within(name, m) && len(m) > len(module) {
					module = m
				}
			}
			imported[module] = true
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") && !direct[module] {
				t.Errorf("%s imports %s: go.mod must require its module, and not as indirect", f.path, name)
			}
		}
	}
	for module, isDirect := range direct {
		if isDirect && !imported[module] {
			t.Errorf("go.mod requires %s, which nobody imports", module)
		}
	}
}
