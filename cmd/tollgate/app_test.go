package main

import (
	"testing"
	"time"

	"github.com/tollgate/tollgate/deploy/local"
)

// TestEndToEnd is the whole of Tollgate in one process, on the embedded Kafka.
func TestEndToEnd(t *testing.T) {
	in := newInstallation(t, options{seed: seed(t), accounts: 200, sources: carriers,
		parts: []local.Part{local.Redis, local.EmbeddedKafka, local.ClickHouse}})
	all := in.serve("tollgate", nil, nil)
	flow := in.flow(10_000)
	in.await(time.Minute, "50,000 records are stored", func() (bool, string) {
		n := all.metric("tollgate_store_rows_total", `table="rated_records"`)
		return n >= 50_000, time.Since(flow.began).String()
	})
	flow.end(5_000)
	in.exact()
	all.stop()
}
