package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesAreShown holds bench/GUARANTEES.md to what there is: every "if X, then Y" names what shows it, and every
// mutant, model, lane of faults, alert and make target on the page exists. TestHouse looks for the tests that it names.
func TestGuaranteesAreShown(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("bench/GUARANTEES.md")
	for _, k := range []struct{ named, place, declared string }{
		{"mutant `([a-z-]+)`", read("bench/simulation/mutantlist.go") + read("bench/simulation/patches.go"), `"NAME": +{`},
		{"model `([A-Z_]+)`", read("bench/protocol/model_test.go"), `"NAME", "`},
		{"chaos `([a-z]+)`", read("bench/chaos/README.md"), `(?m)^\| NAME \|`},
		{"`(Tollgate[A-Za-z]+)`", read("deploy/prometheus/tollgate.rules.yml"), `alert: NAME\n`},
		{"`make ([a-z]+)`", read("Makefile"), `(?m)^NAME:`},
	} {
		for _, found := range regexp.MustCompile(k.named).FindAllStringSubmatch(page, -1) {
			if !regexp.MustCompile(strings.ReplaceAll(k.declared, "NAME", found[1])).MatchString(k.place) {
				t.Errorf("bench/GUARANTEES.md names %s, which is not there", found[0])
			}
		}
	}
	proof := regexp.MustCompile("`(?:Test|Fuzz)[A-Z]|mutant `|model `|chaos `|`make ")
	for line := range strings.Lines(page) {
		cells := strings.Split(line, " | ")
		if len(cells) == 5 && !strings.HasPrefix(line, "| if ") && !proof.MatchString(cells[4]) {
			t.Errorf("bench/GUARANTEES.md does not say what shows this: %s", line)
		}
	}
}
