package simulation

import (
	"context"
	"fmt"
	"slices"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// charged is the code of posting.Charged in tables.
const charged = int64(posting.Charged)

// Mutants are the mutants by name. Each takes one mechanism of the protocol away, in a fake or between a fake and a loop:
// the loops themselves have no switches.
var Mutants = map[string]Mutant{
	"no-gap":             {"the script applies entries beyond a gap", mutation{noGap: true}},
	"any-version":        {"a build applies entries of a fold version that it lacks", mutation{anyVersion: true}},
	"no-journal":         {"the script forgets outcomes that are not in Kafka yet", mutation{noJournal: true}},
	"trim-early":         {"the journal is trimmed to the watermark, whatever was shipped", mutation{trimEarly: true}},
	"trim-lie":           {"the caller says shipped of what it only asks for", mutation{trimLie: true}},
	"torn-script":        {"the script may stop halfway through its writes", mutation{torn: true}},
	"torn-unseen":        {"half a call that came back with a restart of Redis is taken for a state", mutation{tornUnseen: true}},
	"start-at-watermark": {"debit starts behind the watermark instead of the base", mutation{startAtWM: true}},
	"no-probe":           {"debit never asks an idle shard where it stands", mutation{noProbe: true}},
	"no-wipe":            {"a master from before the cut is not wiped", mutation{noWipe: true}},
	"flip-without-chain": {"an image is flipped in though chunks are missing", mutation{noChain: true}},
	"early-image":        {"an image is ahead of the postings", mutation{earlyImage: true}},

	"committed-by-name":   {"a committed offset counts whatever topic it was of", mutation{committedByName: true}},
	"position-without-ix": {"the records of one message have one position", mutation{write: withoutIx}},
	"no-watermark":        {"the shard does not skip positions that it has seen", mutation{fold: foldWithoutSource}},
	"no-frontier":         {"rate does not wait for the book", mutation{books: impatientBooks}},
	"no-clamp":            {"changes of the book may be back-dated", mutation{books: backdatedBooks}},
	"newest-format":       {"records are decoded by the newest format", mutation{books: newestFormats}},
	"format-by-config":    {"records are decoded by the format that the process was configured with", mutation{books: configuredFormats}},
	"replay-directly":     {"replays are entries of their own, past the book", mutation{decide: replayDirectly}},
	"newest-owner":        {"records are routed by the newest directory", mutation{books: newestOwners}},
	"rate-commits-early":  {"rate commits what it has read before it is written", mutation{trackServed: true, send: commitEarly}},
	"two-in-flight":       {"rate sends a block though the one before is not acknowledged", mutation{send: sendLater}},
	"produce-not-awaited": {"debit takes postings for shipped that are not acknowledged", mutation{send: sendUnheard}},

	"wall-clock-window": {"the fold's time is the server's clock", mutation{fold: foldByWallClock}},
	"batch-fold":        {"the fold's time is that of the last block of the call", mutation{fold: foldByBatch}},
	"no-ids":            {"no record is known by its id", mutation{fold: foldWithoutIDs}},
	"no-late":           {"records older than the window are charged", mutation{fold: foldWithoutLate}},
	"ids-by-event-time": {"ids are remembered by event time", mutation{fold: foldIDsByEvent}},
	"release-any-age":   {"a release counts however old its look-up is", mutation{fold: foldAnyRelease}},
	"ids-by-ttl":        {"the server drops the older ids by its own clock", mutation{fold: foldIDsByTTL}},
	"no-expired":        {"API entries never expire", mutation{fold: foldWithoutExpiry}},
	"api-id-on-success": {"refused API entries leave no id", mutation{fold: foldRefusedForgotten}},
	"no-floor":          {"a change of zone raises no floor", mutation{fold: foldWithoutFloor}},
	"close-by-clock":    {"days are closed by the server's clock", mutation{fold: foldCloseByClock}},
	"grace-by-clock":    {"the grace ends by the server's clock", mutation{fold: foldGraceByClock}},
	"edge-trigger":      {"only crossing the threshold decides a recharge", mutation{fold: foldEdge}},
	"credit-only-open":  {"a capture is credited only while its intent is open", mutation{fold: foldCreditOpen}},
	"credit-twice":      {"a payment that comes again is credited again", mutation{fold: foldCreditAgain}},

	"no-look-up":        {"attempts are not looked up before a charge", mutation{noLookUp: true}},
	"fresh-key":         {"every request has an idempotency key of its own", mutation{charge: freshKey}},
	"amount-recomputed": {"the amount is that of the settings of now", mutation{charge: recompute}},
	"late-charge":       {"a charge is sent however old its look-up is", mutation{lateCharge: true}},
	"no-reconciler":     {"nobody reads the gateway's report", mutation{noReconciler: true}},
	"any-body":          {"a caller takes what is kept under the key for its own, whatever was asked for", mutation{anyBody: true}},
	"answer-early":      {"a caller does not wait until the shard has applied its entry", mutation{answerEarly: true}},
	"insert-unheard":    {"store takes rows for stored that may be lost", mutation{insertUnheard: true}},
	"tell-unheard":      {"act takes events for told that are not acknowledged", mutation{send: tellUnheard}},
	"blind-look-up":     {"ClickHouse does not find what was charged", mutation{blindLookUp: true}},
}

// withoutIx makes all records of a message lie at one position.
func withoutIx(t *task, topic string, value []byte) []byte {
	var b entry.Block
	if topic != "entries" || b.Decode(value) != nil || b.Source == (entry.Source{}) {
		return value
	}
	clear(b.Ix)
	b.Prev.Ix = 0
	return b.AppendTo(nil)
}

// fold folds a block, perhaps changed by the mutant, and gives its outcomes.
func (s *foldStep) fold(appendMs int64) []posting.Outcome {
	if s.state.Check(s.block) != nil {
		s.block.Prev = entry.None
	}
	return s.by.Fold(s.state, s.offset, appendMs, s.block, nil)
}

func foldWithoutSource(_ *world, s foldStep) []byte {
	s.block.Source = entry.Source{}
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldByWallClock(w *world, s foldStep) []byte {
	return posting.AppendOutcomes(nil, s.fold(w.nowMs))
}

func foldByBatch(_ *world, s foldStep) []byte {
	return posting.AppendOutcomes(nil, s.fold(s.lastMs))
}

func foldWithoutIDs(_ *world, s foldStep) []byte {
	clear(s.block.IDHash)
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldWithoutLate(_ *world, s foldStep) []byte {
	s.retime(func(k entry.Kind) bool { return k == entry.Usage })
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldWithoutExpiry(_ *world, s foldStep) []byte {
	s.retime(entry.Kind.FromAPI)
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

// retime dates entries of some kinds by the present, so that they are never too old.
func (s *foldStep) retime(which func(entry.Kind) bool) {
	for i, k := range s.block.Kind {
		if which(k) {
			s.block.EventMs[i] = max(s.block.EventMs[i], s.appendMs, s.state.NowMs)
		}
	}
}

// forget takes one id out of a set.
func forget(ids *ledger.IDs, id uint64) {
	var kept ledger.IDs
	for other := range ids.All() {
		if other != id {
			kept.Add(other)
		}
	}
	*ids = kept
}

func foldIDsByEvent(_ *world, s foldStep) []byte {
	outcomes := s.fold(s.appendMs)
	for i, o := range outcomes {
		id, ms := s.block.IDHash[i], s.block.EventMs[i]
		if o.Result != posting.Charged || ms >= s.state.GenerationStartMs {
			continue
		}
		forget(&s.state.Current, id)
		if ms >= s.state.CoveredSinceMs {
			s.state.Previous.Add(id)
		}
	}
	return posting.AppendOutcomes(nil, outcomes)
}

func foldIDsByTTL(w *world, s foldStep) []byte {
	if w.nowMs-s.state.GenerationStartMs >= s.state.Params[ledger.WindowMs] {
		s.state.Previous = ledger.IDs{}
	}
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldAnyRelease(_ *world, s foldStep) []byte {
	var copied entry.Block
	var e entry.Entry
	copied.Reset(s.block.Source, s.block.Prev)
	for i := range s.block.Kind {
		s.block.Get(i, &e)
		if e.Kind == entry.Release {
			e.Args[entry.ArgSeenMs] = max(s.appendMs, s.state.NowMs)
		}
		copied.Add(&e)
	}
	s.block = &copied
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldRefusedForgotten(_ *world, s foldStep) []byte {
	outcomes := s.fold(s.appendMs)
	for i, o := range outcomes {
		if s.block.Kind[i].FromAPI() && o.Result == posting.Refused {
			forget(&s.state.Current, s.block.IDHash[i])
		}
	}
	return posting.AppendOutcomes(nil, outcomes)
}

func foldWithoutFloor(_ *world, s foldStep) []byte {
	outcomes := s.fold(s.appendMs)
	for _, a := range s.state.Accounts {
		a.Floor = ledger.NoDay
	}
	return posting.AppendOutcomes(nil, outcomes)
}

func foldCloseByClock(w *world, s foldStep) []byte {
	for zone := range uint32(len(zones)) {
		s.state.Closed[zone] = int32(w.nowMs/dayMs) - 1
	}
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldGraceByClock(w *world, s foldStep) []byte {
	outcomes := s.fold(s.appendMs)
	for i := range outcomes {
		a := s.state.Accounts[s.block.Account[i]]
		if a == nil || !a.HasIntent || a.Intent.Attempt > 0 || a.BalanceUnits >= 0 || i < len(outcomes)-1 {
			continue
		}
		if late := w.nowMs-a.Intent.OpenedMs > s.state.Params[ledger.GraceMs]; late && !a.Suspended {
			a.Suspended = true
			outcomes[i].Flags |= posting.Suspended | posting.BecameSuspended
		}
	}
	return posting.AppendOutcomes(nil, outcomes)
}

func foldEdge(_ *world, s foldStep) []byte {
	low := map[uint32]bool{}
	for id, a := range s.state.Accounts {
		low[id] = a.Low
	}
	outcomes := s.fold(s.appendMs)
	for i := range outcomes {
		o, id := &outcomes[i], s.block.Account[i]
		if a := s.state.Accounts[id]; o.Flags&posting.OpenedIntent != 0 && low[id] {
			a.HasIntent, a.Intent, a.Tokens = false, ledger.Intent{}, a.Tokens[:len(a.Tokens)-1]
			o.Flags, o.IntentUnits = o.Flags&^posting.OpenedIntent, 0
		}
	}
	return posting.AppendOutcomes(nil, outcomes)
}

func foldCreditOpen(_ *world, s foldStep) []byte {
	for i, k := range s.block.Kind {
		if a := s.state.Accounts[s.block.Account[i]]; k == entry.Payment && a != nil {
			a.Tokens = slices.DeleteFunc(a.Tokens, func(t ledger.Token) bool {
				return !a.HasIntent || t.Offset != a.Intent.Offset || t.Ix != a.Intent.Ix
			})
		}
	}
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func foldCreditAgain(_ *world, s foldStep) []byte {
	for i, k := range s.block.Kind {
		args := s.block.Args(i)
		t := ledger.Token{Offset: args[entry.ArgIntentOffset], Ix: uint32(args[entry.ArgIntentIx]), Attempt: uint8(args[entry.ArgAttempt])}
		if a := s.state.Accounts[s.block.Account[i]]; k == entry.Payment && a != nil && !slices.Contains(a.Tokens, t) {
			a.Tokens = append(a.Tokens, t)
		}
	}
	return posting.AppendOutcomes(nil, s.fold(s.appendMs))
}

func freshKey(w *world, r *recharge.Request) {
	w.ids++
	r.IdempotencyKey = fmt.Sprint("fresh-", w.ids)
}

func recompute(w *world, r *recharge.Request) {
	if s := w.masters[r.Intent.Shard].now; s.initialized && s.fold.Accounts[r.Account] != nil {
		a := s.fold.Accounts[r.Account]
		r.AmountUnits = money.RoundUpToMinor(max(a.RechargeToUnits-a.BalanceUnits, money.UnitsPerMinor))
	}
}

// sendUnheard is debit's Send that takes every batch for appended.
func sendUnheard(ctx context.Context, wr *writer) (done bool, err error) {
	return unheard(ctx, wr, "debit")
}

// tellUnheard is the same of act.
func tellUnheard(ctx context.Context, wr *writer) (done bool, err error) {
	return unheard(ctx, wr, "act")
}

func unheard(ctx context.Context, wr *writer, stage string) (done bool, err error) {
	if wr.t.stage == nil || wr.t.stage.name != stage {
		return false, nil
	}
	for _, o := range wr.outlets[:wr.used] {
		_ = wr.sendOne(ctx, o)
	}
	return true, nil
}

// sendLater is rate's Send that goes on with the next blocks while one is not acknowledged.
func sendLater(ctx context.Context, wr *writer) (done bool, err error) {
	if wr.t.stage == nil || wr.t.stage.name != "rate" {
		return false, nil
	}
	later := wr.t.later
	wr.t.later = nil
	for _, o := range wr.outlets[:wr.used] {
		if wr.sendOne(ctx, o) != nil {
			again := &outlet{result: o.result, sealed: o.sealed}
			wr.t.later = append(wr.t.later, again)
		}
	}
	for _, o := range later {
		for ctx.Err() == nil && wr.sendOne(ctx, o) != nil {
		}
	}
	return true, ctx.Err()
}

// commitEarly commits all that the last fetch brought before it is sent.
func commitEarly(_ context.Context, wr *writer) (done bool, err error) {
	t := wr.t
	if t.stage == nil || t.stage.name != "rate" || t.stage.generation != t.ref.ID {
		return false, nil
	}
	for _, s := range t.w.stages["rate"].topics {
		for _, p := range t.share[s] {
			if end, fetched := t.served[logKey{s, p}]; fetched {
				id := t.w.topics[s].id
				t.w.commit("rate", s, commitOf(p, end, fmt.Sprintf("%x", id[:])))
			}
		}
	}
	return false, nil
}
