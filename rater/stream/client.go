// Package stream is all of Kafka for Tollgate: it fetches and produces messages in topic partitions, finds offsets, topic
// ids and leaders, makes topics, joins consumer groups, and commits positions with their metadata.
//
// Every stage stands on it: rate reads carrier topics and the book and writes entries, debit reads entries and writes
// postings, store, act and audit read them. Its calls are plain and synchronous. It never knows what a message means,
// never skips one that was committed, never moves an offset by itself, and never retries: whether and when to call again
// is the caller's decision.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

// Config says how to reach one Kafka cluster and names every limit of a Client.
// A zero field takes the default that its comment gives.
type Config struct {
	// Brokers are host:port addresses to start from; one that answers is enough.
	Brokers []string
	// ClientID names this process in the brokers' logs and quotas. Default "tollgate".
	ClientID string
	// TLS, if set, encrypts every connection; SASL, if set, authenticates it.
	TLS  *tls.Config
	SASL sasl.Mechanism
	// Dial, if set, opens the connections in place of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout bounds connecting, including TLS and SASL. Default 3 s.
	DialTimeout time.Duration
	// RequestTimeout bounds each request, beyond what a fetch waits for its
	// first byte. Brokers get half of it to answer a produce. Default 10 s.
	RequestTimeout time.Duration
	// MetadataTTL is how long a broker's address may be out of date. Leaders
	// are looked up again at the first error, whatever it is. Default 2 s.
	MetadataTTL time.Duration

	// FetchMaxBytes bounds what one broker answers to one fetch. Default 8 MiB.
	FetchMaxBytes int32
	// PartitionMaxBytes bounds the share of one partition in it. It should not
	// be less than the largest batch in the topics. Default 1 MiB.
	PartitionMaxBytes int32
	// ResponseMaxBytes bounds any answer that is read into memory. It must
	// leave room for the largest single batch, which a broker sends whole even
	// where FetchMaxBytes is less. Default 128 MiB.
	ResponseMaxBytes int
	// DecompressedMaxBytes bounds one decompressed batch. A Fetcher that has
	// decompressed as much in one fetch leaves the rest to the next. Default 128 MiB.
	DecompressedMaxBytes int

	// Codec compresses what is produced. Default CodecNone.
	Codec Codec
	// BatchMaxBytes bounds the messages that one Producer gathers for one
	// partition, before compression. It must not pass the topic's
	// max.message.bytes. Default 1,000,000.
	BatchMaxBytes int
}

func (c Config) withDefaults() Config {
	defaultTo(&c.ClientID, "tollgate")
	defaultTo(&c.DialTimeout, 3*time.Second)
	defaultTo(&c.RequestTimeout, 10*time.Second)
	defaultTo(&c.MetadataTTL, 2*time.Second)
	defaultTo(&c.FetchMaxBytes, 8<<20)
	defaultTo(&c.PartitionMaxBytes, 1<<20)
	defaultTo(&c.ResponseMaxBytes, 128<<20)
	defaultTo(&c.DecompressedMaxBytes, 128<<20)
	defaultTo(&c.BatchMaxBytes, 1_000_000)
	return c
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	switch {
	case len(c.Brokers) == 0:
		return errors.New("cannot reach Kafka: no broker address is configured; give at least one host:port")
	case min(c.DialTimeout, c.RequestTimeout, c.MetadataTTL) < time.Millisecond:
		return errors.New("cannot reach Kafka: dial timeout, request timeout and metadata TTL must be at least 1 ms")
	case min(c.FetchMaxBytes, c.PartitionMaxBytes) < 0:
		return errors.New("cannot fetch from Kafka: byte limits must not be negative")
	case min(c.ResponseMaxBytes, c.DecompressedMaxBytes, c.BatchMaxBytes) < 0:
		return errors.New("cannot use Kafka: byte limits must not be negative")
	case c.ResponseMaxBytes < int(c.FetchMaxBytes):
		return fmt.Errorf("cannot fetch from Kafka: ResponseMaxBytes %d is less than FetchMaxBytes %d", c.ResponseMaxBytes, c.FetchMaxBytes)
	}
	return c.Codec.validate()
}

// Client is the connection to one Kafka cluster: a pool of connections and what
// is known of its leaders. It is safe for concurrent use by several loops; each
// loop owns a Fetcher and a Producer of its own.
type Client struct {
	cfg       Config
	addr      net.Addr
	transport *kafka.Transport
	kafka     *kafka.Client

	refresh    sync.Mutex // one look-up of leaders at a time
	layout     atomic.Pointer[layout]
	recent     atomic.Bool // the brokers know topic ids
	correlates atomic.Int32
}

// New makes a client. It connects only when it is first used.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	transport := &kafka.Transport{
		Dial:        cfg.Dial,
		DialTimeout: cfg.DialTimeout,
		MetadataTTL: cfg.MetadataTTL,
		// Only the brokers' addresses are wanted from the transport's own
		// polling: an empty list asks for no topic, where nil asks for all.
		MetadataTopics: []string{},
		ClientID:       cfg.ClientID,
		TLS:            cfg.TLS,
		SASL:           cfg.SASL,
	}
	addr := kafka.TCP(cfg.Brokers...)
	return &Client{
		cfg: cfg, addr: addr, transport: transport,
		kafka: &kafka.Client{Addr: addr, Transport: transport, Timeout: cfg.RequestTimeout},
	}, nil
}

// Close closes the idle connections; those in use close when their request has
// ended. Calls made after Close connect again.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func (c *Client) dialer() *kafka.Dialer {
	return &kafka.Dialer{
		ClientID: c.cfg.ClientID, DialFunc: c.cfg.Dial, Timeout: c.cfg.DialTimeout,
		DualStack: true, TLS: c.cfg.TLS, SASLMechanism: c.cfg.SASL,
	}
}
