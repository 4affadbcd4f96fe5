package local

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// engineVariable makes a program that calls MaybeRunEngine a server. Its value is an engineJob in JSON.
const engineVariable = "TOLLGATE_LOCAL_ENGINE"

// enginePackage is the program that a test builds, because a test binary does not call MaybeRunEngine.
const enginePackage = "github.com/tollgate/tollgate/deploy/local/engine"

// engineJob says which server an engine process is.
type engineJob struct {
	Engine  Part   // EmbeddedKafka or ClickHouse
	Library string // path of libchdb.so, for ClickHouse
	Dir     string // data folder
	Ports   []int  // EmbeddedKafka: one; ClickHouse: native, HTTP
}

// MaybeRunEngine must be the first call of every main that calls Start. Two servers have no program of their own (kfake is
// a Go package, libchdb.so a library), so Start runs this program a second time for them: there MaybeRunEngine serves until
// SIGTERM and exits. In any other process it returns at once.
func MaybeRunEngine() {
	text, asked := os.LookupEnv(engineVariable)
	if !asked {
		return
	}
	if err := runEngine(text); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runEngine(text string) error {
	var job engineJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fmt.Errorf("cannot read %s: %w", engineVariable, err)
	}
	if job.Engine == ClickHouse {
		return serveClickHouse(job)
	}
	return serveKafka(job)
}

// program is the engine as a server. The one of ClickHouse, unlike the server itself, aborts now and then when a client is
// refused or dies in the middle of something.
func (j engineJob) program(engine string, ready func(context.Context) error) (program, error) {
	text, err := json.Marshal(j)
	return program{path: engine, env: []string{engineVariable + "=" + string(text)}, ready: ready, keep: j.Engine == ClickHouse}, err
}

// findEngine is the path of a program that calls MaybeRunEngine: this one, or in a test one built for it. The go command
// looks at the sources itself and leaves a program that is up to date alone.
func findEngine(ctx context.Context, c *cache) (string, error) {
	if !testing.Testing() {
		return os.Executable()
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("the go command is not on PATH to build %s", enginePackage)
	}
	unlock, err := c.lock(ctx, "engine")
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(c.dir, "engine")
	err = run(ctx, "", &toolOutput{}, "env", "CGO_ENABLED=0", tool, "build", "-buildvcs=false", "-o", path, enginePackage)
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %w", enginePackage, err)
	}
	return path, nil
}
