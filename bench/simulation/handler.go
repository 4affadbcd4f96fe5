package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// handler takes what a loop logs: into the trace, and as a violation if it says that the impossible has happened.
type handler struct {
	w *world
	t *task
}

// Enabled leaves out what nobody would see.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return h.w.Trace || level >= slog.LevelError
}

// Handle takes one line.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	if r.Level >= slog.LevelError {
		h.w.noteText("%s says: %s", h.t.name, b.String())
	} else {
		h.w.trace(fmt.Sprintf("%s says: %s", h.t.name, b.String()))
	}
	stale := h.t.stage != nil && h.t.stage.generation != h.t.ref.ID // its log may be cut by now: it owns nothing
	if isBug(b.String()) && !stale {
		h.w.violate("halt", "%s: %s", h.t.name, b.String())
	}
	return nil
}

// WithAttrs and WithGroup are not used by the loops.
func (h *handler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup gives the same handler.
func (h *handler) WithGroup(string) slog.Handler { return h }
