package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// progress waits until the debit stage has applied so many more entries.
func (s *service) progress(entries float64) {
	s.in.Helper()
	s.awaitMetric(time.Minute, s.metric("tollgate_debit_entries_total")+entries, "tollgate_debit_entries_total")
}

// TestRedisLosesItsTail cuts the end of the append-only file, as a power loss does, while records flow. The shards go back
// to where they are and apply the rest again.
func TestRedisLosesItsTail(t *testing.T) {
	n := seed(t)
	in := newInstallation(t, options{seed: n, accounts: 2000, sources: carriers})
	all := in.serve("tollgate", nil, nil)
	dice := rand.New(rand.NewPCG(n, 2))
	flow := in.flow(flowPerSecond)
	for range 5 {
		all.progress(60_000) // some 3 MB
		rewinds := all.metric("tollgate_debit_rewinds_total")
		in.must(in.stack.Redis.Kill())
		cut, err := in.stack.Redis.CutAOF(20_000 + dice.Int64N(1_000_000))
		in.must(err)
		t.Logf("%5.1f s: killed redis and cut %d bytes", time.Since(flow.began).Seconds(), cut)
		in.must(in.stack.Redis.Restart(t.Context()))
		all.awaitMetric(time.Minute, rewinds+1, "tollgate_debit_rewinds_total")
	}
	flow.end(leastPerSecond)
	in.exact()
	all.stop()
}

// TestRedisEmptied takes all of Redis away, three times: before there is any image, and twice with images.
func TestRedisEmptied(t *testing.T) {
	n := seed(t)
	in := newInstallation(t, options{seed: n, accounts: 2000, sources: carriers})
	client := redis.NewClient(&redis.Options{Addr: in.stack.RedisAddr})
	defer client.Close()
	flow := in.flow(flowPerSecond)

	imageless := in.serve("without-images", nil, func(c *Config) { c.Audit.ImageEntries, c.Audit.ImageEvery = 1<<40, 1000*time.Hour })
	imageless.progress(50_000)
	in.empties(imageless, func() { in.must(client.FlushAll(t.Context()).Err()) })
	if n := imageless.metric("tollgate_audit_images_total"); n != 0 {
		t.Errorf("%.0f images were written", n)
	}
	imageless.stop()

	all := in.serve("with-images", nil, func(c *Config) { c.Audit.ImageEntries, c.Log.Level = 20_000, "info" })
	all.awaitMetric(time.Minute, 2*testShards, "tollgate_audit_images_total")
	in.empties(all, func() { in.must(client.FlushAll(t.Context()).Err()) })
	all.awaitMetric(time.Minute, 3*testShards, "tollgate_audit_images_total")
	in.empties(all, func() {
		in.must(in.stack.Redis.Kill())
		in.must(os.RemoveAll(filepath.Join(in.stack.Redis.Dir, "appendonlydir")))
		in.must(in.stack.Redis.Restart(t.Context()))
	})
	flow.end(leastPerSecond)
	log, err := os.ReadFile(all.logFile)
	in.must(err)
	if loads := strings.Count(string(log), "shard loaded") - strings.Count(string(log), "image=-1"); loads < testShards {
		t.Errorf("only %d shards were loaded from an image", loads)
	}
	in.exact()
	all.stop()
}

// empties empties Redis and waits until every shard was loaded by itself and goes on.
func (in *installation) empties(s *service, empty func()) {
	in.Helper()
	loads := s.metric("tollgate_debit_loads_total")
	empty()
	s.awaitMetric(time.Minute, loads+testShards, "tollgate_debit_loads_total")
	s.progress(10_000)
}

// TestClickHouseAway stops ClickHouse for a while. The debit stage does not care, the store stage says how far it is
// behind, and catches up.
func TestClickHouseAway(t *testing.T) {
	away := 15 * time.Second
	if longRun() {
		away = time.Minute
	}
	in := newInstallation(t, options{seed: seed(t), accounts: 2000, sources: carriers})
	all := in.serve("tollgate", nil, nil)
	flow := in.flow(flowPerSecond)
	all.progress(50_000)
	in.must(in.stack.ClickHouse.Stop())
	stopped := time.Now()
	t.Logf("%5.1f s: stopped clickhouse for %s", time.Since(flow.began).Seconds(), away)
	lag := all.metric("tollgate_store_lag_blocks")
	in.await(away, "the lag of the store stage grows", func() (bool, string) {
		n := all.metric("tollgate_store_lag_blocks")
		return n > 2*lag+100, fmt.Sprintf("from %.0f to %.0f blocks", lag, n)
	})
	debited := all.metric("tollgate_debit_entries_total")
	<-time.After(time.Until(stopped.Add(away)))
	if more := all.metric("tollgate_debit_entries_total") - debited; more < 10_000 {
		t.Errorf("only %.0f entries were debited while clickhouse was away", more)
	}
	in.must(in.stack.ClickHouse.Restart(t.Context()))
	flow.end(leastPerSecond)
	in.exact()
	in.await(time.Minute, "no lag is left", func() (bool, string) {
		n := all.metric("tollgate_store_lag_blocks")
		return n == 0, fmt.Sprintf("%.0f blocks", n)
	})
	all.stop()
}
