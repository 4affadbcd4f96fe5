package stream

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Retry is how a loop of any stage goes on, and what it does about what fails: it tries again until it can go on, pausing
// a little longer each time.
type Retry struct {
	// Loop names the loop in its log.
	Loop string
	// Min is the pause after the first failure, Max the longest one.
	Min, Max time.Duration
	Clock    Clock
	Logger   *slog.Logger
	// Count, if not nil, is called whenever something is to be tried again.
	Count func()
}

// Rounds does one round after the other until ctx ends, which is no error, or the loop's generation of its group is over
// (ErrFenced), which is none either: the next owner goes on. A round that begins lasts at least for linger, so that what
// comes meanwhile shares the next one's calls. One that fails is done again after a pause; why is said once for each
// reason. An error that is one of final ends the loop and is returned.
func (r *Retry) Rounds(ctx context.Context, linger time.Duration, round func(context.Context) error, final ...error) error {
	pause, said := r.Min, ""
	for ctx.Err() == nil {
		began := r.Clock.Now()
		err := round(ctx)
		switch {
		case err == nil:
			pause, said = r.Min, ""
			if rest := linger - r.Clock.Now().Sub(began); rest > 0 {
				r.Clock.Sleep(ctx, rest)
			}
			continue
		case ctx.Err() != nil, errors.Is(err, ErrFenced):
			return nil
		}
		for _, end := range final {
			if errors.Is(err, end) {
				return err
			}
		}
		r.count()
		if reason := err.Error(); reason != said {
			r.Logger.Warn(r.Loop+": trying again", "error", err, "pause", pause)
			said = reason
		}
		r.Clock.Sleep(ctx, pause)
		pause = min(2*pause, r.Max)
	}
	return nil
}

// Append hands a message to the writer. Where its batch is full, what was gathered is sent first.
func (r *Retry) Append(ctx context.Context, writer Writer, topic string, partition int32, key, value []byte) error {
	err := writer.Append(topic, partition, key, value)
	if !errors.Is(err, ErrBatchFull) {
		return err
	}
	if err := r.Send(ctx, writer); err != nil {
		return err
	}
	writer.Reset()
	return writer.Append(topic, partition, key, value)
}

// Send sends what the writer gathered and does not give up until it is in the log, ctx ends, or no retry can help.
func (r *Retry) Send(ctx context.Context, writer Writer) error {
	for pause := r.Min; ; pause = min(2*pause, r.Max) {
		err := writer.Send(ctx)
		if err == nil || ctx.Err() != nil || !Retriable(err) {
			return err
		}
		r.count()
		r.Clock.Sleep(ctx, pause)
	}
}

// Hindrance is what keeps one part of a loop's work, such as a shard or a source, from going on while the rest does.
type Hindrance struct {
	// Failures counts them, one after the other.
	Failures int

	until time.Time
	said  string
}

// Holds tells whether the part is left alone still.
func (h *Hindrance) Holds(now time.Time) bool { return now.Before(h.until) }

// Hinder has a part of the loop's work left alone for a while, after one more failure: longer each time. It tells whether the
// reason is another than that of the failure before, and so is to be said.
func (r *Retry) Hinder(h *Hindrance, err error) (news bool) {
	r.count()
	h.until = r.Clock.Now().Add(min(r.Min<<min(h.Failures, 10), r.Max))
	h.Failures++
	reason := err.Error()
	news, h.said = h.said != reason, reason
	return news
}

func (r *Retry) count() {
	if r.Count != nil {
		r.Count()
	}
}
