// Package local starts the real servers that Tollgate works with (Redis, Kafka, ClickHouse) on one machine: as child
// processes, on free loopback ports, under one data folder, and reports each step. The tests, the demo and the benchmark
// share it. It finds a server on PATH or fetches it once into a cache folder, pinned and checked; each server can then be
// killed, paused and restarted on its own, with its data and its port kept, so that chaos tests break the real thing.
// The servers die with this process, however it dies (Linux). It is no part of the production flow: no stage imports it,
// and it never touches a server that it did not start.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Part names one server that a Stack can start.
type Part int

// The parts. A stack has at most one of the two Kafkas.
const (
	// Redis is redis-server or valkey-server: append-only file synced every second, no eviction.
	Redis Part = iota + 1
	// EmbeddedKafka is kfake with a data folder: no JVM, ready at once. It stamps append times but cannot mark them (see
	// Stack.AppendTimeBit), and has no throttling and no follower fetch.
	EmbeddedKafka
	// ApacheKafka is Apache Kafka 4.3.0 in KRaft combined mode: one JVM of at most 512 MB heap. It needs a JDK 17.
	ApacheKafka
	// ClickHouse is the clickhouse server, or the same engine from libchdb.so where there is none.
	ClickHouse
	// RedisReplica is a second Redis that follows the first, until it is promoted.
	RedisReplica
)

// String gives the name of the part in reports and errors.
func (p Part) String() string {
	return [...]string{"no part", "redis", "embedded kafka", "apache kafka", "clickhouse", "redis replica"}[p]
}

// folder is the name of the part's data folder. The two Kafkas do not read each other's files.
func (p Part) folder() string { return strings.ReplaceAll(p.String(), " ", "-") }

// Config says what to start and where. The zero value starts Redis, the embedded Kafka and ClickHouse in a temporary folder.
type Config struct {
	// Parts are the servers to start; none means Redis, EmbeddedKafka and ClickHouse.
	Parts []Part
	// DataDir holds the data and the logs, and can be started again on, then with the same ports if they are free. It
	// belongs to one Stack at a time. Empty means a temporary folder that Stop removes.
	DataDir string
	// CacheDir holds what was downloaded or built, for all stacks and for ever. Empty means tollgate in os.UserCacheDir.
	CacheDir string
	// Report receives one line per step, downloads once a second, never two at a time. Nil means silence.
	Report func(line string)
	// KafkaProxies are host:port of proxies in front of Apache Kafka. For each there is a listener (Stack.KafkaBehind) that
	// sends its clients to the proxy, where the plain listener sends them to itself.
	KafkaProxies []string
	// OwnDisks are the parts whose data lies on a disk of its own (a tmpfs), which Server.FillDisk can make full. Where this
	// process may not mount one, that is reported and the part has none. The data does not outlive the stack.
	OwnDisks []Part
}

// Stack is a set of running servers. The methods of its servers may be called from any goroutine; Stop comes when no other call is under way.
type Stack struct {
	// DataDir is the folder that holds everything the servers wrote.
	DataDir string
	// RedisAddr, KafkaAddr, ClickHouseAddr (native protocol) and ClickHouseHTTPAddr are host:port, empty for a part that
	// was not asked for. They stay the same over Kill and Restart.
	RedisAddr, KafkaAddr, ClickHouseAddr, ClickHouseHTTPAddr string
	// RedisReplicaAddr is that of the second Redis.
	RedisReplicaAddr string
	// KafkaBehind are the listeners that Config.KafkaProxies stand in front of, in their order.
	KafkaBehind []string
	// AppendTimeBit tells whether this Kafka sets attribute bit 3 on the batches of LogAppendTime topics. Apache Kafka
	// does. The embedded one stores its own clock as the batch's max timestamp, on every topic, but without the bit, so
	// a reader that demands the bit must be told not to.
	AppendTimeBit bool
	// These control the single servers; nil for a part that was not asked for.
	Redis, RedisReplica, Kafka, ClickHouse *Server

	temporary bool
	lock      *os.File
	launcher  *launcher
	cache     *cache
}

