package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// node is a Redis server that is, or was, the master of one shard. Its states never change; a failover to a replica
// that lags goes back to an earlier one.
type node struct {
	now     *redisState
	past    []*redisState // oldest first
	refuses string        // why it takes no writes; "" if it does
}

// redisState is all that a server holds of a shard.
type redisState struct {
	initialized bool
	torn        bool   // half a call came back with a restart: it is no state of any offset
	halted      string // why it was halted by hand; "" if it was not
	topicID     [16]byte
	wm, base    int64
	fold        *ledger.Shard
	journal     []kept
	loads       map[int]int // chunks staged, by the loader's nonce
}

// kept is one entry of the journal.
type kept struct {
	offset   int64
	count    int
	outcomes []byte
}

const pastStates = 16

// set makes the state of the node another one.
func (n *node) set(s *redisState) {
	if n.past = append(n.past, n.now); len(n.past) > pastStates {
		n.past = n.past[1:]
	}
	n.now = s
}

// folded is the state of the fold at an offset of a shard's log, and what became of the entries there.
type folded struct {
	state    *ledger.Shard
	block    *entry.Block
	outcomes []byte
}

// truth gives the fold of a shard's log up to an offset, -1 for the state before the first entry. It folds each block
// once for all; the states are never changed.
func (w *world) truth(shard int32, offset int64) folded {
	if len(w.folds[shard]) == 0 {
		w.folds[shard] = []folded{{state: ledger.New()}}
	}
	l := w.log("entries", shard)
	for int64(len(w.folds[shard])) <= offset+1 {
		next := int64(len(w.folds[shard])) - 1
		value, appendMs := l.message(next)
		b := decoded(value)
		state := clone(w.folds[shard][next].state)
		if err := newerBuild.Check(state, b); err != nil {
			w.violate("I4", "entry %d of shard %d: %v", next, shard, err)
		}
		outcomes := newerBuild.Fold(state, next, appendMs, b, nil)
		w.folds[shard] = append(w.folds[shard], folded{state, b, posting.AppendOutcomes(nil, outcomes)})
	}
	return w.folds[shard][offset+1]
}

// clone copies a state.
func clone(s *ledger.Shard) *ledger.Shard {
	c := *s
	c.Current, c.Previous = s.Current.Clone(), s.Previous.Clone()
	c.Sources, c.Closed, c.Results = maps.Clone(s.Sources), maps.Clone(s.Closed), maps.Clone(s.Results)
	c.ResultOrder = slices.Clone(s.ResultOrder)
	c.Accounts = make(map[uint32]*ledger.Account, len(s.Accounts))
	for id, a := range s.Accounts {
		copied := *a
		copied.Tokens = slices.Clone(a.Tokens)
		c.Accounts[id] = &copied
	}
	return &c
}

// redis is the shards as a task sees them: over connections of its own, which may lead to a master that is none any
// more.
type redis struct{ t *task }

// of gives the server that the task talks to.
func (r redis) of(shard int32) *node {
	w, t := r.t.w, r.t
	current := w.masters[shard]
	stay := t.nodes[shard] != nil && w.faults && w.r.IntN(4) > 0
	if !stay {
		t.nodes[shard] = current
	}
	return t.nodes[shard]
}

// Apply runs the script for each call.
func (r redis) Apply(ctx context.Context, calls []*lua.Call) error {
	for _, c := range calls {
		n := r.of(c.Shard)
		f, err := r.t.enter(ctx, "apply", int64(c.Shard)<<32|c.From, c.To)
		if err != nil {
			return err
		}
		if r.t.zombie > 0 {
			r.t.w.count("script of a zombie")
		}
		if n != r.t.w.masters[c.Shard] {
			r.t.w.count("script on an old master")
		}
		if n.refuses != "" { // the script stops at its first write
			r.t.w.count("write refused")
			return errors.New(n.refuses)
		}
		torn := r.t.w.script(n, c, r.t.build)
		if err := r.t.leave(f, nil); err != nil {
			return err
		}
		if torn {
			return errLost
		}
	}
	return nil
}

