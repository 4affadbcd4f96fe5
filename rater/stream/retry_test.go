package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// napper is a clock that only its sleeper moves.
type napper struct {
	now  time.Time
	naps []time.Duration
}

func (n *napper) Now() time.Time { return n.now }

func (n *napper) Sleep(_ context.Context, d time.Duration) {
	n.naps = append(n.naps, d)
	n.now = n.now.Add(d)
}

func testRetry() (*Retry, *napper, *bytes.Buffer, *int) {
	clock, said, count := &napper{now: time.UnixMilli(0)}, &bytes.Buffer{}, new(int)
	return &Retry{Loop: "loop", Min: time.Second, Max: 5 * time.Second, Clock: clock,
		Logger: slog.New(slog.NewTextHandler(said, nil)), Count: func() { *count++ }}, clock, said, count
}

// A round that fails is done again, later and later, and its reason is said once; one that succeeds fills its time.
func TestRoundsGoOn(t *testing.T) {
	r, clock, said, count := testRetry()
	ctx, stop := context.WithCancel(context.Background())
	script := []error{nil, errors.New("a"), errors.New("a"), errors.New("b"), errors.New("b"), errors.New("b"), nil, errors.New("a"), nil}
	done := 0
	err := r.Rounds(ctx, 100*time.Millisecond, func(context.Context) error {
		clock.now = clock.now.Add(30 * time.Millisecond)
		if done++; done == len(script) {
			stop()
		}
		return script[done-1]
	})
	const s, rest = time.Second, 70 * time.Millisecond
	if want := []time.Duration{rest, s, 2 * s, 4 * s, 5 * s, 5 * s, rest, s, rest}; err != nil || !slices.Equal(clock.naps, want) {
		t.Errorf("%v, paused for %v, want %v", err, clock.naps, want)
	}
	if n := strings.Count(said.String(), "loop: trying again"); *count != 6 || n != 3 {
		t.Errorf("%d failures counted of 6, said %d times instead of 3:\n%s", *count, n, said)
	}
}

// A generation that is over, a context that has ended and an error that is final end the rounds at once; only the last
// is an error of the loop.
func TestRoundsEnd(t *testing.T) {
	final := errors.New("final")
	for name, c := range map[string]struct{ failure, want error }{
		"fenced":  {fmt.Errorf("commit: %w", ErrFenced), nil},
		"final":   {fmt.Errorf("write: %w", final), final},
		"stopped": {context.Canceled, nil},
	} {
		r, clock, said, count := testRetry()
		ctx, stop := context.WithCancel(context.Background())
		rounds := 0
		err := r.Rounds(ctx, time.Second, func(context.Context) error {
			if rounds++; name == "stopped" {
				stop()
			}
			return c.failure
		}, final)
		stop()
		if !errors.Is(err, c.want) || c.want == nil && err != nil || rounds != 1 || len(clock.naps) != 0 || *count != 0 || said.Len() != 0 {
			t.Errorf("%s: %v after %d rounds, %d pauses, %d counted, said %q", name, err, rounds, len(clock.naps), *count, said)
		}
	}
}

// roll is a writer with room for two messages, whose sends go as scripted.
type roll struct {
	sends    []error
	held     []string
	inTheLog []string
}

func (w *roll) Reset() { w.held = nil }

func (w *roll) Append(_ string, _ int32, _, value []byte) error {
	if len(value) > 3 || len(w.held) == 2 {
		return ErrBatchFull
	}
	w.held = append(w.held, string(value))
	return nil
}

func (w *roll) Send(context.Context) error {
	err := w.sends[0]
	if w.sends = w.sends[1:]; err == nil {
		w.inTheLog = append(w.inTheLog, w.held...)
	}
	return err
}

func (w *roll) Result(int) Produced { return Produced{} }

// What does not fit is appended after what was gathered is in the log, which is tried until it is there; where no retry
// helps, nothing is appended after it.
func TestRetryAppends(t *testing.T) {
	r, clock, _, count := testRetry()
	w := &roll{sends: []error{ErrUnknownOutcome, ErrUnknownOutcome, nil, nil}}
	for _, value := range []string{"a", "b", "c"} {
		if err := r.Append(t.Context(), w, "topic", 0, nil, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Send(t.Context(), w); err != nil || !slices.Equal(w.inTheLog, []string{"a", "b", "c"}) {
		t.Errorf("%v, in the log: %v", err, w.inTheLog)
	}
	if want := []time.Duration{time.Second, 2 * time.Second}; *count != 2 || !slices.Equal(clock.naps, want) {
		t.Errorf("%d counted, paused for %v", *count, clock.naps)
	}

	w = &roll{sends: []error{ErrBrokerTooOld}, held: []string{"a", "b"}}
	if err := r.Append(t.Context(), w, "topic", 0, nil, []byte("c")); !errors.Is(err, ErrBrokerTooOld) || !slices.Equal(w.held, []string{"a", "b"}) {
		t.Errorf("%v, held: %v", err, w.held)
	}
	w = &roll{sends: []error{nil}}
	if err := r.Append(t.Context(), w, "topic", 0, nil, []byte("long")); !errors.Is(err, ErrBatchFull) {
		t.Errorf("a message that never fits: %v", err)
	}
}
