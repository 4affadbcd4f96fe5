package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit   = 5 * time.Minute       // from the start of a process to its first right answer
	stopLimit    = 30 * time.Second      // from SIGTERM to SIGKILL
	readyPause   = 20 * time.Millisecond // between two questions to a server that does not answer yet
	logTailLines = 15                    // of a server's log in an error
)

// recipe finds or fetches a server's program.
type recipe func(context.Context, *cache) (found, error)

var recipes = map[Part]recipe{
	Redis:         findRedis,
	RedisReplica:  findRedis,
	EmbeddedKafka: findEmbeddedKafka,
	ApacheKafka:   apacheKafka(nil),
	ClickHouse:    findClickHouse,
}

// found is a program that is there, and how to set it up.
type found struct {
	about     string // for the report: which program, from where
	ports     int    // how many ports it needs
	open      int    // how many of them, from the first, are for clients
	configure func(ctx context.Context, dir string, ports []int) (program, error)
}

// program is all that is needed to start a server again and again on the same data.
type program struct {
	path  string
	args  []string
	env   []string                    // on top of this process's environment
	ready func(context.Context) error // asks once, in the server's own protocol
	keep  bool                        // it is started again when it ends by itself
}

// Server is one server of a Stack. Its port, data folder and log stay the same over Kill and Restart.
type Server struct {
	// Part says which server it is.
	Part Part
	// Dir is its data folder.
	Dir string
	// LogFile receives all that it prints, over all its starts.
	LogFile string

	launcher *launcher
	report   func(string)
	ports    []int
	program  program
	ownDisk  bool

	mu      sync.Mutex
	process *process // nil before the first start and after Stop or Kill
	keepers sync.WaitGroup
}

// process is one life of a server.
type process struct {
	cmd    *exec.Cmd
	logPos int64         // where its part of the log begins
	ended  chan struct{} // closed when it has been waited for
	result error         // of Wait; read only after ended
}

// PID is the process id of the running server, and 0 where it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.process.over() {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Kill ends the server at once (SIGKILL to it and to what it has forked) and waits until it is gone. What it had handed to
// the operating system is kept, as when a process crashes; a lost machine loses more (see CutAOF).
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// Stop ends the server gracefully and waits until it is gone. After 30 seconds it is killed, which is an error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

// Restart stops the server if it runs, starts it on the same ports and data, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Pause freezes the server (SIGSTOP): connections stay open and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.process.over() {
		return fmt.Errorf("cannot send %s to %s: it does not run; restart it first", sig, s.Part)
	}
	return s.process.signal(sig)
}

func (s *Server) kill() error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	err := p.signal(syscall.SIGKILL)
	<-p.ended
	return err
}

func (s *Server) stop() error {
	p := s.process
	if p == nil {
		return nil
	}
	err := errors.Join(p.signal(syscall.SIGCONT), p.terminate())
	if err == nil {
		select {
		case <-p.ended:
		case <-time.After(stopLimit):
			err = fmt.Errorf("%s did not stop within %s and was killed; its log is %s", s.Part, stopLimit, s.LogFile)
		}
	}
	return errors.Join(err, s.kill())
}

// died tells of a server that ended without having been asked to.
func (s *Server) died() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || !s.process.over() || s.program.keep {
		return nil
	}
	return fmt.Errorf("%s ended by itself (%v); the end of its log:\n%s", s.Part, s.process.result, s.tail())
}

func (s *Server) configureAndStart(ctx context.Context, f found) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.program, err = f.configure(ctx, s.Dir, s.ports); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error {
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open the log of %s: %w", s.Part, err)
	}
	defer log.Close() // the child has its own copy
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the size of the log of %s: %w", s.Part, err)
	}
	cmd := exec.Command(s.program.path, s.program.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = append(append(os.Environ(), "TZ=UTC"), s.program.env...)
	cmd.SysProcAttr = childAttributes()
	if err := s.launcher.start(cmd); err != nil {
		return fmt.Errorf("cannot start %s: %w", s.Part, err)
	}
	p := &process{cmd: cmd, logPos: info.Size(), ended: make(chan struct{})}
	go func() {
		p.result = cmd.Wait()
		close(p.ended)
	}()
	s.process = p
	if err := s.awaitReady(ctx); err != nil {
		return errors.Join(err, s.kill())
	}
	if s.program.keep {
		s.keepers.Go(func() { s.keep(p) })
	}
	return nil
}

// keep starts the server again when a life of it ends that nobody has ended, as a supervisor does.
func (s *Server) keep(p *process) {
	<-p.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != p {
		return
	}
	s.report(fmt.Sprintf("%s: ended by itself (%v), and is started again", s.Part, p.result))
	if err := s.start(context.Background()); err != nil {
		s.report(err.Error())
	}
}

// awaitReady asks until the server answers, ends, or the time is over.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	pause := time.NewTicker(readyPause)
	defer pause.Stop()
	for {
		answer := s.program.ready(ctx)
		if answer == nil && !s.process.over() { // else another server answers on our port
			return nil
		}
		select {
		case <-s.process.ended:
			return fmt.Errorf("%s did not start (%v); the end of its log %s:\n%s", s.Part, s.process.result, s.LogFile, s.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer in time (%w; last answer: %w); the end of its log %s:\n%s",
				s.Part, context.Cause(ctx), answer, s.LogFile, s.tail())
		case <-pause.C:
		}
	}
}

// stackFrame matches a line of a stack in the logs of Kafka (Java) and of ClickHouse: frames hide the cause.
var stackFrame = regexp.MustCompile(`^(\tat |\d+\. .* @ )`)

// tail is the end of the log of the present life, without stack frames.
func (s *Server) tail() string {
	text, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text[min(s.process.logPos, int64(len(text))):])) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !stackFrame.MatchString(line) {
			lines = append(lines, "  "+line)
		}
	}
	if len(lines) == 0 {
		return "  (nothing)"
	}
	return strings.Join(lines[max(0, len(lines)-logTailLines):], "\n")
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// signal reaches the server and all that it has forked: childAttributes gives each server a process group of its own.
func (p *process) signal(sig syscall.Signal) error {
	if p.over() {
		return nil
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot send %s to process group %d: %w", sig, p.cmd.Process.Pid, err)
	}
	return nil
}

// terminate asks the server itself, and not its forks, to end.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot send SIGTERM to process %d: %w", p.cmd.Process.Pid, err)
	}
	return nil
}

// writeConfig writes a configuration file of a server into its folder and returns its path.
func writeConfig(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return "", fmt.Errorf("cannot write configuration: %w", err)
	}
	return path, nil
}