// script is protocol rule 5, as apply.lua does it in a build.
func (w *world) script(n *node, c *lua.Call, by build) (torn bool) {
	s, reply := n.now, &c.Reply
	*reply = lua.Reply{Outcomes: reply.Outcomes[:0]}
	switch {
	case s.torn:
		reply.Status = lua.Uninit
		w.count("UNINIT for half a call")
		return false
	case !s.initialized:
		reply.Status = lua.Uninit
		w.count("UNINIT")
		return false
	case s.topicID != c.TopicID:
		reply.Status, reply.Detail = lua.Halt, "the shard belongs to another topic"
		return false
	case s.halted != "":
		reply.Status, reply.Detail = lua.Halt, s.halted
		w.count("HALT by hand")
		return false
	case c.From > s.wm+1 && !w.mutation.noGap:
		reply.Status, reply.WM = lua.Gap, s.wm
		w.count("GAP")
		return false
	case c.From <= s.base && !w.mutation.noJournal:
		reply.Status, reply.Base = lua.Trimmed, s.base
		w.count("TRIMMED")
		return false
	case build(s.fold.Version) > by && !w.mutation.anyVersion:
		reply.Status, reply.Detail = lua.Version, fmt.Sprintf("the shard is at fold version %d", s.fold.Version)
		w.count("VERSION")
		return false
	}
	next := *s
	shipped := w.mutation.shipped(c, s)
	if shipped > s.base {
		next.base = min(shipped, s.wm)
		first := slices.IndexFunc(s.journal, func(k kept) bool { return k.offset > next.base })
		if first < 0 {
			first = len(s.journal)
		}
		next.journal = s.journal[first:len(s.journal):len(s.journal)]
	}
	for _, k := range s.journal {
		if k.offset >= c.From && k.offset <= c.To && !w.mutation.noJournal {
			reply.Outcomes = append(reply.Outcomes, k.reply())
		}
	}
	torn, refusal := w.foldCall(&next, c, reply, by)
	switch {
	case torn:
		n.set(&next)
		return true
	case errors.Is(refusal, ledger.ErrVersion):
		*reply = lua.Reply{Outcomes: reply.Outcomes[:0], Status: lua.Version, Detail: refusal.Error()}
		w.count("VERSION")
		return false
	case refusal != nil:
		*reply = lua.Reply{Outcomes: reply.Outcomes[:0], Status: lua.Halt, Detail: refusal.Error()}
		return false
	}
	reply.Status, reply.WM, reply.Base = lua.OK, next.wm, next.base
	n.set(&next)
	w.checkState(c.Shard, &next)
	return false
}

func (k kept) reply() lua.BlockOutcomes {
	return lua.BlockOutcomes{Offset: k.offset, Count: k.count, Bytes: k.outcomes}
}

// foldCall folds the blocks of a call that are new. Where the state is the fold of the log and the blocks are those of
// the log, the result is known already. A refusal means that nothing may be written.
func (w *world) foldCall(next *redisState, c *lua.Call, reply *lua.Reply, by build) (torn bool, refusal error) {
	l := w.log("entries", c.Shard)
	lastMs := int64(0)
	if len(c.Blocks) > 0 {
		lastMs = c.Blocks[len(c.Blocks)-1].AppendMs
	}
	for i := range c.Blocks {
		b := &c.Blocks[i]
		if b.Offset <= next.wm {
			continue
		}
		after := w.truth(c.Shard, b.Offset)
		if _, appendMs := l.message(b.Offset); appendMs != b.AppendMs || !sameFacts(b.Entries, after.block) {
			w.violate("I1", "the call for entry %d of shard %d holds other entries than the log", b.Offset, c.Shard)
		}
		if err := w.mutation.refuses(by.Check(next.fold, b.Entries)); err != nil {
			return false, err
		}
		k := kept{b.Offset, b.Entries.Len(), nil}
		if w.mutation.fold == nil && next.fold == w.truth(c.Shard, b.Offset-1).state && build(after.state.Version) <= by {
			next.fold, k.outcomes = after.state, after.outcomes
		} else {
			k.outcomes = w.foldBlock(next, b, c.Shard, lastMs, by)
		}
		if w.mutation.torn && w.faults && i == len(c.Blocks)-1 && w.r.IntN(30) == 0 {
			return true, nil // accounts are written, the watermark is not
		}
		next.journal = append(next.journal[:len(next.journal):len(next.journal)], k)
		next.wm = b.Offset
		reply.Outcomes = append(reply.Outcomes, k.reply())
	}
	next.wm = max(next.wm, c.To)
	return false, nil
}

