//go:build linux || darwin || freebsd || netbsd || openbsd

package recharge

import (
	"os"
	"syscall"
)

// lockFile waits until no other process has the file locked. The lock ends with the process, however that ends.
func lockFile(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

func unlockFile(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
