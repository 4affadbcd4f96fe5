//go:build unix && !linux

package local

import "syscall"

// childAttributes puts a server into a process group of its own, so that an interrupt from the terminal reaches only us and
// we stop the servers in order. A parent-death signal exists on Linux alone: here a kill -9 of this process leaves them.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
