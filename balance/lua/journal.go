//go:build !nojournal

package lua

// applyScript is the script as it is shipped.
func applyScript() string { return applySource }
