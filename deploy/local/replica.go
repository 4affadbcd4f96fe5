package local

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Limits of one command to a Redis, unless the caller's context ends earlier: of a question, and of an order, which may take
// its time, as FLUSHALL of a large one does.
const (
	redisAnswerLimit = 5 * time.Second
	redisOrderLimit  = 2 * time.Minute
)

func (s *Server) isRedis() bool { return s.Part == Redis || s.Part == RedisReplica }

// Follow makes this Redis a replica of the one that answers at host:port, directly or through a proxy, also over its next
// starts. It gives up what it has that the other has not. It returns at once; Following tells when the two are linked. What
// it has received is on disk a moment later, when its append-only file is written anew: a kill before that takes it back.
func (s *Server) Follow(ctx context.Context, master string) error {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return fmt.Errorf("cannot make %s a replica: %w", s.Part, err)
	}
	return s.setRole(ctx, "REPLICAOF "+host+" "+port)
}

// Promote makes this Redis a master of its own with what it has now, also over its next starts.
func (s *Server) Promote(ctx context.Context) error { return s.setRole(ctx, "REPLICAOF NO ONE") }

// setRole changes the role, and writes it into the configuration of the next start.
func (s *Server) setRole(ctx context.Context, command string) error {
	for _, c := range []string{command, "CONFIG REWRITE"} {
		answer, err := s.command(ctx, redisOrderLimit, c)
		if err == nil && !strings.HasPrefix(answer, "+OK") {
			err = fmt.Errorf("it answered %q", answer)
		}
		if err != nil {
			return fmt.Errorf("cannot have %s do %s: %w", s.Part, c, err)
		}
	}
	return nil
}

// Following tells whether this Redis is a replica that has all of its master's data and receives more.
func (s *Server) Following(ctx context.Context) (bool, error) {
	answer, err := s.command(ctx, redisAnswerLimit, "INFO replication")
	if err != nil {
		return false, fmt.Errorf("cannot ask %s for its role: %w", s.Part, err)
	}
	return strings.Contains(answer, "role:slave") && strings.Contains(answer, "master_link_status:up"), nil
}

// Empty removes all data from this Redis, which goes on running, and so from its replicas.
func (s *Server) Empty(ctx context.Context) error {
	if answer, err := s.command(ctx, redisOrderLimit, "FLUSHALL"); err != nil || answer != "+OK" {
		return fmt.Errorf("cannot empty %s, which answered %q: %w", s.Part, answer, err)
	}
	return nil
}

// DropAOF removes the append-only files of a stopped Redis: what a machine loses whose disk is replaced.
func (s *Server) DropAOF() error {
	if !s.isRedis() || s.PID() != 0 {
		return fmt.Errorf("cannot drop the append-only file of %s: only a redis that does not run can lose it", s.Part)
	}
	for _, name := range []string{"appendonlydir", "appendonly.aof"} {
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			return fmt.Errorf("cannot drop the append-only file of %s: %w", s.Part, err)
		}
	}
	return nil
}

func (s *Server) command(ctx context.Context, limit time.Duration, command string) (string, error) {
	if !s.isRedis() {
		return "", fmt.Errorf("%s is no redis", s.Part)
	}
	return askRedis(ctx, limit, s.ports[0], command)
}

// askRedis sends one command of plain words, and gives the first line of the answer, or a bulk string as it is.
func askRedis(ctx context.Context, limit time.Duration, port int, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	answers := bufio.NewReader(conn)
	line, err := answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	size, isBulk := strings.CutPrefix(line, "$")
	if !isBulk {
		return line, nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 {
		return line, err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(answers, text)
	return string(text), err
}
