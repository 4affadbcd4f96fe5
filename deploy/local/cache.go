package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	lockPause     = 100 * time.Millisecond // between two tries for a lock that another process holds
	quietTries    = 10                     // for a lock, before the wait is reported
	progressPause = time.Second            // between two progress lines
)

// cache is the folder of what was downloaded or built, shared by all processes of the user.
type cache struct {
	dir    string
	report func(line string)
}

func newCache(dir string, report func(string)) (*cache, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cannot find the cache folder: %w; set XDG_CACHE_HOME or Config.CacheDir", err)
		}
		dir = filepath.Join(base, "tollgate")
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the cache folder: %w", err)
	}
	if report == nil {
		report = func(string) {}
	}
	var one sync.Mutex
	return &cache{dir: dir, report: func(line string) {
		one.Lock()
		defer one.Unlock()
		report(line)
	}}, nil
}

// folder returns the path of a folder in the cache. If it is not there, fill makes its content in a folder beside it, which
// is then renamed: a folder that is there is whole. Of several processes one fills, the others wait.
func (c *cache) folder(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	path := filepath.Join(c.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", fmt.Errorf("cannot clear the remains of an earlier download: %w", err)
	}
	defer os.RemoveAll(part)
	if err := os.Mkdir(part, 0o755); err != nil {
		return "", fmt.Errorf("cannot make a cache folder: %w", err)
	}
	if err := fill(ctx, part); err != nil {
		return "", err
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("cannot put %s into the cache: %w", name, err)
	}
	return path, nil
}

// lock takes the lock of one name against all other processes and goroutines.
func (c *cache) lock(ctx context.Context, name string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(c.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open a lock of the cache: %w", err)
	}
	pause := time.NewTicker(lockPause)
	defer pause.Stop()
	for tries := 0; ; tries++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", file.Name(), err)
		}
		if tries == quietTries {
			c.report(name + ": waiting for another process that is getting it")
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", file.Name(), context.Cause(ctx))
		case <-pause.C:
		}
	}
}

// progress does the work and reports what done says of it every second until it is over.
func (c *cache) progress(what string, done func() string, work func() error) error {
	c.report(what)
	result := make(chan error, 1)
	go func() { result <- work() }()
	tick := time.NewTicker(progressPause)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case err := <-result:
			return err
		case <-tick.C:
			c.report(fmt.Sprintf("%s: %s, %.0f s", what, done(), time.Since(began).Seconds()))
		}
	}
}

// run runs a tool to its end. Its error is one line: the tool's own complaint.
func run(ctx context.Context, dir string, output *toolOutput, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a cancel reaches what the tool has started too
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s failed (%w): %s", filepath.Base(name), err, output.complaint())
	}
	return nil
}

// toolOutput collects what a tool prints; its progress may be counted meanwhile.
type toolOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *toolOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *toolOutput) count(word string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Count(o.text.Bytes(), []byte(word))
}

func (o *toolOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// complaint is the first line that speaks of an error, else the last line.
func (o *toolOutput) complaint() string {
	last := "it printed nothing"
	for line := range strings.Lines(o.String()) {
		line = strings.TrimSpace(line)
		for _, mark := range []string{"[ERROR]", "npm error", "E: "} {
			if strings.HasPrefix(line, mark) {
				return line
			}
		}
		if line != "" {
			last = line
		}
	}
	return last
}

// sizeOf adds up the bytes of all files under a folder.
func sizeOf(dir string) (sizeBytes int64) {
	filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			sizeBytes += info.Size()
		}
		return nil // files come and go under a running download
	})
	return sizeBytes
}