// foldBlock folds a block into a state that is not that of the log, as mutants make them.
func (w *world) foldBlock(next *redisState, b *lua.BlockRef, shard int32, lastMs int64, by build) []byte {
	state := clone(next.fold)
	next.fold = state
	if w.mutation.fold != nil {
		value, _ := w.log("entries", shard).message(b.Offset)
		return w.mutation.fold(w, foldStep{state, b.Offset, b.AppendMs, lastMs, decoded(value), shard, by})
	}
	return posting.AppendOutcomes(nil, by.Fold(state, b.Offset, b.AppendMs, b.Entries, nil))
}

// decoded gives the block that a message of entries is.
func decoded(value []byte) *entry.Block {
	var b entry.Block
	if err := b.Decode(value); err != nil {
		panic(err)
	}
	return &b
}

// sameFacts tells whether two blocks are alike in all that the fold looks at.
func sameFacts(a, b *entry.Block) bool {
	same := a.Source == b.Source && a.Prev == b.Prev && a.Len() == b.Len() && slices.Equal(a.Kind, b.Kind) && slices.Equal(a.Account, b.Account) &&
		slices.Equal(a.AmountUnits, b.AmountUnits) && slices.Equal(a.Offset, b.Offset) && slices.Equal(a.Ix, b.Ix) &&
		slices.Equal(a.EventMs, b.EventMs) && slices.Equal(a.LocalDay, b.LocalDay) && slices.Equal(a.IDHash, b.IDHash)
	for i := 0; same && i < a.Len(); i++ {
		same = a.Args(i) == b.Args(i)
	}
	return same
}

// checkState holds a server's state against the fold of the log: I1, and the second half of I2. Mutants of the fold are left
// to the oracle, as an error in balance/ledger would be.
func (w *world) checkState(shard int32, s *redisState) {
	if w.mutation.fold != nil {
		return
	}
	want := w.truth(shard, s.wm)
	if s.fold != want.state {
		if difference := ledger.Equal(s.fold, want.state); difference != "" {
			w.violate("I1", "shard %d at %d is not the fold of its log: %s", shard, s.wm, difference)
		}
	}
	for i, k := range s.journal {
		if k.offset != s.base+1+int64(i) || k.outcomes == nil {
			w.violate("I2", "the journal of shard %d does not hold the outcomes of (%d, %d]", shard, s.base, s.wm)
			return
		}
	}
	if s.base+int64(len(s.journal)) != s.wm {
		w.violate("I2", "the journal of shard %d has %d outcomes for (%d, %d]", shard, len(s.journal), s.base, s.wm)
	}
	if s.base > w.postedTo(shard) {
		w.violate("I2", "base %d of shard %d, but postings end with %d", s.base, shard, w.postedTo(shard))
	}
}

// Heads reads where shards stand.
func (r redis) Heads(ctx context.Context, shards []int32, heads []lua.Head) error {
	return r.t.call(ctx, "heads", int64(len(shards)), 0, func() error {
		for i, shard := range shards {
			s := r.of(shard).now
			switch heads[i] = (lua.Head{}); {
			case s.torn:
				heads[i] = lua.Head{Torn: true, WM: s.wm, Base: s.base}
			case s.initialized:
				heads[i] = lua.Head{Initialized: true, Installation: installation, TopicID: s.topicID, WM: s.wm, Base: s.base, Version: s.fold.Version, Halted: s.halted}
			}
			if r.t.w.mutation.startAtWM && s.initialized {
				heads[i].Base = s.wm
			}
		}
		return nil
	})
}

