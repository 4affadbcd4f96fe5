package local

import (
	"os/exec"
	"runtime"
)

// launcher starts processes from one OS thread that lives as long as the stack. Linux sends a child its parent-death signal
// when the *thread* that made it ends, and the Go runtime ends threads as it likes.
type launcher struct {
	requests chan func()
	ended    chan struct{}
}

func newLauncher() *launcher {
	l := &launcher{requests: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for request := range l.requests {
			request()
		}
	}()
	return l
}

func (l *launcher) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	l.requests <- func() { result <- cmd.Start() }
	return <-result
}

// close waits for the thread's loop. All children must be gone.
func (l *launcher) close() {
	close(l.requests)
	<-l.ended
}
