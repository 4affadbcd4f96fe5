package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tollgate/tollgate/rater/stream"
)

// Config is the config file, deploy/tollgate.yml: every key with its unit and default is explained there. Unknown keys
// and wrong types are refused with their line.
type Config struct {
	Installation string           `yaml:"installation"`
	Stages       []string         `yaml:"stages"`
	Kafka        KafkaConfig      `yaml:"kafka"`
	Redis        RedisConfig      `yaml:"redis"`
	ClickHouse   ClickHouseConfig `yaml:"clickhouse"`
	Rate         StageConfig      `yaml:"rate"`
	Debit        DebitConfig      `yaml:"debit"`
	Store        StoreConfig      `yaml:"store"`
	Audit        AuditConfig      `yaml:"audit"`
	Recharge     RechargeConfig   `yaml:"recharge"`
	Closing      ClosingConfig    `yaml:"closing"`
	HTTP         HTTPConfig       `yaml:"http"`
	Log          LogConfig        `yaml:"log"`
	DrainWithin  time.Duration    `yaml:"drain_within"`
}

// KafkaConfig says how to reach Kafka and what the logs are called.
type KafkaConfig struct {
	Brokers     []string `yaml:"brokers"`
	TopicPrefix string   `yaml:"topic_prefix"`
	Replication int      `yaml:"replication"`
	Compression string   `yaml:"compression"`
	// Session is how long a silent process keeps its partitions before others are given them.
	Session time.Duration `yaml:"session"`
	TLS     TLSConfig     `yaml:"tls"`
	SASL    SASLConfig    `yaml:"sasl"`
	// AppendTimeBit false admits logs that do not say in each batch that the broker stamped it. Only the embedded Kafka
	// of the demo needs that.
	AppendTimeBit bool `yaml:"append_time_bit"`
}

