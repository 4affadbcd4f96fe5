package local

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// The last resort for a machine without Redis and without root: a jar that carries the server (6.2, for tests only).
const (
	redisJar       = "com.github.codemonstur:embedded-redis:1.4.3"
	redisJarFile   = "embedded-redis-1.4.3.jar"
	redisJarSHA256 = "ffbc63265c60d25dee453d6f656b527d98200d98657c6a0ab4dec4ea2c3a5cd6"
	redisJarMember = "redis-server-6.2.6-v5-linux-amd64"
)

// findRedis looks on PATH, then asks the package manager, then Maven.
func findRedis(ctx context.Context, c *cache) (found, error) {
	path, err := redisOnPath()
	if err != nil && mayInstall() {
		err = installRedis(ctx, c)
		if err == nil {
			path, err = redisOnPath()
		}
	}
	if err != nil {
		var jarErr error
		if path, jarErr = fetchedRedis(ctx, c); jarErr != nil {
			return found{}, fmt.Errorf("redis cannot be had: %w, and %w; install redis-server or valkey-server 7.0 or newer", err, jarErr)
		}
	}
	return redisAt(path), nil
}

func redisAt(path string) found {
	return found{about: "using " + path, ports: 1, open: 1, configure: func(_ context.Context, dir string, ports []int) (program, error) {
		return configureRedis(path, dir, ports[0])
	}}
}

func redisOnPath() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("neither redis-server nor valkey-server is on PATH")
}

// mayInstall is true on Debian and its children, as root.
func mayInstall() bool {
	_, err := os.Stat("/etc/debian_version")
	return err == nil && os.Geteuid() == 0
}

func installRedis(ctx context.Context, c *cache) error {
	unlock, err := c.lock(ctx, "apt")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := redisOnPath(); err == nil {
		return nil // another process has installed it meanwhile
	}
	apt := func(args ...string) error {
		output := &toolOutput{}
		what := "redis: running apt-get " + strings.Join(args, " ")
		return c.progress(what, func() string { return "still running" }, func() error {
			return run(ctx, "/", output, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"}, args...)...)
		})
	}
	if err := apt("update"); err != nil {
		return err
	}
	return apt("install", "-y", "--no-install-recommends", "redis-server")
}

// fetchedRedis is the path of the cached server out of the jar.
func fetchedRedis(ctx context.Context, c *cache) (string, error) {
	folder, err := c.folder(ctx, "redis-6.2.6", func(ctx context.Context, dir string) error { return fetchRedis(ctx, c, dir) })
	return filepath.Join(folder, "redis-server"), err
}

// fetchRedis takes the server out of the Maven jar.
func fetchRedis(ctx context.Context, c *cache, dir string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the jar %s has no server for %s/%s", redisJar, runtime.GOOS, runtime.GOARCH)
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("mvn is not on PATH to fetch one")
	}
	output := &toolOutput{}
	err := c.progress("redis: fetching "+redisJar+" with mvn", func() string { return downloaded(output) }, func() error {
		return run(ctx, dir, output, "mvn", "-B", "dependency:copy", "-Dartifact="+redisJar, "-DoutputDirectory="+dir)
	})
	if err != nil {
		return err
	}
	jar, err := os.ReadFile(filepath.Join(dir, redisJarFile))
	if err != nil {
		return fmt.Errorf("cannot read the fetched jar: %w", err)
	}
	if sum := sha256.Sum256(jar); hex.EncodeToString(sum[:]) != redisJarSHA256 {
		return fmt.Errorf("%s has SHA-256 %x instead of %s", redisJarFile, sum, redisJarSHA256)
	}
	archive, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", redisJarFile, err)
	}
	member, err := archive.Open(redisJarMember)
	if err != nil {
		return fmt.Errorf("cannot find the server in %s: %w", redisJarFile, err)
	}
	defer member.Close()
	server, err := io.ReadAll(member)
	if err != nil {
		return fmt.Errorf("cannot unpack %s: %w", redisJarMember, err)
	}
	return os.WriteFile(filepath.Join(dir, "redis-server"), server, 0o755)
}

// hugePages has jemalloc, Redis's own or the system's, ask for huge pages: looking up ids in sets of millions misses the
// page tables' cache far less. Where it matters how long a fork stops Redis, measure before taking it over.
var hugePages = [...]string{"MALLOC_CONF=thp:always", "JE_MALLOC_CONF=thp:always"}

func configureRedis(path, dir string, port int) (program, error) {
	config, err := writeConfig(dir, "redis.conf", fmt.Sprintf(`bind 127.0.0.1
port %d
dir %q
daemonize no
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
auto-aof-rewrite-min-size 1gb
repl-diskless-sync-delay 0
repl-backlog-size 16mb
maxmemory-policy noeviction
disable-thp no
`, port, dir))
	if err != nil {
		return program{}, err
	}
	return program{path: path, args: []string{config}, env: hugePages[:], ready: func(ctx context.Context) error { return pingRedis(ctx, port) }}, nil
}

func pingRedis(ctx context.Context, port int) error {
	answer, err := askRedis(ctx, redisAnswerLimit, port, "PING")
	if err == nil && answer != "+PONG" {
		err = fmt.Errorf("redis answered %q to PING", answer)
	}
	return err
}

// CutAOF cuts up to tailBytes off the end of the append-only file of a stopped Redis and returns how many it cut: what a
// machine loses that dies between two syncs. The next start finds a torn last command and drops it.
func (s *Server) CutAOF(tailBytes int64) (cutBytes int64, err error) {
	if !s.isRedis() {
		return 0, fmt.Errorf("cannot cut the append-only file of %s: only redis has one", s.Part)
	}
	if s.PID() != 0 {
		return 0, errors.New("cannot cut the append-only file of a running redis; kill it first")
	}
	path, err := lastAOF(s.Dir)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("cannot cut the append-only file: %w", err)
	}
	cutBytes = min(tailBytes, info.Size())
	if err := os.Truncate(path, info.Size()-cutBytes); err != nil {
		return 0, fmt.Errorf("cannot cut the append-only file: %w", err)
	}
	return cutBytes, nil
}

// BrokenAOF tells whether err, of Restart, says that Redis refuses its append-only file because it is broken before its end.
// A full disk leaves such a file: where the file was written anew since its start, Redis (7.0.15) takes back what it could
// write of a command, but goes on behind the gap, which it then reads as zeros.
func BrokenAOF(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Bad file format reading the append only file")
}

// lastAOF is the file that Redis appends to: since 7.0 the incremental one of the highest sequence number in the manifest,
// whose lines read "file NAME seq N type b|h|i"; before, the only one.
func lastAOF(dir string) (string, error) {
	folder := filepath.Join(dir, "appendonlydir")
	manifest, err := os.ReadFile(filepath.Join(folder, "appendonly.aof.manifest"))
	if errors.Is(err, os.ErrNotExist) {
		return filepath.Join(dir, "appendonly.aof"), nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the manifest of the append-only file: %w", err)
	}
	var name string
	highest := -1
	for line := range strings.Lines(string(manifest)) {
		words := strings.Fields(line)
		if len(words) != 6 || words[5] != "i" {
			continue
		}
		if sequence, err := strconv.Atoi(words[3]); err == nil && sequence > highest {
			highest, name = sequence, words[1]
		}
	}
	if name == "" {
		return "", fmt.Errorf("cannot find an incremental file in the manifest in %s", folder)
	}
	return filepath.Join(folder, name), nil
}
