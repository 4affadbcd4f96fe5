//go:build nojournal

package lua

import "strings"

// applyScript is the script without a journal, for the test that proves that verify and the audit catch its lack: what
// was applied before is folded once more, and the outcomes are what that gives. It exists only under the build tag.
func applyScript() string {
	source := applySource
	for _, change := range [...][2]string{
		{"local names = to > wm and cmsgpack.unpack(ARGV[7]) or {}", "local names = cmsgpack.unpack(ARGV[7])"},
		{"if from <= wm and from <= to then", "if false then"},
		{"  if offset > wm then", "  do"},
		{"for n = 1, #journal do call('XADD', JOURNAL, journal[n][1], unpack(journal[n][2])) end", ""},
	} {
		if strings.Count(source, change[0]) != 1 {
			panic("BUG: apply.lua does not hold once: " + change[0])
		}
		source = strings.Replace(source, change[0], change[1], 1)
	}
	return source
}