// TLSConfig encrypts connections.
type TLSConfig struct {
	Enabled  bool   `yaml:"enabled"`
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// SASLConfig authenticates to Kafka.
type SASLConfig struct {
	Mechanism string `yaml:"mechanism"`
	Username  string `yaml:"username"`
	Secret    `yaml:",inline"`
}

// Secret is a password that stands in the environment or in a file, never in the config itself.
type Secret struct {
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
}

// RedisConfig says how to reach Redis: one address, or several of a cluster.
type RedisConfig struct {
	Addresses []string  `yaml:"addresses"`
	Cluster   bool      `yaml:"cluster"`
	KeyPrefix string    `yaml:"key_prefix"`
	Username  string    `yaml:"username"`
	TLS       TLSConfig `yaml:"tls"`
	Secret    `yaml:",inline"`
}

// ClickHouseConfig says how to reach ClickHouse by its native protocol.
type ClickHouseConfig struct {
	Addresses []string  `yaml:"addresses"`
	Database  string    `yaml:"database"`
	Username  string    `yaml:"username"`
	TLS       TLSConfig `yaml:"tls"`
	Secret    `yaml:",inline"`
}

// StageConfig is what every stage has.
type StageConfig struct {
	Loops  int           `yaml:"loops"`
	Linger time.Duration `yaml:"linger"`
}

// DebitConfig is the debit stage's.
type DebitConfig struct {
	StageConfig    `yaml:",inline"`
	EntriesPerCall int `yaml:"entries_per_call"`
}

// StoreConfig is the store stage's.
type StoreConfig struct {
	Loops         int           `yaml:"loops"`
	RowsPerInsert int           `yaml:"rows_per_insert"`
	InsertEvery   time.Duration `yaml:"insert_every"`
}

// AuditConfig is the audit stage's.
type AuditConfig struct {
	Loops        int           `yaml:"loops"`
	ImageEntries int64         `yaml:"image_entries"`
	ImageEvery   time.Duration `yaml:"image_every"`
}

// RechargeConfig is the recharge worker's.
type RechargeConfig struct {
	Gateway    string        `yaml:"gateway"`
	Paused     bool          `yaml:"paused"`
	PollEvery  time.Duration `yaml:"poll_every"`
	Concurrent int           `yaml:"concurrent"`
	// AttemptPause is the least time between two attempts of one recharge.
	AttemptPause time.Duration   `yaml:"attempt_pause"`
	Simulated    SimulatedConfig `yaml:"simulated"`
}

// SimulatedConfig is the scripted gateway's.
type SimulatedConfig struct {
	BookFile       string  `yaml:"book_file"`
	DeclinePercent float64 `yaml:"decline_percent"`
	TimeoutPercent float64 `yaml:"timeout_percent"`
	LatePercent    float64 `yaml:"late_percent"`
	// LateBy is how long a late answer takes, Seed makes the chances.
	LateBy time.Duration `yaml:"late_by"`
	Seed   uint64        `yaml:"seed"`
}

// ClosingConfig says when statement days are closed.
type ClosingConfig struct {
	AfterMidnight time.Duration `yaml:"after_midnight"`
}

// HTTPConfig is the listener of /metrics, /healthz and /readyz.
type HTTPConfig struct {
	Listen string `yaml:"listen"`
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// stageNames are the stages that one process may run; by default it runs all of them.
var stageNames = []string{"rate", "debit", "store", "audit", "act", "recharge", "late"}

// DefaultConfig is deploy/tollgate.yml as it is shipped; a test holds the two together.
func DefaultConfig() Config {
	return Config{
		Installation: "tollgate",
		Stages:       append([]string(nil), stageNames...),
		Kafka:        KafkaConfig{Brokers: []string{"127.0.0.1:9092"}, Replication: 3, Compression: "none", Session: 10 * time.Second, AppendTimeBit: true},
		Redis:        RedisConfig{Addresses: []string{"127.0.0.1:6379"}, KeyPrefix: "tollgate:"},
		ClickHouse:   ClickHouseConfig{Addresses: []string{"127.0.0.1:9000"}, Database: "tollgate", Username: "default"},
		Rate:         StageConfig{Loops: 2, Linger: 5 * time.Millisecond},
		Debit:        DebitConfig{StageConfig: StageConfig{Loops: 4, Linger: 5 * time.Millisecond}, EntriesPerCall: 6000},
		Store:        StoreConfig{Loops: 1, RowsPerInsert: 1_000_000, InsertEvery: time.Second},
		Audit:        AuditConfig{Loops: 1, ImageEntries: 1_000_000, ImageEvery: 10 * time.Minute},
		Recharge:     RechargeConfig{Gateway: "none", PollEvery: 500 * time.Millisecond, Concurrent: 8, AttemptPause: 10 * time.Minute},
		Closing:      ClosingConfig{AfterMidnight: 2 * time.Hour},
		HTTP:         HTTPConfig{Listen: "127.0.0.1:9464"},
		Log:          LogConfig{Level: "info", Format: "text"},
		DrainWithin:  5 * time.Second,
	}
}

// configPlaces are where a config file is looked for when none is named.
var configPlaces = []string{"tollgate.yml", "/etc/tollgate/tollgate.yml"}

// LoadConfig reads the config file at path, or, if path is "", the one that TOLLGATE_CONFIG names or that stands at one
// of the usual places. Keys that the file leaves out have their defaults.
func LoadConfig(path string) (Config, error) {
	if path == "" {
		path = os.Getenv("TOLLGATE_CONFIG")
	}
	for _, place := range configPlaces {
		if _, err := os.Stat(place); path == "" && err == nil {
			path = place
		}
	}
	if path == "" {
		return Config{}, fmt.Errorf("no config file: name one with --config, or in TOLLGATE_CONFIG, or put it at %s", strings.Join(configPlaces, " or "))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the config: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("config %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads the text of a config file over the defaults and checks it.
func ParseConfig(text []byte) (Config, error) {
	c := DefaultConfig()
	if err := checkShape(text, reflect.TypeFor[Config]()); err != nil {
		return Config{}, err
	}
	err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict(), yaml.CustomUnmarshaler(parseDuration)).Decode(&c)
	switch {
	case errors.Is(err, io.EOF): // nothing but comments
		c = DefaultConfig()
	case err != nil:
		return Config{}, onOneLine(err, text)
	}
	return c, c.validate()
}

func parseDuration(d *time.Duration, text []byte) (err error) {
	*d, err = time.ParseDuration(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	return err
}

// validate says what is wrong with the configuration, naming the key.
func (c *Config) validate() error {
	for i, s := range c.Stages {
		switch {
		case !contains(stageNames, s):
			return fmt.Errorf("stages: unknown stage %q: use some of %s", s, strings.Join(stageNames, ", "))
		case contains(c.Stages[:i], s):
			return fmt.Errorf("stages: %q is there twice", s)
		}
	}
	if c.Closing.AfterMidnight < 0 {
		return fmt.Errorf("closing.after_midnight: %s is less than nothing: a day is closed when it is over", c.Closing.AfterMidnight)
	}
	positive := map[string]int64{
		"rate.loops": int64(c.Rate.Loops), "debit.loops": int64(c.Debit.Loops), "store.loops": int64(c.Store.Loops),
		"audit.loops": int64(c.Audit.Loops), "debit.entries_per_call": int64(c.Debit.EntriesPerCall),
		"store.rows_per_insert": int64(c.Store.RowsPerInsert), "store.insert_every": int64(c.Store.InsertEvery),
		"audit.image_entries": c.Audit.ImageEntries, "audit.image_every": int64(c.Audit.ImageEvery),
		"recharge.poll_every": int64(c.Recharge.PollEvery), "recharge.concurrent": int64(c.Recharge.Concurrent),
		"kafka.replication": int64(c.Kafka.Replication), "kafka.session": int64(c.Kafka.Session), "drain_within": int64(c.DrainWithin),
		"kafka.brokers": int64(len(c.Kafka.Brokers)), "redis.addresses": int64(len(c.Redis.Addresses)),
		"clickhouse.addresses": int64(len(c.ClickHouse.Addresses)), "installation": int64(len(c.Installation)),
		"stages": int64(len(c.Stages)),
	}
	for _, key := range sortedKeys(positive) {
		if positive[key] < 1 {
			return fmt.Errorf("%s: must be more than nothing", key)
		}
	}
	if c.DrainWithin >= c.Kafka.Session {
		return fmt.Errorf("drain_within: %s must be less than kafka.session, %s: nothing speaks for the process while it drains", c.DrainWithin, c.Kafka.Session)
	}
	if _, err := c.codec(); err != nil {
		return err
	}
	switch c.Recharge.Gateway {
	case "none":
	case "simulated":
		if c.Recharge.Simulated.BookFile == "" {
			return errors.New("recharge.simulated.book_file: name the file in which the simulated gateway keeps its charges")
		}
	default:
		return fmt.Errorf("recharge.gateway: unknown gateway %q: use none or simulated", c.Recharge.Gateway)
	}
	if _, err := c.Log.handler(); err != nil {
		return err
	}
	return nil
}

// drainLoops is what a loop has of drain_within: the rest is for its member to leave the group.
func (c *Config) drainLoops() time.Duration { return c.DrainWithin * 4 / 5 }

func (c *Config) codec() (stream.Codec, error) {
	codec, err := stream.ParseCodec(c.Kafka.Compression)
	if err != nil {
		return 0, fmt.Errorf("kafka.compression: %w", err)
	}
	return codec, nil
}

// handler makes the log's handler, which writes to standard error.
func (l LogConfig) handler() (slog.Handler, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("log.level: unknown level %q: use debug, info, warn or error", l.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "text":
		return slog.NewTextHandler(os.Stderr, options), nil
	case "json":
		return slog.NewJSONHandler(os.Stderr, options), nil
	}
	return nil, fmt.Errorf("log.format: unknown format %q: use text or json", l.Format)
}

// read gives the password, or "" if none is configured.
func (s Secret) read() (string, error) {
	switch {
	case s.PasswordEnv != "" && s.PasswordFile != "":
		return "", errors.New("password_env and password_file: name only one of them")
	case s.PasswordEnv != "":
		password, ok := os.LookupEnv(s.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("password_env: the environment has no %s", s.PasswordEnv)
		}
		return password, nil
	case s.PasswordFile != "":
		text, err := os.ReadFile(filepath.Clean(s.PasswordFile))
		if err != nil {
			return "", fmt.Errorf("password_file: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return "", nil
}

// config makes the TLS configuration, nil if TLS is off.
func (t TLSConfig) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file and tls.key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// mechanism makes the SASL mechanism, nil if there is none.
func (s SASLConfig) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	password, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	switch s.Mechanism {
	case "PLAIN":
		return plain.Mechanism{Username: s.Username, Password: password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, s.Username, password)
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, s.Username, password)
	}
	return nil, fmt.Errorf("kafka.sasl.mechanism: unknown mechanism %q: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
}
