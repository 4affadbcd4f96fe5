package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/tollgate/tollgate/deploy/local"
)

// link is a proxy between one client and one server, in which connections are cut and bytes get lost.
type link struct {
	name  string
	proxy *toxiproxy.Proxy
	one   sync.Mutex // toxiproxy does not like to be changed from two sides
}

// newLink makes a link to nowhere yet, at an address that stays.
func newLink(name string) (*link, error) {
	address, err := local.FreeAddress()
	if err != nil {
		return nil, err
	}
	silent := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	return &link{name: name, proxy: toxiproxy.NewProxy(silent, name, address, "")}, nil
}

func (l *link) address() string { return l.proxy.Listen }

// lead leads the link to a server from now on. Connections to where it led before are closed.
func (l *link) lead(server string) error {
	l.one.Lock()
	defer l.one.Unlock()
	if err := listen(func() error {
		return l.proxy.Update(&toxiproxy.Proxy{Listen: l.proxy.Listen, Upstream: server, Enabled: true})
	}); err != nil {
		return fmt.Errorf("cannot lead %s to %s: %w", l.name, server, err)
	}
	return nil
}

// listen tries again while the port is still taken by the listener that was just closed: a process that is being started at
// that moment holds a copy of it, until it is the new program.
func listen(start func() error) (err error) {
	for began := time.Now(); ; time.Sleep(listenPause) {
		if err = start(); !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > listenWithin {
			return err
		}
	}
}

const (
	listenPause  = 10 * time.Millisecond
	listenWithin = 10 * time.Second
)

// cut closes all connections and refuses new ones, until it is mended.
func (l *link) cut() {
	l.one.Lock()
	defer l.one.Unlock()
	l.proxy.Stop()
}

func (l *link) mend() error {
	l.one.Lock()
	defer l.one.Unlock()
	if err := listen(l.proxy.Start); err != nil && err != toxiproxy.ErrProxyAlreadyStarted {
		return fmt.Errorf("cannot mend %s: %w", l.name, err)
	}
	return nil
}

// spoil spoils what flows in one direction, by a toxic of toxiproxy, for a while. Connections that met it end with it.
func (l *link) spoil(ctx context.Context, toxic, direction, attribute string, value int64, hold time.Duration) error {
	l.one.Lock()
	defer l.one.Unlock()
	text := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "attributes": {%q: %d}}`, toxic, toxic, direction, attribute, value)
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		return fmt.Errorf("cannot spoil %s by %s: %w", l.name, toxic, err)
	}
	pause(ctx, hold)
	if err := l.proxy.Toxics.RemoveToxic(context.WithoutCancel(ctx), toxic); err != nil {
		return fmt.Errorf("cannot clean %s of %s: %w", l.name, toxic, err)
	}
	return nil
}
