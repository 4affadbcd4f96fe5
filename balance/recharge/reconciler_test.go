package recharge

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// The reconciler pays what no worker sees, once the account is known to wait for it.
func TestReconciler(t *testing.T) {
	s, cfg := newStill(), testConfig()
	g := s.gateway(t)
	for _, offset := range []int64{10, 20, 1500} {
		r := request(1, offset, 0)
		r.Intent.Shard, r.Intent.Ix = 0, 0
		if _, err := g.Charge(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	s.accounts[1] = ledger.Account{Open: true, Tokens: []ledger.Token{{Offset: 20}}} // 10 is paid, 1500 is yet to come
	r, err := NewReconciler(Deps{Shards: s, Gateway: g, Writer: s, Topics: s, Book: s, Clock: s,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, cfg, []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	reconcile := func() {
		if err := r.round(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if reconcile(); len(s.log) != 0 {
		t.Fatal("captures of this moment are the worker's")
	}
	s.now = s.now.Add(cfg.ReconcileAfter)
	reconcile()
	if len(s.log) != 1 || s.log[0].Kind != entry.Payment || s.log[0].Args[entry.ArgIntentOffset] != 20 {
		t.Fatalf("%+v", s.log)
	}
	s.head.WM = 1500
	s.accounts[1] = ledger.Account{Open: true, HasIntent: true, Intent: ledger.Intent{Offset: 1500}, Tokens: []ledger.Token{{Offset: 1500}}}
	s.now = s.now.Add(3 * time.Hour)
	reconcile() // the first report that is not whole is asked for again, as far back
	if len(s.log) != 2 || s.log[1].Args[entry.ArgIntentOffset] != 1500 {
		t.Fatalf("%+v", s.log)
	}
}

// A report with more captures than one batch takes is credited piece by piece, and a shard that cannot be read does not keep
// the captures of the others from being credited.
func TestReconcilerGoesOn(t *testing.T) {
	s, cfg := newStill(), testConfig()
	g := s.gateway(t)
	var tokens []ledger.Token
	for offset := range int64(5) {
		r := request(1, offset, 0)
		r.Intent.Shard, r.Intent.Ix = 0, 0
		if _, err := g.Charge(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, ledger.Token{Offset: offset})
	}
	s.now, s.full = s.now.Add(cfg.ReconcileAfter), 2
	r, err := NewReconciler(Deps{Shards: s, Gateway: g, Writer: s, Topics: s, Book: s, Clock: s,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, cfg, []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 4, 5} {
		s.accounts[1] = ledger.Account{Open: true, Tokens: tokens[len(s.log):]} // what was appended is credited
		err := r.round(context.Background())
		if len(s.log) != want || (want < 5) != errors.Is(err, stream.ErrBatchFull) || want == 5 && err != nil {
			t.Fatalf("%d payments instead of %d: %v", len(s.log), want, err)
		}
	}
}
