package local

import "testing"

// ForTest starts the servers that a test needs, each test its own, and stops them when the test ends; a server that has
// ended by itself fails the test. It logs what it started. Under -short the test is skipped; otherwise the servers are
// mandatory, and a part that cannot be had fails the test.
func ForTest(t testing.TB, parts ...Part) *Stack {
	t.Helper()
	if testing.Short() {
		t.Skipf("starts real servers %v: not run with -short", parts)
	}
	stack, err := Start(t.Context(), Config{Parts: parts, Report: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(); err != nil {
			t.Error(err)
		}
	})
	return stack
}
