package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"
)

const (
	chdbPackage   = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1"
	chdbTarball   = "chdb-lib-linux-x64-gnu-26.7.3-stable.1.tgz"
	chdbSHA512    = "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==" // npm's integrity, base64
	chdbMember    = "package/libchdb.so"
	chdbTarballMB = 178
	chdbLibraryMB = 566
	// oldestClickHouse is the oldest major version that is taken from PATH. Debian's own 18.16 lacks the types we use.
	oldestClickHouse  = 25
	installClickHouse = "put clickhouse 25 or newer on PATH, or install Node.js with npm on Linux on amd64, from which its engine is fetched"
)

// findClickHouse looks on PATH, then fetches the engine.
func findClickHouse(ctx context.Context, c *cache) (found, error) {
	path, pathErr := clickHouseOnPath(ctx)
	if pathErr == nil {
		return found{about: "using " + path, ports: 2, open: 2, configure: func(_ context.Context, dir string, ports []int) (program, error) {
			return configureClickHouse(path, dir, ports[0], ports[1])
		}}, nil
	}
	library, err := fetchedChdb(ctx, c)
	if err != nil {
		return found{}, fmt.Errorf("clickhouse cannot be had: %w, and %w; %s", pathErr, err, installClickHouse)
	}
	engine, err := findEngine(ctx, c)
	if err != nil {
		return found{}, fmt.Errorf("clickhouse cannot be had: %w", err)
	}
	return found{about: fmt.Sprintf("using the engine of %s (%s)", library, pathErr), ports: 2, open: 2,
		configure: func(_ context.Context, dir string, ports []int) (program, error) {
			job := engineJob{Engine: ClickHouse, Library: library, Dir: filepath.Join(dir, "data"), Ports: ports}
			return job.program(engine, func(ctx context.Context) error { return askClickHouse(ctx, ports[0], ports[1]) })
		}}, nil
}

var clickHouseVersion = regexp.MustCompile(`version (\d+)\.\d+`)

func clickHouseOnPath(ctx context.Context) (string, error) {
	path, err := exec.LookPath("clickhouse")
	if err != nil {
		return "", errors.New("clickhouse is not on PATH")
	}
	output, _ := exec.CommandContext(ctx, path, "--version").CombinedOutput() // old ones know no --version
	match := clickHouseVersion.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("%s does not tell its version", path)
	}
	if major, _ := strconv.Atoi(string(match[1])); major < oldestClickHouse {
		return "", fmt.Errorf("%s is of the old version %d", path, major)
	}
	return path, nil
}

// fetchedChdb is the path of the cached libchdb.so.
func fetchedChdb(ctx context.Context, c *cache) (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%s has no engine for %s/%s", chdbPackage, runtime.GOOS, runtime.GOARCH)
	}
	folder, err := c.folder(ctx, "libchdb-26.7.3-stable.1", func(ctx context.Context, dir string) error { return fetchChdb(ctx, c, dir) })
	return filepath.Join(folder, filepath.Base(chdbMember)), err
}

func fetchChdb(ctx context.Context, c *cache, dir string) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("npm is not on PATH to fetch its engine")
	}
	downloads := filepath.Join(dir, "npm") // a cache of its own, so that its growth is the progress
	output := &toolOutput{}
	size := func() string {
		return fmt.Sprintf("%d of %d MB", min(sizeOf(downloads)/1e6, chdbTarballMB), chdbTarballMB)
	}
	err := c.progress("clickhouse: fetching "+chdbPackage+" with npm", size, func() error {
		return run(ctx, dir, output, "npm", "pack", "--loglevel=error", "--cache="+downloads, "--pack-destination="+dir, chdbPackage)
	})
	if err != nil {
		return err
	}
	tarball, library := filepath.Join(dir, chdbTarball), filepath.Join(dir, filepath.Base(chdbMember))
	size = func() string { return fmt.Sprintf("%d of %d MB", sizeOf(library)/1e6, chdbLibraryMB) }
	err = c.progress("clickhouse: checking and unpacking the engine", size, func() error { return unpackChdb(tarball, library) })
	return errors.Join(err, os.Remove(tarball), os.RemoveAll(downloads))
}

// unpackChdb writes the library out of the tarball, and refuses it all if the tarball is not the one we know.
func unpackChdb(tarball, library string) error {
	file, err := os.Open(tarball)
	if err != nil {
		return fmt.Errorf("cannot open what npm fetched: %w", err)
	}
	defer file.Close()
	sum := sha512.New()
	hashed := io.TeeReader(file, sum)
	unpackErr := unpackMember(hashed, chdbMember, library)
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return fmt.Errorf("cannot read %s: %w", tarball, err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != chdbSHA512 {
		return fmt.Errorf("%s has SHA-512 %s instead of %s", chdbTarball, got, chdbSHA512)
	}
	return unpackErr
}

func unpackMember(tgz io.Reader, member, target string) error {
	plain, err := gzip.NewReader(tgz)
	if err != nil {
		return fmt.Errorf("cannot unpack: %w", err)
	}
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if err != nil {
			return fmt.Errorf("cannot find %s in the archive: %w", member, err)
		}
		if header.Name != member {
			continue
		}
		file, err := os.Create(target)
		if err != nil {
			return fmt.Errorf("cannot unpack %s: %w", member, err)
		}
		_, err = io.Copy(file, archive)
		return errors.Join(err, file.Close())
	}
}

func configureClickHouse(path, dir string, port, httpPort int) (program, error) {
	var data bytes.Buffer
	if err := xml.EscapeText(&data, []byte(filepath.Join(dir, "data")+"/")); err != nil {
		return program{}, err
	}
	config, err := writeConfig(dir, "config.xml", fmt.Sprintf(`<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>%d</tcp_port>
  <http_port>%d</http_port>
  <path>%s</path>
  <timezone>UTC</timezone>
  <user_directories><users_xml><path>users.xml</path></users_xml></user_directories>
</clickhouse>
`, port, httpPort, &data))
	if err != nil {
		return program{}, err
	}
	_, err = writeConfig(dir, "users.xml", `<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <access_management>1</access_management>
  </default></users>
</clickhouse>
`)
	return program{path: path, args: []string{"server", "--config-file=" + config},
		ready: func(ctx context.Context) error { return askClickHouse(ctx, port, httpPort) }}, err
}

// askClickHouse wants an answer over HTTP and an open native port.
func askClickHouse(ctx context.Context, port, httpPort int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(httpPort)+"/?query=SELECT%201", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1024))
	if err != nil {
		return err
	}
	if string(body) != "1\n" {
		return fmt.Errorf("clickhouse answered %q to SELECT 1", body)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return err
	}
	return conn.Close()
}
