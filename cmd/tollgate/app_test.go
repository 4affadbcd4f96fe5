package main

import (
	"fmt"
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
	// Started again without an image, the audit folds the whole of both logs, which no single fetch can bring.
	again, counts := in.serve("again", nil, nil), in.counts()
	in.await(time.Minute, "all entries are audited again", func() (bool, string) {
		n := again.metric("tollgate_audit_entries_total")
		return n >= float64(counts.Records()), fmt.Sprint(n)
	})
	if n := again.metric("tollgate_audit_difference_total"); n != 0 {
		t.Errorf("the audit found %v differences", n)
	}
	again.stop()
}
