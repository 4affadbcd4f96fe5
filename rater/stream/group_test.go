package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func TestCommitMetadata(t *testing.T) {
	cluster, _ := newCluster(t, 3)
	commitMetadata(t, cluster.ListenAddrs())
}

func commitMetadata(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	ensure(t, ctx, c, "carrier", 3)
	retry := func(err error) bool { return Retriable(err) && pause(ctx, 20*time.Millisecond) == nil }
	got, err := c.Committed(ctx, "rate-tool", "carrier", []int32{2, 0})
	for ; retry(err); got, err = c.Committed(ctx, "rate-tool", "carrier", []int32{2, 0}) {
	}
	if err != nil || !slices.Equal(got, []CommitOffset{{2, -1, ""}, {0, -1, ""}}) {
		t.Fatalf("nothing committed: %v %v", got, err)
	}
	for _, commit := range [][]CommitOffset{{{0, 17, "topic=ab prev=3"}, {2, 5, ""}}, {{0, 4, "back"}}} {
		err := c.Commit(ctx, "rate-tool", GenerationRef{}, map[string][]CommitOffset{"carrier": commit})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err = c.Committed(ctx, "rate-tool", "carrier", []int32{1, 0, 2})
	if err != nil || !slices.Equal(got, []CommitOffset{{1, -1, ""}, {0, 4, "back"}, {2, 5, ""}}) {
		t.Fatalf("%v %v", got, err)
	}
}

// quick is a group that notices changes within the patience of a test.
func quick(id string, topics ...string) GroupConfig {
	return GroupConfig{ID: id, Topics: topics, Session: 6 * time.Second, Rebalance: 6 * time.Second, Heartbeat: 50 * time.Millisecond, JoinBackoff: 50 * time.Millisecond, Drain: 2 * time.Second}
}

func TestGroup(t *testing.T) {
	cluster, _ := newCluster(t, 3)
	groupHandsOver(t, cluster.ListenAddrs())
}

// groupHandsOver runs members that come and go while a topic is written. Each
// starts where the group has committed and commits what it has read, for the
// last time after its generation is over: so every message is read exactly once.
func groupHandsOver(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	const partitions, messages = 6, 3000
	ensure(t, ctx, c, "handover", partitions)
	tally := &tally{seen: map[string]int{}, serving: map[int32]int{}}
	var members sync.WaitGroup
	start := func(ctx context.Context) {
		client := newClient(t, brokers)
		members.Go(func() {
			err := client.RunGroup(ctx, quick("handover", "handover"), func(ctx context.Context, g Generation) error {
				return tally.serve(ctx, client, g)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all, stop := context.WithCancel(ctx)
	defer stop()
	start(all)
	tally.awaitGenerations(t, ctx, 1)
	leave := func() {}
	p := c.NewProducer()
	for i := range messages {
		switch i % 500 { // a member comes, a little later it goes
		case 100:
			some, cancel := context.WithCancel(all)
			leave = cancel
			start(some)
			tally.awaitGenerations(t, ctx, 2)
		case 400:
			leave()
			tally.awaitGenerations(t, ctx, 1)
		}
		if err := p.Append("handover", int32(i%partitions), nil, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			send(t, ctx, p)
			p.Reset()
		}
	}
	leave()
	tally.await(t, ctx, messages)
	stop()
	members.Wait()
	tally.mu.Lock()
	defer tally.mu.Unlock()
	for v, n := range tally.seen {
		if n != 1 {
			t.Errorf("message %s was read %d times", v, n)
		}
	}
	committed, err := c.Committed(ctx, "handover", "handover", []int32{0, 1, 2, 3, 4, 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range committed {
		if o.Offset != messages/partitions {
			t.Errorf("committed %+v", o)
		}
	}
}

// tally is what all members of a test's group have read together.
type tally struct {
	mu      sync.Mutex
	seen    map[string]int
	serving map[int32]int // members that serve a partition now
	members int           // members that serve now
}

func (y *tally) serve(ctx context.Context, c *Client, g Generation) error {
	partitions := g.Partitions["handover"]
	twice := false
	y.mu.Lock()
	y.members++
	for _, p := range partitions {
		y.serving[p]++
		twice = twice || y.serving[p] > 1
	}
	y.mu.Unlock()
	defer func() {
		y.mu.Lock()
		y.members--
		for _, p := range partitions {
			y.serving[p]--
		}
		y.mu.Unlock()
	}()
	if twice {
		return fmt.Errorf("generation %d: partitions %v are served twice", g.ID, partitions)
	}
	if len(partitions) == 0 {
		<-ctx.Done()
		return nil
	}
	committed, err := c.Committed(ctx, g.Group, "handover", partitions)
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	positions := make([]Position, len(committed))
	for i, o := range committed {
		positions[i] = Position{Topic: "handover", Partition: o.Partition, Offset: max(o.Offset, 0)}
	}
	f := c.NewFetcher()
	for ctx.Err() == nil {
		if err := f.Fetch(ctx, positions, 20*time.Millisecond); err != nil {
			continue
		}
		y.take(f, positions)
	}
	last, cancel := g.DrainContext(ctx)
	defer cancel()
	commits := make([]CommitOffset, len(positions))
	for i, at := range positions {
		commits[i] = CommitOffset{Partition: at.Partition, Offset: at.Offset}
	}
	return c.Commit(last, g.Group, g.GenerationRef, map[string][]CommitOffset{"handover": commits})
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (y *tally) take(f *Fetcher, positions []Position) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i := range positions {
		r := f.Result(i)
		var m Message
		for r.Next(&m) {
			y.seen[string(m.Value)]++
		}
		positions[i].Offset = r.NextOffset
	}
}

func (y *tally) await(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	y.until(t, ctx, func() bool { return len(y.seen) >= n })
}

// awaitGenerations waits until n members serve all partitions between them.
func (y *tally) awaitGenerations(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	y.until(t, ctx, func() bool {
		served := 0
		for _, n := range y.serving {
			served += n
		}
		return y.members == n && served == 6
	})
}

func (y *tally) until(t *testing.T, ctx context.Context, holds func() bool) {
	t.Helper()
	for {
		y.mu.Lock()
		done := holds()
		y.mu.Unlock()
		if done {
			return
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("%d messages read by %d members: %v", len(y.seen), y.members, err)
		}
	}
}

// TestFenced commits in the name of a generation that is over.
func TestFenced(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(2, "entries", "postings"))
	c := newClient(t, cluster.ListenAddrs())
	run, stop := context.WithCancel(ctx)
	generations := make(chan Generation, 10)
	end := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- c.RunGroup(run, quick("fenced", "entries", "postings"), func(ctx context.Context, g Generation) error {
			generations <- g
			select {
			case <-end:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	first := <-generations
	if want := map[string][]int32{"entries": {0, 1}, "postings": {0, 1}}; !maps.EqualFunc(first.Partitions, want, slices.Equal) {
		t.Fatalf("%v", first.Partitions)
	}
	commit := map[string][]CommitOffset{"entries": {{0, 1, "m"}}}
	if err := c.Commit(ctx, "fenced", first.GenerationRef, commit); err != nil {
		t.Fatal(err)
	}
	end <- struct{}{}
	second := <-generations
	if err := c.Commit(ctx, "fenced", first.GenerationRef, commit); !errors.Is(err, ErrFenced) || Retriable(err) {
		t.Fatal(err)
	}
	if err := c.Commit(ctx, "fenced", second.GenerationRef, commit); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if info, err := cluster.WaitGroupInfo(ctx, "fenced", func(g *kfake.GroupInfo) bool { return g == nil || len(g.Members) == 0 }); err != nil {
		t.Fatalf("%v %v", info, err)
	}
}

func TestGroupErrors(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(1, "entries"))
	c := newClient(t, cluster.ListenAddrs())
	serve := func(context.Context, Generation) error { return errors.New("broken shard") }
	if err := c.RunGroup(ctx, quick("g", "nowhere"), serve); !errors.Is(err, ErrUnknownTopic) {
		t.Fatal(err)
	}
	if err := c.RunGroup(ctx, quick("g", "entries"), serve); err == nil || err.Error() != "broken shard" {
		t.Fatal(err)
	}
	slow := quick("g", "entries")
	slow.Drain = slow.Session
	if err := c.RunGroup(ctx, slow, serve); err == nil {
		t.Fatal("a drain as long as the session was accepted")
	}
}
