//go:build static || !linux || !amd64

package local

import "errors"

// serveClickHouse cannot be: libchdb.so is for Linux on amd64, and a static program cannot load a library.
func serveClickHouse(engineJob) error {
	return errors.New("this program cannot load the engine of ClickHouse; " + installClickHouse)
}
