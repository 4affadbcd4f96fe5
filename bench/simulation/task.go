package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/stream"
)

// crashed is what a call panics with in a task that dies there.
type crashed struct{}

var (
	// errLost is a call that broke: it may have had its effect.
	errLost = errors.New("the connection broke")
	// errDown is a server that is away.
	errDown = errors.New("the server is away")
)

// task is one production loop in the world: a coroutine that runs while nobody else does, and yields in every call.
type task struct {
	w      *world
	name   string
	named  uint64 // hash of its name
	stage  *stage // nil for tasks that no group shares out
	ref    stream.GenerationRef
	share  map[string][]int32
	ctx    context.Context
	cancel context.CancelFunc
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool

	wakeMs   int64             // it does not go on before
	watching []stream.Position // what its fetch waits for
	dies     bool              // at its next step
	ended    bool              // it has returned or died
	err      error             // what it returned
	calls    bool              // it is a caller of the API
	zombie   int               // the step until which it goes on although it was replaced; 0 while it was not
	urgent   bool              // what it is doing bears no long delay
	nodes    map[int32]*node   // the masters that it is connected to
	reads    map[logKey]int64  // where its last fetch began
	carrier  *follower         // the process that it is part of, by whose book it rates
	build    build             // of that process when it was started
	served   map[logKey]int64  // mutant: ends of what its last fetch brought
	later    []*outlet         // mutant: what it has not seen acknowledged
}

// start makes a coroutine of a loop.
func (w *world) start(t *task, run func(ctx context.Context) error) {
	t.w, t.named, t.nodes, t.reads = w, xxhash.Sum64String(t.name), map[int32]*node{}, map[logKey]int64{}
	if t.build = newerBuild; t.carrier != nil {
		t.build = t.carrier.build
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wakeMs = w.nowMs + w.r.Int64N(2000)
	t.resume, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			t.ended = true
			if r := recover(); r != nil && r != (crashed{}) {
				panic(fmt.Sprintf("%s: %v\n%s", t.name, r, debug.Stack()))
			}
		}()
		t.yield = yield
		t.err = run(t.ctx)
	})
	w.tasks = append(w.tasks, t)
	w.note(t, "starts", int64(t.ref.ID), 0)
}

// pause lets others go on until the task's time has come, and dies there if it is to.
func (t *task) pause() {
	if !t.yield(struct{}{}) || t.dies {
		panic(crashed{})
	}
}

// fate is what happens to a call.
type fate uint8

const (
	fine   fate = iota
	lost        // it never arrived
	mute        // it had its effect, the reply got lost
	deadly      // it had its effect, the caller dies before the reply
	early       // the caller dies before it has an effect
)

// enter begins a call: time passes, others go on, and the caller may die before the call takes effect.
func (t *task) enter(ctx context.Context, what string, a, b int64) (fate, error) {
	if ctx.Err() != nil {
		return lost, ctx.Err()
	}
	w := t.w
	if t.zombie > 0 {
		w.count("call of a zombie")
	}
	t.wakeMs = w.nowMs + w.latency(t)
	t.pause()
	if ctx.Err() != nil && w.r.IntN(2) == 0 {
		return lost, ctx.Err()
	}
	f := fine
	if w.faults {
		switch x := w.r.IntN(10_000); {
		case x < 2*w.rates.die && !w.happens("crash"), x < 2*w.rates.die+w.rates.lost && x >= 2*w.rates.die && !w.happens("call lost"):
		case x < w.rates.die:
			w.count("call: its caller dies before it")
			w.noteFate(t, what, a, b, early)
			panic(crashed{})
		case x < 2*w.rates.die:
			w.count("call: its caller dies after it")
			f = deadly
		case x < 2*w.rates.die+w.rates.lost:
			f = lost
		case x < 2*w.rates.die+w.rates.lost+w.rates.mute && w.happens("reply lost"):
			f = mute
		}
	}
	w.noteFate(t, what, a, b, f)
	if f == lost {
		return lost, errLost
	}
	return f, nil
}

// leave ends a call that had its effect.
func (t *task) leave(f fate, err error) error {
	switch f {
	case deadly:
		panic(crashed{})
	case mute:
		if t.w.r.IntN(2) == 0 { // the caller waits for the reply
			t.wakeMs = t.w.nowMs + t.w.latency(t)
			t.pause()
		}
		return errLost
	}
	return err
}

// call is a call with one effect.
func (t *task) call(ctx context.Context, what string, a, b int64, effect func() error) error {
	f, err := t.enter(ctx, what, a, b)
	if err != nil {
		return err
	}
	return t.leave(f, effect())
}

// latency is how long a call takes: mostly milliseconds, now and then seconds; minutes for who is slow.
func (w *world) latency(t *task) int64 {
	if !w.faults {
		return w.r.Int64N(5)
	}
	if t.zombie > 0 && w.r.IntN(12) == 0 && !t.urgent {
		return w.r.Int64N(10 * minuteMs)
	}
	if t.carrier != nil && t.carrier.t == t && w.rates.bookLag > 0 {
		return w.r.Int64N(w.rates.bookLag)
	}
	if w.r.IntN(100) < w.rates.slow {
		return w.r.Int64N(20_000)
	}
	return w.r.Int64N(30)
}

// Now gives the task's clock, which may be wrong by seconds.
func (t *task) Now() time.Time { return time.UnixMilli(t.w.nowMs + t.w.skewOf(t)) }

// Sleep waits in virtual time.
func (t *task) Sleep(ctx context.Context, d time.Duration) {
	if ctx.Err() == nil {
		t.wakeMs = t.w.nowMs + max(1, d.Milliseconds())
		t.pause()
	}
}
