package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"go.uber.org/goleak"
)

const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("still not after %s: %s", patience, what)
		case <-pause.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gone tells that no such process runs; a zombie of another parent counts as gone.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	return strings.Contains(string(stat), ") Z ")
}

// memory writes something into a server and reads it back.
type memory struct {
	server func(*Stack) *Server
	write  func(context.Context, *Stack) error
	read   func(context.Context, *Stack) (string, error) // "kept" when it is there
}

var memories = map[Part]memory{
	Redis: {
		server: func(s *Stack) *Server { return s.Redis },
		write: func(ctx context.Context, s *Stack) error {
			client := redis.NewClient(&redis.Options{Addr: s.RedisAddr})
			defer client.Close()
			return client.Set(ctx, "word", "kept", 0).Err()
		},
		read: func(ctx context.Context, s *Stack) (string, error) {
			client := redis.NewClient(&redis.Options{Addr: s.RedisAddr, ReadTimeout: time.Second, MaxRetries: -1})
			defer client.Close()
			return client.Get(ctx, "word").Result()
		},
	},
	EmbeddedKafka: kafkaMemory,
	ApacheKafka:   kafkaMemory,
	ClickHouse: {
		server: func(s *Stack) *Server { return s.ClickHouse },
		write: func(ctx context.Context, s *Stack) error {
			_, err := query(ctx, s, "CREATE TABLE words (word String) ENGINE = MergeTree ORDER BY word")
			if err == nil {
				_, err = query(ctx, s, "INSERT INTO words VALUES ('kept')")
			}
			return err
		},
		read: func(ctx context.Context, s *Stack) (string, error) { return query(ctx, s, "SELECT word FROM words") },
	},
}

var kafkaMemory = memory{
	server: func(s *Stack) *Server { return s.Kafka },
	write: func(ctx context.Context, s *Stack) error {
		if err := createTopic(ctx, s, "words"); err != nil {
			return err
		}
		_, err := produce(ctx, s, "words", "kept")
		return err
	},
	read: func(ctx context.Context, s *Stack) (string, error) {
		record, err := fetch(ctx, s, "words")
		if err != nil {
			return "", err
		}
		word, err := io.ReadAll(record.Value)
		return string(word), err
	},
}

func query(ctx context.Context, s *Stack, sql string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.ClickHouseHTTPAddr, strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

// withKafka lends a client whose connections end with the call.
func withKafka[T any](s *Stack, use func(*kafka.Client) (T, error)) (T, error) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	return use(&kafka.Client{Addr: kafka.TCP(s.KafkaAddr), Transport: transport})
}

func createTopic(ctx context.Context, s *Stack, topic string) error {
	response, err := withKafka(s, func(c *kafka.Client) (*kafka.CreateTopicsResponse, error) {
		return c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}})
	})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

// produce writes one record that claims to be of the year 1970. A topic that was just made may have no leader yet.
func produce(ctx context.Context, s *Stack, topic, value string) (*kafka.ProduceResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		response, err := produceOnce(ctx, s, topic, value)
		if !errors.Is(err, kafka.NotLeaderForPartition) && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			return response, err
		}
		select {
		case <-ctx.Done():
			return response, err
		case <-again.C:
		}
	}
}

func produceOnce(ctx context.Context, s *Stack, topic, value string) (*kafka.ProduceResponse, error) {
	response, err := withKafka(s, func(c *kafka.Client) (*kafka.ProduceResponse, error) {
		return c.Produce(ctx, &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Time: time.Unix(5, 0), Value: kafka.NewBytes([]byte(value))})})
	})
	if err != nil {
		return nil, err
	}
	return response, response.Error
}

func fetch(ctx context.Context, s *Stack, topic string) (*kafka.Record, error) {
	response, err := withKafka(s, func(c *kafka.Client) (*kafka.FetchResponse, error) {
		return c.Fetch(ctx, &kafka.FetchRequest{Topic: topic, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	})
	if err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, response.Error
	}
	return response.Records.ReadRecord()
}

// recall waits until the server answers with what was written.
func recall(t *testing.T, s *Stack, m memory) {
	t.Helper()
	var word string
	var err error
	eventually(t, "the data is back", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		word, err = m.read(ctx, s)
		return err == nil
	})
	if word != "kept" {
		t.Fatalf("read %q instead of what was written", word)
	}
}

