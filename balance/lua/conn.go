package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Ping tells whether Redis answers.
func (s *Shards) Ping(ctx context.Context) error { return s.client.Ping(ctx).Err() }

// Close ends the connections.
func (s *Shards) Close() error { return s.client.Close() }

// Settings reads what `tollgate doctor` wants to know of the server: its version and the settings that decide whether
// money can be lost. A server that hides its settings gives an error.
func (s *Shards) Settings(ctx context.Context) (map[string]string, error) {
	settings := map[string]string{}
	info, err := s.client.Info(ctx, "server").Result()
	if err != nil {
		return nil, fmt.Errorf("cannot ask redis about itself: %w", err)
	}
	for _, line := range strings.Split(info, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "_version") {
			settings[name] = value
		}
	}
	var failures []error
	for _, name := range []string{"maxmemory-policy", "appendonly", "appendfsync"} {
		values, err := s.client.ConfigGet(ctx, name).Result()
		failures = append(failures, err)
		settings[name] = values[name]
	}
	return settings, errors.Join(failures...)
}
