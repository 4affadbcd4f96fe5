package local

import (
	"context"
	"os/exec"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A cut of the append-only file loses the last writes, all from some point on, and Redis starts on what is left: in the
// layout of Redis 7 and newer, and in the older one of the server from the jar.
func TestCutAOF(t *testing.T) {
	t.Run("on this machine", func(t *testing.T) { cutAndCount(t, ForTest(t, Redis)) })
	t.Run("out of the jar", func(t *testing.T) {
		if _, err := exec.LookPath("mvn"); err != nil {
			t.Skip("mvn is not on PATH to fetch the jar")
		}
		stack := ForTest(t, Redis)
		must(t, stack.Redis.Kill())
		stack.Redis.Dir = t.TempDir()
		must(t, stack.startPart(t.Context(), stack.Redis, func(ctx context.Context, c *cache) (found, error) {
			path, err := fetchedRedis(ctx, c)
			return redisAt(path), err
		}))
		stack.addresses()
		cutAndCount(t, stack)
	})
}

func cutAndCount(t *testing.T, stack *Stack) {
	const writes, tailBytes = 1000, 5000
	ctx := t.Context()
	client := redis.NewClient(&redis.Options{Addr: stack.RedisAddr})
	defer client.Close()
	for i := range writes {
		must(t, client.Set(ctx, strconv.Itoa(i), "value", 0).Err())
	}
	if _, err := stack.Redis.CutAOF(1); err == nil {
		t.Fatal("the file of a running server was cut")
	}
	must(t, stack.Redis.Kill())
	cutBytes, err := stack.Redis.CutAOF(tailBytes)
	must(t, err)
	if cutBytes != tailBytes {
		t.Fatalf("cut %d bytes instead of %d", cutBytes, tailBytes)
	}
	restart(t, stack.Redis)
	kept, err := client.DBSize(ctx).Result()
	must(t, err)
	if kept == 0 || kept == writes {
		t.Fatalf("%d of %d writes are there after the cut", kept, writes)
	}
	for i := range writes {
		exists, err := client.Exists(ctx, strconv.Itoa(i)).Result()
		must(t, err)
		if (exists == 1) != (int64(i) < kept) {
			t.Fatalf("write %d of the first %d: found %d times", i, kept, exists)
		}
	}
	// A cut of more than there is leaves an empty file.
	must(t, stack.Redis.Kill())
	if cutBytes, err = stack.Redis.CutAOF(1 << 40); err != nil || cutBytes == 0 {
		t.Fatalf("cut %d bytes: %v", cutBytes, err)
	}
	restart(t, stack.Redis)
	if kept, err = client.DBSize(ctx).Result(); err != nil || kept != 0 {
		t.Fatalf("%d writes are there after a cut of everything: %v", kept, err)
	}
}
