package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// headerTimeout bounds how long a client may take to say what it wants; stopTimeout how long the listener may take to end.
const (
	headerTimeout = 5 * time.Second
	stopTimeout   = 2 * time.Second
)

// serveHTTP answers /metrics, /healthz (the process lives), /readyz (it has read the book and reaches its servers) and
// /debug/pprof until ctx ends. An empty address is no listener. It shows numbers of the whole installation: keep it on
// loopback or a network of the operator's.
func (a *App) serveHTTP(ctx context.Context) error {
	if a.cfg.HTTP.Listen == "" {
		<-ctx.Done()
		return nil
	}
	listener, err := net.Listen("tcp", a.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	stopped := context.AfterFunc(ctx, func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = server.Shutdown(stopCtx)
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

// ready says why the process cannot do its work, if it cannot.
func (a *App) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if !a.follower.Book().Opened() {
		return errors.New("the book is not open: run `tollgate migrate`, or wait until it was read")
	}
	if _, err := a.kafka.TopicID(ctx, a.topics.entries); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := a.shards.Ping(ctx); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if err := a.clickhouse.Conn().Ping(ctx); err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	return nil
}
