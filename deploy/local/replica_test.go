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

// A full disk has Redis refuse writes, and one that is free again has it accept them, with all that was there.
func TestDiskIsFilled(t *testing.T) {
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
	defer func() { must(t, stack.Stop()) }()
	if !stack.Redis.OwnDisk() {
		if err := stack.Redis.FillDisk(); err == nil || refusal == "" {
			t.Fatalf("no disk, and yet it was filled (%v), or nobody said so (%q)", err, refusal)
		}
		t.Skip(refusal)
	}
	client := redis.NewClient(&redis.Options{Addr: stack.RedisAddr})
	defer client.Close()
	value, written := strings.Repeat("x", 1000), 0
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
	restart(t, stack.Redis)
	for i := range written {
		if err := client.Get(t.Context(), strconv.Itoa(i)).Err(); err != nil {
			t.Fatalf("write %d of %d is gone: %v", i, written, err)
		}
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
