package stream

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// cuttingDialer opens connections whose answers to a produce request can be cut.
type cuttingDialer struct{ cutAnswers atomic.Bool }

func newCuttingDialer() *cuttingDialer { return &cuttingDialer{} }

func (d *cuttingDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &cutConn{Conn: conn, cut: &d.cutAnswers}, err
}

// cutConn loses the answer to the produce request that it wrote last.
type cutConn struct {
	net.Conn
	cut      *atomic.Bool
	produced bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.produced = len(b) > 6 && be.Uint16(b[4:]) == keyProduce
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.produced && c.cut.Load() {
		_ = c.Conn.Close()
		return 0, errors.New("connection cut by the test")
	}
	return n, err
}