// Load stages an image in chunks and flips it in.
func (r redis) Load(ctx context.Context, shard int32, topicID [16]byte, image *ledger.Shard) error {
	w := r.t.w
	state := image
	if want := w.truth(shard, image.WM); ledger.Equal(image, want.state) == "" {
		state = want.state
	} else {
		w.violate("I7", "the image of %d of shard %d is not the fold: %s", image.WM, shard, ledger.Equal(image, want.state))
	}
	w.nonces++
	nonce, chunks := w.nonces, 2+w.r.IntN(5)
	for chunk := range chunks {
		if w.faults && w.rates.failover > 0 && w.r.IntN(16) == 0 && w.happens("failover while loading") { // the worst moment
			w.failover(int(shard))
		}
		err := r.t.call(ctx, "load chunk", int64(shard), int64(chunk), func() error {
			n := r.of(shard)
			if n.refuses != "" {
				return errors.New(n.refuses)
			}
			if n.now.initialized {
				return fmt.Errorf("cannot load shard %d: %w", shard, lua.ErrInitialized)
			}
			if n.now.loads[nonce] != chunk && !w.mutation.noChain {
				w.count("chain of chunks broken")
				return fmt.Errorf("cannot load shard %d: the chain is broken", shard)
			}
			next := *n.now
			if next.loads = maps.Clone(next.loads); next.loads == nil {
				next.loads = map[int]int{}
			}
			next.loads[nonce]++
			n.set(&next)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.t.call(ctx, "flip", int64(shard), image.WM, func() error {
		return w.flip(r.of(shard), shard, nonce, chunks, topicID, state)
	})
}

func (w *world) flip(n *node, shard int32, nonce, chunks int, topicID [16]byte, state *ledger.Shard) error {
	if n.refuses != "" {
		return errors.New(n.refuses)
	}
	if n.now.initialized {
		return fmt.Errorf("cannot load shard %d: %w", shard, lua.ErrInitialized)
	}
	whole := n.now.loads[nonce] == chunks
	if !whole && !w.mutation.noChain {
		return fmt.Errorf("cannot load shard %d: the chain is broken", shard)
	}
	if !whole {
		state = clone(state)
		clear(state.Accounts) // what the lost chunks held
	}
	w.count("shard loaded")
	n.set(&redisState{initialized: true, topicID: topicID, wm: state.WM, base: state.WM, fold: state})
	w.checkState(shard, n.now)
	return nil
}

// Result reads, at once, where a shard stands and what it keeps of an API entry.
func (r redis) Result(ctx context.Context, shard int32, id uint64) (wm int64, kept ledger.APIResult, found bool, err error) {
	err = r.t.call(ctx, "result", int64(shard), int64(id>>32), func() error {
		s := r.of(shard).now
		if !s.initialized {
			return lua.ErrUninitialized
		}
		wm = s.wm
		kept, found = s.fold.Results[id]
		return nil
	})
	return wm, kept, found, err
}

// Wipe empties a shard whose watermark is still wm.
func (r redis) Wipe(ctx context.Context, shard int32, wm int64) error {
	return r.t.call(ctx, "wipe", int64(shard), wm, func() error {
		n := r.of(shard)
		switch {
		case n.refuses != "":
			return errors.New(n.refuses)
		case !n.now.initialized || r.t.w.mutation.noWipe:
			return nil
		case n.now.wm != wm:
			return fmt.Errorf("cannot wipe shard %d: %w", shard, lua.ErrChanged)
		}
		r.t.w.count("shard wiped")
		n.set(&redisState{})
		return nil
	})
}

// Params reads the parameters of a shard's fold.
func (r redis) Params(ctx context.Context, shard int32) (params [ledger.ParamCount]int64, err error) {
	err = r.t.call(ctx, "params", int64(shard), 0, func() error {
		s := r.of(shard).now
		if !s.initialized {
			return lua.ErrUninitialized
		}
		params = s.fold.Params
		return nil
	})
	return params, err
}

// Attention lists the accounts of a shard that want the recharge worker's attention.
func (r redis) Attention(ctx context.Context, shard int32) (accounts []uint32, err error) {
	err = r.t.call(ctx, "attention", int64(shard), 0, func() error {
		if s := r.of(shard).now; s.initialized {
			for _, id := range slices.Sorted(maps.Keys(s.fold.Accounts)) {
				if s.fold.Accounts[id].WantsAttention(s.fold.Params[ledger.GiveUpAfter]) {
					accounts = append(accounts, id)
				}
			}
		}
		return nil
	})
	return accounts, err
}

// Accounts reads accounts of a shard.
func (r redis) Accounts(ctx context.Context, shard int32, numbers []uint32) (found []lua.Found, err error) {
	err = r.t.call(ctx, "accounts", int64(shard), int64(len(numbers)), func() error {
		if s := r.of(shard).now; s.initialized {
			for _, id := range numbers {
				if a := s.fold.Accounts[id]; a != nil {
					found = append(found, lua.Found{ID: id, State: *a})
				}
			}
		}
		return nil
	})
	return found, err
}
