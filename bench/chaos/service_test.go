package chaos

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A supervisor starts a service again however it ended, counts whose doing the end was, and ends it with its own.
func TestServiceIsKept(t *testing.T) {
	dir := t.TempDir()
	s := &service{name: "test", program: filepath.Join(dir, "program"), logFile: filepath.Join(dir, "log"),
		launch: func(cmd *exec.Cmd) error {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			return cmd.Start()
		}}
	if err := os.WriteFile(s.program, []byte("#!/bin/sh\necho BUG: started\nexec sleep 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- s.keep(ctx) }()
	pid := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.cmd == nil || s.ours {
			return 0
		}
		return s.cmd.Process.Pid
	}
	begins := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			found, err := s.impossible()
			if err == nil && len(found) == n && pid() != 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d starts instead of %d: %v", len(found), n, err)
			}
		}
	}
	begins(1)
	if err := s.kill(0); err != nil {
		t.Fatal(err)
	}
	begins(2)
	if err := syscall.Kill(pid(), syscall.SIGKILL); err != nil { // somebody else
		t.Fatal(err)
	}
	begins(3)
	report := newReport(&Config{})
	if err := s.freeze(t.Context(), time.Millisecond, report); err != nil || report.Pauses[s.name] != 1 {
		t.Fatalf("%v, pauses %v", err, report.Pauses)
	}
	cancel()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	down := &service{name: "down"}
	for _, err := range []error{down.kill(0), down.freeze(t.Context(), time.Millisecond, report)} {
		if !errors.Is(err, errUncounted) || report.Pauses["down"] != 0 {
			t.Errorf("a service that is down is killed, or paused: %v, %v", err, report.Pauses)
		}
	}
	if s.byItself != 1 {
		t.Errorf("%d ends by itself instead of 1", s.byItself)
	}
}
