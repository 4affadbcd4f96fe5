package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// service is one `tollgate serve` under a supervisor, that is: whenever it ends, it is started again.
type service struct {
	name    string
	program string
	config  string
	listen  string
	logFile string
	launch  func(*exec.Cmd) error

	mu       sync.Mutex
	cmd      *exec.Cmd     // nil while it is down
	ended    chan struct{} // closed when cmd has ended
	ours     bool          // its end is our doing
	down     time.Duration // how long it stays down after its end
	last     float64       // differences that this life's audit has counted, when it was last asked
	before   float64       // those of the lives before
	byItself int           // ends that were not our doing: mostly a start while Kafka was away
}

const (
	restartPause = time.Second // of a supervisor, after an end that nobody asked for
	stopWithin   = 30 * time.Second
)

// keep keeps the service up until ctx ends, and then stops it.
func (s *service) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		ended, err := s.start()
		if err != nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return s.stop(ended)
		}
		pause(ctx, s.buried())
	}
	return nil
}

func (s *service) start() (<-chan struct{}, error) {
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of %s: %w", s.name, err)
	}
	defer log.Close() // the child has its own copy
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(s.program, "serve", "--config", s.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.launch(cmd); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", s.name, err)
	}
	ended := make(chan struct{})
	s.cmd, s.ended, s.ours, s.down = cmd, ended, false, restartPause
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}()
	return ended, nil
}

// buried notes an end and gives how long the service stays down.
func (s *service) buried() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ours {
		s.byItself++
	}
	s.cmd, s.before, s.last = nil, s.before+s.last, 0
	return s.down
}

// kill is kill -9; the service stays down for so long. errUncounted: it was down already.
func (s *service) kill(down time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil || s.ours {
		return errUncounted
	}
	s.ours, s.down = true, down
	return s.signal(syscall.SIGKILL)
}

// freeze is SIGSTOP, and SIGCONT when it has been held for so long: everyone else takes the process for dead meanwhile.
// errUncounted: it was down already.
func (s *service) freeze(ctx context.Context, hold time.Duration, report *Report) error {
	s.mu.Lock()
	cmd := s.cmd
	var err error
	if cmd != nil {
		err = s.signal(syscall.SIGSTOP)
	}
	s.mu.Unlock()
	if cmd == nil {
		return errUncounted
	}
	if err != nil {
		return err
	}
	report.paused(s.name)
	pause(ctx, hold)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != cmd {
		return nil
	}
	return s.signal(syscall.SIGCONT)
}

// signal reaches the process and all that it has started. The caller holds the lock.
func (s *service) signal(sig syscall.Signal) error {
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot send %s to %s: %w", sig, s.name, err)
	}
	return nil
}

func (s *service) stop(ended <-chan struct{}) error {
	s.mu.Lock()
	err := errors.Join(s.signal(syscall.SIGCONT), s.signal(syscall.SIGTERM))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(stopWithin):
		s.mu.Lock()
		defer s.mu.Unlock()
		return errors.Join(fmt.Errorf("%s did not stop within %s; its log is %s", s.name, stopWithin, s.logFile), s.signal(syscall.SIGKILL))
	}
}

// scrape remembers what the audit of this life has found: a counter begins anew with every process.
func (s *service) scrape(ctx context.Context) {
	metrics, err := s.metrics(ctx)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil && !s.ours {
		s.last = metrics.sum(auditDifferences)
	}
}

// differences are those that the audits of all lives have counted.
func (s *service) differences() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before + s.last
}

// Metrics that are read.
const (
	auditDifferences = "tollgate_audit_difference_total"
	auditedOffset    = "tollgate_audit_newest_offset"
)

// metrics are the values that a service shows, by series: a name and its labels, as they stand on the page.
type metrics map[string]float64

// sum adds up all series of a metric.
func (m metrics) sum(name string) (sum float64) {
	for series, value := range m {
		if of, _, _ := strings.Cut(series, "{"); of == name {
			sum += value
		}
	}
	return sum
}

// metrics reads all metrics.
func (s *service) metrics(ctx context.Context) (metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.listen+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s shows no metrics: %w", s.name, err)
	}
	defer answer.Body.Close()
	all := metrics{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[series] = n
		}
	}
	return all, lines.Err()
}

// impossible is what a line says when what cannot be has been: a halt that is somebody's mistake, a difference that the audit
// found (its counter is read every second, and a service may be killed before that), or an end by Go itself.
var impossible = regexp.MustCompile(`BUG:|audit: DIFFERENCE|panic:|fatal error:`)

// impossible gives the lines of the log that say so.
func (s *service) impossible() ([]string, error) {
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the log of %s: %w", s.name, err)
	}
	var found []string
	for line := range bytes.Lines(text) {
		if impossible.Match(line) {
			found = append(found, s.name+": "+string(bytes.TrimSpace(line)))
		}
	}
	return found, nil
}
