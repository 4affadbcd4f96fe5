package local

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A replica has what its master has, goes on with it when it is promoted, also over a restart, and may become a replica again.
func TestReplicaIsPromoted(t *testing.T) {
	stack := ForTest(t, Redis, RedisReplica)
	first := redis.NewClient(&redis.Options{Addr: stack.RedisAddr})
	defer first.Close()
	second := redis.NewClient(&redis.Options{Addr: stack.RedisReplicaAddr})
	defer second.Close()
	ctx := t.Context()
	following := func(s *Server) {
		t.Helper()
		eventually(t, s.Part.String()+" follows", func() bool {
			is, err := s.Following(ctx)
			return is && err == nil
		})
	}
	holds := func(c *redis.Client, want string) {
		t.Helper()
		eventually(t, "the value is "+want, func() bool { return c.Get(ctx, "word").Val() == want })
	}
	must(t, first.Set(ctx, "word", "one", 0).Err())
	following(stack.RedisReplica)
	holds(second, "one")
	if is, err := stack.Redis.Following(ctx); is || err != nil {
		t.Fatalf("the master follows: %t, %v", is, err)
	}

	must(t, stack.RedisReplica.Promote(ctx))
	must(t, second.Set(ctx, "word", "two", 0).Err())
	holds(first, "one")                                                       // two masters
	eventually(t, "what was synced is in the append-only file", func() bool { // until then a kill takes it back
		return strings.Contains(second.Info(ctx, "persistence").Val(), "aof_rewrite_in_progress:0")
	})
	must(t, stack.RedisReplica.Kill())
	restart(t, stack.RedisReplica)
	holds(second, "two")

	must(t, stack.Redis.Follow(ctx, stack.RedisReplicaAddr))
	following(stack.Redis)
	holds(first, "two")
	must(t, stack.Redis.Kill())
	restart(t, stack.Redis)
	following(stack.Redis)

	must(t, stack.RedisReplica.Empty(ctx))
	holds(first, "")
	must(t, second.Set(ctx, "word", "three", 0).Err())
	if err := stack.RedisReplica.DropAOF(); err == nil {
		t.Fatal("the files of a running server were dropped")
	}
	must(t, stack.RedisReplica.Kill())
	must(t, stack.RedisReplica.DropAOF())
	restart(t, stack.RedisReplica)
	holds(second, "")
}

// onSmallDisk starts a Redis on a disk of its own.
func onSmallDisk(t *testing.T) (*Stack, *redis.Client) {
	if testing.Short() {
		t.Skip("starts real servers: not run with -short")
	}
	var refusal string
	stack, err := Start(t.Context(), Config{Parts: []Part{Redis}, OwnDisks: []Part{Redis}, Report: func(line string) {
		t.Log(line)
		if strings.Contains(line, "no disk of its own") {
			refusal = line
		}
	}})
	must(t, err)
	t.Cleanup(func() { must(t, stack.Stop()) })
	if !stack.Redis.OwnDisk() {
		if err := stack.Redis.FillDisk(); err == nil || refusal == "" {
			t.Fatalf("no disk, and yet it was filled (%v), or nobody said so (%q)", err, refusal)
		}
		t.Skip(refusal)
	}
	client := redis.NewClient(&redis.Options{Addr: stack.RedisAddr})
	t.Cleanup(func() { client.Close() })
	return stack, client
}

// fillAndFree writes until the disk is full, and again when it is free, and kills Redis. It gives how many writes Redis said
// yes to.
func fillAndFree(t *testing.T, stack *Stack, client *redis.Client) (written int) {
	value := strings.Repeat("x", 3001) // no page has room for a whole number of them
	write := func() error {
		err := client.Set(context.Background(), strconv.Itoa(written), value, 0).Err()
		if err == nil {
			written++
		}
		return err
	}
	must(t, write())
	must(t, stack.Redis.FillDisk())
	var refused error
	eventually(t, "a write is refused", func() bool { refused = write(); return refused != nil })
	if !redis.HasErrorPrefix(refused, "MISCONF") {
		t.Fatalf("the refusal is %v", refused)
	}
	must(t, stack.Redis.FreeDisk())
	eventually(t, "a write is accepted", func() bool { return write() == nil })
	must(t, stack.Redis.Kill())
	return written
}

// A full disk has Redis refuse writes, and one that is free again has it accept them, with all that was there.
func TestDiskIsFilled(t *testing.T) {
	stack, client := onSmallDisk(t)
	written := fillAndFree(t, stack, client)
	restart(t, stack.Redis)
	for i := range written {
		if err := client.Get(t.Context(), strconv.Itoa(i)).Err(); err != nil {
			t.Fatalf("write %d of %d is gone: %v", i, written, err)
		}
	}
}

// After its file was written anew, a Redis 7.0 whose disk was full refuses that file at its next start. Without the file it
// starts, empty. A newer Redis that has everything is as good.
func TestFullDiskBreaksTheFile(t *testing.T) {
	stack, client := onSmallDisk(t)
	must(t, client.BgRewriteAOF(t.Context()).Err())
	eventually(t, "the file is written anew", func() bool {
		info := client.Info(t.Context(), "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
	written := fillAndFree(t, stack, client)
	if err := stack.Redis.Restart(t.Context()); err != nil {
		if !BrokenAOF(err) {
			t.Fatal(err)
		}
		t.Logf("it refuses its file: %.120v", err)
		must(t, stack.Redis.DropAOF())
		restart(t, stack.Redis)
		written = 0
	}
	if n := client.DBSize(t.Context()).Val(); n != int64(written) {
		t.Fatalf("%d keys, and not %d", n, written)
	}
}

// What is asked of a server that cannot do it is refused.
func TestOnlyRedisHasRoles(t *testing.T) {
	s := &Server{Part: ClickHouse}
	_, following := s.Following(t.Context())
	for _, err := range []error{s.Promote(t.Context()), s.Follow(t.Context(), "127.0.0.1:1"), s.Follow(t.Context(), "nowhere"),
		s.Empty(t.Context()), s.DropAOF(), s.FillDisk(), following} {
		if err == nil {
			t.Errorf("clickhouse did it: %v", errors.ErrUnsupported)
		}
	}
}
