package local

import (
	"errors"
	"fmt"
	"syscall"
)

// A disk is a tmpfs. It is made full by taking away the space that is not in use, and so costs no memory of its own.
const (
	diskBytes   = 16 << 30
	shrinkTries = 100 // the server may write between the look and the cut
)

func newDisk(dir string) error {
	return syscall.Mount("tollgate", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, sized(diskBytes))
}

func growDisk(dir string) error {
	if err := syscall.Mount("tollgate", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_NOSUID|syscall.MS_NODEV, sized(diskBytes)); err != nil {
		return fmt.Errorf("cannot free the disk at %s: %w", dir, err)
	}
	return nil
}

func shrinkDisk(dir string) (err error) {
	for range shrinkTries {
		var used syscall.Statfs_t
		if err = syscall.Statfs(dir, &used); err != nil {
			break
		}
		bytes := max(1, used.Blocks-used.Bfree) * uint64(used.Bsize)
		err = syscall.Mount("tollgate", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_NOSUID|syscall.MS_NODEV, sized(bytes))
		if err == nil || !errors.Is(err, syscall.EINVAL) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("cannot fill the disk at %s: %w", dir, err)
	}
	return nil
}

func dropDisk(dir string) error {
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot remove the disk at %s: %w", dir, err)
	}
	return nil
}

func sized(bytes uint64) string { return fmt.Sprintf("size=%d,mode=0755", bytes) }