// Each server keeps its data and its address over kill -9, a graceful stop and a pause, and nothing is left after Stop.
func TestServersKeepDataOverKillStopAndPause(t *testing.T) {
	for part, m := range memories {
		t.Run(part.String(), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			t.Run("life", func(t *testing.T) {
				stack := ForTest(t, part)
				server := m.server(stack)
				must(t, m.write(t.Context(), stack))
				recall(t, stack, m)

				first := server.PID()
				must(t, server.Kill())
				if server.PID() != 0 || !gone(first) {
					t.Fatalf("process %d lives after Kill", first)
				}
				restart(t, server)
				recall(t, stack, m)

				must(t, server.Stop())
				if server.PID() != 0 {
					t.Fatal("a stopped server has a PID")
				}
				restart(t, server)
				recall(t, stack, m)

				must(t, server.Pause())
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := m.read(ctx, stack); err == nil {
					t.Fatal("a paused server answers")
				}
				must(t, server.Resume())
				recall(t, stack, m)

				must(t, server.Pause())
				restart(t, server) // a paused server can be stopped
				recall(t, stack, m)
			})
		})
	}
}

func restart(t *testing.T, server *Server) {
	t.Helper()
	began := time.Now()
	must(t, server.Restart(t.Context()))
	t.Logf("%s: back after %s", server.Part, time.Since(began).Round(time.Millisecond))
}

// A data folder can be started again on: at the same addresses, or at others when one of them is taken.
func TestDataFolderStartsAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	for part, m := range memories {
		t.Run(part.String(), func(t *testing.T) {
			cfg := Config{Parts: []Part{part}, DataDir: t.TempDir(), Report: func(line string) { t.Log(line) }}
			stack, err := Start(t.Context(), cfg)
			must(t, err)
			must(t, m.write(t.Context(), stack))
			if _, err := Start(t.Context(), cfg); err == nil {
				t.Error("two stacks run on one data folder")
			}
			must(t, stack.Stop())
			must(t, stack.Stop()) // once more is nothing

			ports := m.server(stack).ports
			stack, err = Start(t.Context(), cfg)
			must(t, err)
			if !slices.Equal(ports, m.server(stack).ports) {
				t.Errorf("ports changed from %v to %v", ports, m.server(stack).ports)
			}
			recall(t, stack, m)
			must(t, stack.Stop())

			for _, port := range ports {
				squatter, err := net.Listen("tcp", loopback(port))
				must(t, err)
				defer squatter.Close()
			}
			stack, err = Start(t.Context(), cfg)
			must(t, err)
			recall(t, stack, m)
			must(t, stack.Stop())
		})
	}
}

// A port that is taken between its choice and its use costs one more start, not the stack.
func TestTakenPortIsChosenAnew(t *testing.T) {
	stack := ForTest(t, Redis)
	ports := stack.Redis.ports
	must(t, stack.Redis.Kill())
	var squatters []net.Listener
	must(t, stack.startPart(t.Context(), stack.Redis, func(ctx context.Context, c *cache) (found, error) {
		f, err := findRedis(ctx, c)
		configure := f.configure
		f.configure = func(ctx context.Context, dir string, ports []int) (program, error) {
			if len(squatters) == 0 {
				squatter, err := net.Listen("tcp", loopback(ports[0]))
				must(t, err)
				squatters = append(squatters, squatter)
			}
			return configure(ctx, dir, ports)
		}
		return f, err
	}))
	must(t, squatters[0].Close())
	if slices.Equal(ports, stack.Redis.ports) {
		t.Fatal("the port did not change")
	}
}

// A server that cannot start shows why, out of its own log.
func TestFailedStartShowsTheLog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	cases := []struct {
		part      Part
		file, bad string // a file of the data folder that spoils it
		want      string
	}{
		{Redis, "redis/appendonlydir/appendonly.aof.manifest", "rubbish", "manifest"},
		{EmbeddedKafka, "embedded-kafka/data", "a file where a folder belongs", "not a directory"},
		{ApacheKafka, "apache-kafka/data/meta.properties", "version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=7\n", "node"},
		{ClickHouse, "clickhouse/data", "a file where a folder belongs", "data"},
	}
	for _, c := range cases {
		t.Run(c.part.String(), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(c.bad), 0o644))
			stack, err := Start(t.Context(), Config{Parts: []Part{c.part}, DataDir: dir})
			if err == nil {
				must(t, stack.Stop())
				t.Fatal("it started on a spoilt folder")
			}
			t.Log(err)
			for _, want := range []string{c.part.String() + " did not start", "the end of its log", c.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q", want)
				}
			}
		})
	}
}

