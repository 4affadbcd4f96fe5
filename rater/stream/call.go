package stream

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// anyBroker routes a request to whichever broker the pool is connected to.
const anyBroker = -1

// exchange sends the legs to their brokers at once and waits for all of them.
// The result is one error per leg, nil where the broker answered. A leg that
// failed must be dropped, never reused: the connection's goroutine may still
// read it or write to it.
func (c *Client) exchange(ctx context.Context, legs []protocol.Message, timeout time.Duration) []error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	f := &fan{legs: legs, errs: make([]error, len(legs))}
	if _, err := c.transport.RoundTrip(ctx, c.addr, f); err != nil {
		for i := range f.errs {
			f.errs[i] = err
		}
	}
	return f.errs
}

// fan is several requests that travel as one through kafka-go's transport. Its
// Split and Merge run in the goroutine that called RoundTrip.
type fan struct {
	legs []protocol.Message
	errs []error
}

func (f *fan) ApiKey() protocol.ApiKey { return f.legs[0].ApiKey() }

func (f *fan) Split(protocol.Cluster) ([]protocol.Message, protocol.Merger, error) {
	return f.legs, f, nil
}

func (f *fan) Merge(_ []protocol.Message, results []any) (protocol.Message, error) {
	for i, result := range results {
		f.errs[i], _ = result.(error)
	}
	return f, nil
}

// call is one request in our own encoding: the bytes to send, ready before the
// transport sees them, and the bytes that came back, decoded after it is done.
// So the connection's goroutine touches nothing but the call's own buffers.
type call struct {
	broker      int32
	key         protocol.ApiKey
	version     int16
	correlation int32
	maxBytes    int
	out         []byte
	in          []byte // the answer without size and correlation id

	spoken int16 // the highest version that both kafka-go and the broker speak
}

// begin starts the request's encoding in the call's own buffer.
func (c *Client) begin(k *call, broker int32, key, version int16) {
	k.broker, k.key, k.version = broker, protocol.ApiKey(key), version
	k.correlation, k.maxBytes = c.correlates.Add(1), c.cfg.ResponseMaxBytes
	k.out = appendHeader(k.out[:0], key, version, k.correlation, c.cfg.ClientID)
}

func (k *call) ApiKey() protocol.ApiKey { return k.key }

func (k *call) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: k.broker}, nil
}

func (k *call) Required(versions map[protocol.ApiKey]int16) bool {
	k.spoken = versions[k.key]
	return true
}

func (k *call) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	// kafka-go stops at metadata v8; Client.checkVersions sees to that one.
	if k.key != keyMetadata && k.spoken < k.version {
		return nil, fmt.Errorf("%w: it speaks %s v%d, not v%d", ErrBrokerTooOld, k.key, k.spoken, k.version)
	}
	if _, err := rw.Write(k.out); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, unexpected(err)
	}
	n := int(int32(be.Uint32(head[:]))) - 4
	if n < 0 || n > k.maxBytes {
		return nil, fmt.Errorf("%w: %s answer of %d bytes, the limit is %d", errMalformed, k.key, n, k.maxBytes)
	}
	if got := int32(be.Uint32(head[4:])); got != k.correlation {
		return nil, fmt.Errorf("%w: %s answer to request %d, not %d", errMalformed, k.key, got, k.correlation)
	}
	if cap(k.in) < n {
		k.in = make([]byte, n+n/4)
	}
	k.in = k.in[:n]
	_, err := io.ReadFull(rw, k.in)
	return k, unexpected(err)
}

// unexpected names the end of a connection in the middle of an answer.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// typed is one request in kafka-go's encoding, sent to the broker that we choose
// instead of the one that its transport would.
type typed struct {
	broker   int32
	clientID string
	request  protocol.Message
	answer   protocol.Message

	version int16
}

func (t *typed) ApiKey() protocol.ApiKey { return t.request.ApiKey() }

func (t *typed) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: t.broker}, nil
}

func (t *typed) Required(versions map[protocol.ApiKey]int16) bool {
	t.version = versions[t.ApiKey()]
	return true
}

func (t *typed) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	answer, err := protocol.RoundTrip(rw, t.version, 1, t.clientID, t.request)
	t.answer = answer
	return t, err
}

// ask sends one typed request and gives its answer.
func (c *Client) ask(ctx context.Context, broker int32, request protocol.Message) (protocol.Message, error) {
	t := &typed{broker: broker, clientID: c.cfg.ClientID, request: request}
	if err := c.exchange(ctx, []protocol.Message{t}, c.cfg.RequestTimeout)[0]; err != nil {
		return nil, err
	}
	return t.answer, nil
}

var (
	_ protocol.Splitter      = (*fan)(nil)
	_ protocol.Merger        = (*fan)(nil)
	_ protocol.BrokerMessage = (*call)(nil)
	_ protocol.RawExchanger  = (*call)(nil)
	_ protocol.BrokerMessage = (*typed)(nil)
	_ protocol.RawExchanger  = (*typed)(nil)
)
