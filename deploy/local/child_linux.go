package local

import "syscall"

// childAttributes puts a server into a process group of its own, so that an interrupt from the terminal reaches only us and
// we stop the servers in order, and has the kernel kill it when we are gone, however we went.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
