package stream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TestTLSAndSASL takes every kind of connection through TLS and a password: the
// pool's and the group's are opened by different parts of kafka-go.
func TestTLSAndSASL(t *testing.T) {
	ctx := testContext(t)
	server, roots := certificate(t)
	cluster, _ := newCluster(t, 2, kfake.SeedTopics(1, "entries"), kfake.TLS(server), kfake.EnableSASL(), kfake.Superuser("PLAIN", "rater", "secret"))
	secure := func(password string) func(*Config) {
		return func(cfg *Config) {
			cfg.TLS = &tls.Config{RootCAs: roots}
			cfg.SASL = plain.Mechanism{Username: "rater", Password: password}
		}
	}
	c := newClient(t, cluster.ListenAddrs(), secure("secret"))
	p := c.NewProducer()
	if err := p.Append("entries", 0, nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	send(t, ctx, p)
	run, stop := context.WithCancel(ctx)
	err := c.RunGroup(run, quick("secure", "entries"), func(ctx context.Context, g Generation) error {
		defer stop()
		return c.Commit(ctx, g.Group, g.GenerationRef, map[string][]CommitOffset{"entries": {{0, 1, "m"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, cluster.ListenAddrs(), secure("wrong")).TopicID(ctx, "entries"); err == nil {
		t.Fatal("a wrong password was accepted")
	}
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}