// A part that cannot be had is one line that says what, why and what to install.
func TestMissingPartIsOneLine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, part := range []Part{Redis, ApacheKafka, ClickHouse} {
		_, err := Start(t.Context(), Config{Parts: []Part{part}, CacheDir: t.TempDir()})
		if err == nil {
			t.Fatalf("%s started from nothing", part)
		}
		t.Log(err)
		for _, want := range []string{part.String() + " cannot be had: ", "not on PATH", "; install "} {
			if !strings.Contains(strings.ReplaceAll(err.Error(), "; put clickhouse 25 or newer on PATH, or", ";"), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is more than a line", err)
		}
	}
}

func TestPartsAreChecked(t *testing.T) {
	for _, parts := range [][]Part{{EmbeddedKafka, ApacheKafka}, {Redis, Redis}, {0}, {99}} {
		if _, err := Start(t.Context(), Config{Parts: parts}); err == nil {
			t.Errorf("Start accepted parts %d", parts)
		}
	}
}

// A main that forgets MaybeRunEngine would otherwise start stacks without end.
func TestStartRefusesToNest(t *testing.T) {
	t.Setenv(engineVariable, "{}")
	if _, err := Start(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "MaybeRunEngine") {
		t.Fatalf("Start says %v", err)
	}
}

// Stop tells of a server that had ended by itself.
func TestStopTellsOfTheDead(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	stack, err := Start(t.Context(), Config{Parts: []Part{Redis}})
	must(t, err)
	must(t, syscall.Kill(stack.Redis.PID(), syscall.SIGKILL))
	eventually(t, "the death is seen", func() bool { return stack.Redis.PID() == 0 })
	if err := stack.Stop(); err == nil || !strings.Contains(err.Error(), "redis ended by itself") {
		t.Fatalf("Stop says %v", err)
	}
}

// The engine that stands for ClickHouse is started again when it aborts, and its rows are there.
func TestTheEngineIsKept(t *testing.T) {
	stack := ForTest(t, ClickHouse)
	if !stack.ClickHouse.program.keep {
		t.Skip("clickhouse is on PATH: there is no engine")
	}
	ask := func(query string) (string, error) {
		answer, err := http.Post("http://"+stack.ClickHouseHTTPAddr, "text/plain", strings.NewReader(query))
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return strings.TrimSpace(string(text)), err
	}
	for _, query := range []string{"CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n", "INSERT INTO kept VALUES (7)"} {
		if answer, err := ask(query); err != nil || answer != "" {
			t.Fatal(query, answer, err)
		}
	}
	pid := stack.ClickHouse.PID()
	must(t, syscall.Kill(pid, syscall.SIGABRT))
	eventually(t, "another process gives the row", func() bool {
		answer, err := ask("SELECT n FROM kept")
		return err == nil && answer == "7" && stack.ClickHouse.PID() != pid
	})
}

const orphanVariable = "TOLLGATE_LOCAL_TEST_ORPHANS"

// The servers die with the process that started them, even by kill -9.
func TestServersDieWithTheirParent(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	parent := exec.Command(os.Args[0], "-test.run=^TestParentOfOrphans$")
	parent.Env = append(os.Environ(), orphanVariable+"="+dir)
	output := &toolOutput{}
	parent.Stdout, parent.Stderr = output, output
	must(t, parent.Start())
	defer parent.Wait()
	defer parent.Process.Kill()
	var children []int
	eventually(t, "the parent has started its servers", func() bool {
		text, err := os.ReadFile(pids)
		if err != nil {
			return false
		}
		children = make([]int, 4)
		n, _ := fmt.Sscan(string(text), &children[0], &children[1], &children[2], &children[3])
		return n == len(children)
	})
	for _, pid := range children[:3] {
		if gone(pid) {
			t.Fatalf("server %d is gone before its parent; output: %s", pid, output)
		}
	}
	must(t, parent.Process.Kill())
	for _, pid := range children[:3] {
		eventually(t, fmt.Sprintf("server %d is gone", pid), func() bool { return gone(pid) })
	}
}

// TestParentOfOrphans is the process that the test above kills.
func TestParentOfOrphans(t *testing.T) {
	dir := os.Getenv(orphanVariable)
	if dir == "" {
		t.Skip("runs only as a child of TestServersDieWithTheirParent")
	}
	stack, err := Start(t.Context(), Config{DataDir: filepath.Join(dir, "data")})
	must(t, err)
	defer stack.Stop()
	text := fmt.Sprintln(stack.Redis.PID(), stack.Kafka.PID(), stack.ClickHouse.PID(), os.Getpid())
	must(t, os.WriteFile(filepath.Join(dir, "pids"), []byte(text), 0o644))
	select {} // until killed
}
