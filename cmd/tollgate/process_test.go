package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service is a `tollgate serve` as a process of its own, that can be killed and started again.
type service struct {
	in      *installation
	name    string
	program string
	args    []string
	listen  string
	logFile string

	cmd   *exec.Cmd
	stdin io.Closer
	kills int
}

// serve starts the stages as a process. Change, if given, alters its config; program, if given, is another build.
func (in *installation) serve(name string, stages []string, change func(*Config), program ...string) *service {
	in.Helper()
	self, err := os.Executable()
	in.must(err)
	s := &service{in: in, name: name, program: append(program, self)[0], listen: unusedAddress(in.T), logFile: filepath.Join(in.dir, name+".log")}
	config := in.configFile(name, func(c *Config) {
		c.HTTP.Listen = s.listen
		if change != nil {
			change(c)
		}
	})
	s.args = []string{"serve", "--config", config}
	if len(stages) > 0 {
		s.args = append(s.args, "--stages", strings.Join(stages, ","))
	}
	s.start()
	in.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if in.Failed() {
			in.Logf("the end of the log of %s:\n%s", name, tail(s.logFile))
		}
	})
	return s
}

func (s *service) start() {
	s.in.Helper()
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	s.in.must(err)
	defer log.Close() // the child has its own copy
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Env = append(os.Environ(), asTollgate+"="+asService)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.stdin, err = s.cmd.StdinPipe()
	s.in.must(err)
	s.in.must(s.cmd.Start())
}

// kill is kill -9, and start again at once.
func (s *service) kill() {
	s.in.Helper()
	s.in.must(s.cmd.Process.Kill())
	if err := s.cmd.Wait(); s.cmd.ProcessState == nil || s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.in.Fatalf("%s had ended before it was killed: %v\n%s", s.name, err, tail(s.logFile))
	}
	s.kills++
	s.start()
}

// stop is SIGTERM. The service must end well, and soon.
func (s *service) stop() {
	s.in.Helper()
	began := time.Now()
	s.in.must(s.cmd.Process.Signal(syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			s.in.Fatalf("%s ended with %v\n%s", s.name, err, tail(s.logFile))
		}
	case <-time.After(30 * time.Second):
		s.in.Fatalf("%s does not stop\n%s", s.name, tail(s.logFile))
	}
	s.in.Logf("%s stopped after %.1f s", s.name, time.Since(began).Seconds())
}

// metric adds up all series of a metric whose labels hold all the texts, 0 while the service does not answer.
func (s *service) metric(name string, labels ...string) (sum float64) {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get("http://" + s.listen + "/metrics")
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		found, rest, _ := strings.Cut(series, "{")
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				found = ""
			}
		}
		if n, err := strconv.ParseFloat(value, 64); found == name && err == nil {
			sum += n
		}
	}
	return sum
}

// awaitMetric waits until a metric is at least so much.
func (s *service) awaitMetric(limit time.Duration, least float64, name string, labels ...string) {
	s.in.Helper()
	s.in.await(limit, fmt.Sprintf("%s: %s%v at least %.0f", s.name, name, labels, least), func() (bool, string) {
		n := s.metric(name, labels...)
		return n >= least, fmt.Sprintf("%.0f", n)
	})
}

// freeAddress finds a port below those that outgoing connections take, so that it stays free while a service is down.
func unusedAddress(t *testing.T) string {
	t.Helper()
	for port := 21000 + os.Getpid()%5000; port < 32000; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if taken[port] {
			continue
		}
		if listener, err := net.Listen("tcp", address); err == nil {
			taken[port] = true
			listener.Close()
			return address
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// taken are the ports that this test process has given out.
var taken = map[int]bool{}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
}

// result is what a command did.
type result struct {
	out, err string
	status   int
	took     time.Duration
}

// command runs tollgate with arguments and the given standard input.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asTollgate+"="+asCommand)
	var out, failure bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &failure
	began := time.Now()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("tollgate %s: %v", strings.Join(args, " "), err)
	}
	r := result{out: out.String(), err: failure.String(), status: cmd.ProcessState.ExitCode(), took: time.Since(began)}
	t.Logf("tollgate %s: status %d after %.1f s\n%s%s", strings.Join(args, " "), r.status, r.took.Seconds(), r.out, r.err)
	return r
}
