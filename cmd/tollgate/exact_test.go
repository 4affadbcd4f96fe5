package main

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What flows while processes die.
const (
	flowPerSecond  = 22_000
	leastPerSecond = 20_000
)

// shortWindow makes ids be remembered for 13 hours only, so that the records that are late by a day take the way of the
// late stage.
const shortWindow = "params:\n  - {param: window-ms, value: 46800000}\n"

// newKilled gives an installation for many kills: recharges go through a gateway that declines, times out and is late.
func newKilled(t *testing.T, n uint64) *installation {
	return newInstallation(t, options{seed: n, accounts: 2000, sources: carriers, bookText: shortWindow, change: func(c *Config) {
		c.Audit.ImageEntries = 200_000
		c.Recharge.Gateway, c.Recharge.AttemptPause = "simulated", time.Second
		c.Recharge.Simulated = SimulatedConfig{BookFile: filepath.Join(t.TempDir(), "gateway.log"), Seed: n,
			DeclinePercent: 10, TimeoutPercent: 5, LatePercent: 5, LateBy: 2 * time.Second}
	}})
}

func TestKills(t *testing.T) {
	const kills = 32
	n := seed(t)
	in := newKilled(t, n)
	services := []*service{
		in.serve("rate", []string{"rate"}, nil), in.serve("debit-1", []string{"debit"}, nil), in.serve("debit-2", []string{"debit"}, nil),
		in.serve("store", []string{"store"}, nil), in.serve("others", []string{"audit", "act", "recharge", "late"}, nil),
	}
	dice := rand.New(rand.NewPCG(n, 1))
	flow := in.flow(flowPerSecond)
	for range kills {
		wait := time.Duration(500+dice.IntN(3000)) * time.Millisecond
		victim := services[dice.IntN(len(services))]
		<-time.After(wait)
		victim.kill()
		t.Logf("%5.1f s: killed %s", time.Since(flow.began).Seconds(), victim.name)
	}
	flow.end(leastPerSecond)
	in.exact()
	audit := services[len(services)-1]
	if n := audit.metric("tollgate_audit_difference_total"); n != 0 {
		t.Errorf("the audit counts %.0f differences", n)
	}
	for _, s := range services {
		t.Logf("%s was killed %d times", s.name, s.kills)
		s.stop()
	}
}

// TestJournalOffIsCaught proves that the proof proves: without the journal, outcomes of what Redis had applied when the
// debit stage died are guesses, and both verify and the audit must find that.
func TestJournalOffIsCaught(t *testing.T) {
	const mostKills = 40
	n := seed(t)
	in := newKilled(t, n)
	sabotaged := filepath.Join(in.dir, "tollgate-nojournal")
	if out, err := exec.Command("go", "test", "-c", "-tags", "nojournal", "-o", sabotaged, ".").CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	debit := in.serve("debit", []string{"debit"}, nil, sabotaged)
	others := in.serve("others", slices.DeleteFunc(slices.Clone(stageNames), func(s string) bool { return s == "debit" }), nil)
	dice := rand.New(rand.NewPCG(n, 1))
	flow := in.flow(flowPerSecond)
	caught := func() float64 { return others.metric("tollgate_audit_difference_total") }
	for debit.kills < mostKills && caught() == 0 {
		entries := debit.metric("tollgate_debit_entries_total")
		in.await(time.Minute, "the debit stage works", func() (bool, string) {
			return debit.metric("tollgate_debit_entries_total") > entries || caught() > 0, "no new entries"
		})
		<-time.After(time.Duration(dice.IntN(1000)) * time.Millisecond)
		debit.kill()
	}
	flow.end(0)
	t.Logf("after %d kills the audit counts %.0f differences", debit.kills, caught())
	if caught() == 0 {
		t.Errorf("the audit found nothing after %d kills without a journal", debit.kills)
	}
	in.rated(2 * time.Minute)
	if report := in.verify(); report.Differences == 0 {
		t.Errorf("verify found nothing after %d kills without a journal", debit.kills)
	}
}
