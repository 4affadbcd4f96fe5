// Command engine is a server for the tests: kfake, or ClickHouse out of libchdb.so, as its environment says. Package local
// builds and starts it where the running program cannot start itself again, that is, in a test binary. It is of no use by hand.
package main

import (
	"fmt"
	"os"

	"github.com/tollgate/tollgate/deploy/local"
)

func main() {
	local.MaybeRunEngine()
	fmt.Fprintln(os.Stderr, "engine: started by package local only")
	os.Exit(2)
}
