package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Of many that want a folder at once, one fills it and all get it whole.
func TestCacheFillsOnce(t *testing.T) {
	dir := t.TempDir()
	var fills atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			c, err := newCache(dir, nil)
			if err != nil {
				t.Error(err)
				return
			}
			path, err := c.folder(t.Context(), "thing", func(_ context.Context, dir string) error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), []byte("whole"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if text, err := os.ReadFile(filepath.Join(path, "file")); string(text) != "whole" {
				t.Errorf("read %q: %v", text, err)
			}
		})
	}
	wait.Wait()
	if fills.Load() != 1 {
		t.Fatalf("filled %d times", fills.Load())
	}
}

// A failed fill leaves nothing that the next one could take for whole.
func TestCacheForgetsFailedFill(t *testing.T) {
	c, err := newCache(t.TempDir(), nil)
	must(t, err)
	broken := errors.New("the line is down")
	fill := func(failure error) error {
		_, err := c.folder(t.Context(), "thing", func(_ context.Context, dir string) error {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("the folder to fill is not empty: %v", left)
			}
			return errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), failure)
		})
		return err
	}
	if err := fill(broken); !errors.Is(err, broken) {
		t.Fatalf("the failure was lost: %v", err)
	}
	must(t, fill(nil))
}

func TestCacheLockEndsWithContext(t *testing.T) {
	c, err := newCache(t.TempDir(), nil)
	must(t, err)
	unlock, err := c.lock(t.Context(), "thing")
	must(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.lock(ctx, "thing"); !errors.Is(err, context.Canceled) {
		t.Fatalf("a second lock was given: %v", err)
	}
}

// A tarball of another content is refused, even if it unpacks well.
func TestOtherTarballIsRefused(t *testing.T) {
	var tgz bytes.Buffer
	packer := gzip.NewWriter(&tgz)
	archive := tar.NewWriter(packer)
	must(t, archive.WriteHeader(&tar.Header{Name: chdbMember, Size: 4, Mode: 0o644}))
	_, err := archive.Write([]byte("evil"))
	must(t, err)
	must(t, archive.Close())
	must(t, packer.Close())
	tarball := filepath.Join(t.TempDir(), chdbTarball)
	must(t, os.WriteFile(tarball, tgz.Bytes(), 0o644))
	if err := unpackChdb(tarball, filepath.Join(t.TempDir(), "libchdb.so")); err == nil || !strings.Contains(err.Error(), "SHA-512") {
		t.Fatalf("accepted: %v", err)
	}
}

func TestComplaintIsTheToolsOwn(t *testing.T) {
	for text, want := range map[string]string{
		"":             "it printed nothing",
		"one\ntwo\n\n": "two",
		"[INFO] x\n[ERROR] no route\n[ERROR] see log": "[ERROR] no route",
		"E: Unable to locate package\nbye":            "E: Unable to locate package",
	} {
		output := &toolOutput{}
		if _, err := output.Write([]byte(text)); err != nil || output.complaint() != want {
			t.Errorf("of %q the complaint is %q", text, output.complaint())
		}
	}
}
