//go:build !static

package local

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// serveClickHouse runs the main of clickhouse-local inside libchdb.so, which opens the genuine ports and then reads its
// standard input, until SIGTERM ends that input. After a crash the data is as after a crash of the server.
func serveClickHouse(job engineJob) error {
	library, err := purego.Dlopen(job.Library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("cannot load the engine: %w", err)
	}
	var (
		runCommandLine    func(argc int32, argv unsafe.Pointer) unsafe.Pointer
		resultError       func(result unsafe.Pointer) string
		setSignalHandlers func(enabled bool)
	)
	purego.RegisterLibFunc(&runCommandLine, library, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, library, "chdb_result_error")
	purego.RegisterLibFunc(&setSignalHandlers, library, "chdb_set_signal_handlers_enabled")
	setSignalHandlers(false) // the signals are ours
	if err := endInputOnSignal(); err != nil {
		return err
	}
	args := cStrings("clickhouse",
		"--path="+job.Dir,
		"--listen_host=127.0.0.1",
		fmt.Sprintf("--tcp_port=%d", job.Ports[0]),
		fmt.Sprintf("--http_port=%d", job.Ports[1]),
		"--query", "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; "+
			"SELECT count() FROM file('-', 'LineAsString', 's String') FORMAT Null")
	result := runCommandLine(int32(len(args)-1), unsafe.Pointer(&args[0]))
	runtime.KeepAlive(args)
	if result == nil {
		return errors.New("the engine gave no result")
	}
	if text := resultError(result); text != "" {
		return errors.New(text)
	}
	return nil
}

// endInputOnSignal makes standard input a pipe that nothing is written to and that SIGTERM closes.
func endInputOnSignal() error {
	input, output, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make the engine's input: %w", err)
	}
	if err := unix.Dup2(int(input.Fd()), 0); err != nil {
		return fmt.Errorf("cannot make the engine's input: %w", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { // ends with the process
		<-stop
		output.Close()
	}()
	return nil
}

// cStrings makes an argv, with the closing null.
func cStrings(words ...string) []*byte {
	argv := make([]*byte, len(words)+1)
	for i, word := range words {
		argv[i] = &append([]byte(word), 0)[0]
	}
	return argv
}