// Start starts the servers in parallel and returns when all of them answer in their own protocol, or stops what it started
// and returns the error of the first that did not. An error about a part that cannot be had is one line: what, why, what
// to install; one about a server that did not come up shows the end of its log. The context bounds the start only: the
// servers run until Stop, or until this process ends.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if _, engine := os.LookupEnv(engineVariable); engine {
		return nil, errors.New("BUG: main must call local.MaybeRunEngine first; this process was started to be a server")
	}
	parts, err := checkParts(cfg.Parts)
	if err != nil {
		return nil, err
	}
	s := &Stack{}
	if s.cache, err = newCache(cfg.CacheDir, cfg.Report); err != nil {
		return nil, err
	}
	if err := s.openData(cfg.DataDir); err != nil {
		return nil, err
	}
	s.launcher = newLauncher()
	group, groupCtx := errgroup.WithContext(ctx)
	for _, part := range parts {
		server := &Server{Part: part, Dir: filepath.Join(s.DataDir, part.folder()), launcher: s.launcher, report: s.cache.report}
		s.place(server)
		find := recipes[part]
		if part == ApacheKafka {
			find = apacheKafka(cfg.KafkaProxies)
		}
		wantsDisk := slices.Contains(cfg.OwnDisks, part)
		group.Go(func() error {
			if wantsDisk {
				server.mountDisk()
			}
			return s.startPart(groupCtx, server, find)
		})
	}
	err = group.Wait()
	if err == nil {
		s.addresses()
		err = s.followFirst(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Launch starts another process that shall die with this one, in a process group of its own. Wait for it before Stop.
func (s *Stack) Launch(cmd *exec.Cmd) error {
	cmd.SysProcAttr = childAttributes()
	return s.launcher.start(cmd)
}

// followFirst makes the second Redis a replica of the first.
func (s *Stack) followFirst(ctx context.Context) error {
	if s.Redis == nil || s.RedisReplica == nil {
		return nil
	}
	return s.RedisReplica.Follow(ctx, s.RedisAddr)
}

// Stop stops all servers and waits for them: gracefully where the data is kept, by SIGKILL where the folder is temporary
// and removed next. It returns an error for each server that had ended by itself. Another Stop later does nothing.
func (s *Stack) Stop() error {
	if s.launcher == nil {
		return nil
	}
	servers := s.servers()
	failures := make([]error, len(servers))
	var wait sync.WaitGroup
	for i, server := range servers {
		wait.Go(func() {
			failures[i] = server.died()
			stop := server.Stop
			if s.temporary {
				stop = server.Kill
			}
			failures[i] = errors.Join(failures[i], stop(), server.unmountDisk())
			server.keepers.Wait()
		})
	}
	wait.Wait()
	s.launcher.close()
	s.launcher = nil
	return errors.Join(append(failures, s.closeData())...)
}

func checkParts(parts []Part) ([]Part, error) {
	if len(parts) == 0 {
		return []Part{Redis, EmbeddedKafka, ClickHouse}, nil
	}
	seen := map[string]Part{}
	for _, part := range parts {
		if recipes[part] == nil {
			return nil, fmt.Errorf("cannot start part %d: there is none of that number; use the constants of package local", part)
		}
		kind := part.String()[strings.LastIndex(part.String(), " ")+1:]
		if other, taken := seen[kind]; taken {
			return nil, fmt.Errorf("cannot start %s beside %s in one stack; ask for one of them", part, other)
		}
		seen[kind] = part
	}
	return parts, nil
}

// openData makes the data folder and takes it for this stack.
func (s *Stack) openData(dir string) (err error) {
	if s.temporary = dir == ""; s.temporary {
		dir, err = os.MkdirTemp("", "tollgate-")
	} else if dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("cannot make the data folder: %w", err)
	}
	s.DataDir = dir
	s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("cannot make the lock of the data folder: %w", err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		s.lock.Close()
		return fmt.Errorf("cannot use data folder %s: another stack runs on it (%w); stop that one or name another folder", dir, err)
	}
	return nil
}

func (s *Stack) closeData() error {
	failure := s.lock.Close()
	if s.temporary {
		failure = errors.Join(failure, os.RemoveAll(s.DataDir))
	}
	return failure
}

func (s *Stack) place(server *Server) {
	switch server.Part {
	case Redis:
		s.Redis = server
	case RedisReplica:
		s.RedisReplica = server
	case ClickHouse:
		s.ClickHouse = server
	default:
		s.Kafka = server
		s.AppendTimeBit = server.Part == ApacheKafka
	}
}

func (s *Stack) servers() []*Server {
	var servers []*Server
	for _, server := range []*Server{s.Redis, s.RedisReplica, s.Kafka, s.ClickHouse} {
		if server != nil {
			servers = append(servers, server)
		}
	}
	return servers
}

func (s *Stack) addresses() {
	if s.Redis != nil {
		s.RedisAddr = loopback(s.Redis.ports[0])
	}
	if s.RedisReplica != nil {
		s.RedisReplicaAddr = loopback(s.RedisReplica.ports[0])
	}
	if s.Kafka != nil {
		s.KafkaAddr = loopback(s.Kafka.ports[0])
		for _, port := range s.Kafka.ports[min(kafkaOwnPorts, len(s.Kafka.ports)):] {
			s.KafkaBehind = append(s.KafkaBehind, loopback(port))
		}
	}
	if s.ClickHouse != nil {
		s.ClickHouseAddr, s.ClickHouseHTTPAddr = loopback(s.ClickHouse.ports[0]), loopback(s.ClickHouse.ports[1])
	}
}

// startPart brings one server up. Between the choice of a port and its use another process may take it, so a start that
// fails for that reason is made once more on other ports.
func (s *Stack) startPart(ctx context.Context, server *Server, find recipe) error {
	began := time.Now()
	found, err := find(ctx, s.cache)
	if err != nil {
		return err
	}
	s.cache.report(fmt.Sprintf("%s: %s", server.Part, found.about))
	if err := os.MkdirAll(server.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of %s: %w", server.Part, err)
	}
	server.LogFile = filepath.Join(server.Dir, "server.log")
	if server.ownDisk { // what it says of a full disk must not need it
		server.LogFile = server.Dir + ".log"
	}
	server.ports, err = choosePorts(server.Dir, found.ports)
	if err != nil {
		return err
	}
	err = server.configureAndStart(ctx, found)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "address already in use") {
		if server.ports, err = freshPorts(server.Dir, found.ports); err != nil {
			return err
		}
		err = server.configureAndStart(ctx, found)
	}
	if err != nil {
		return err
	}
	s.cache.report(fmt.Sprintf("%s: ready on %s after %.1f s (pid %d, log %s)", server.Part,
		joinPorts(server.ports[:found.open]), time.Since(began).Seconds(), server.PID(), server.LogFile))
	return nil
}
