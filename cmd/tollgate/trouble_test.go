package main

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

// passwordEnv is the variable that the configs of these tests take passwords from.
const passwordEnv = "TOLLGATE_TEST_PASSWORD"

// doctor runs tollgate doctor, and gives what it found by check.
func (o operator) doctor(status int) map[string]finding {
	o.Helper()
	r := command(o.T, "", "doctor", "--config", o.config)
	if r.status != status || r.took > 15*time.Second {
		o.Errorf("doctor: status %d after %s, want %d soon", r.status, r.took, status)
	}
	return findings(o.T, r.out)
}

// TestWrongPasswords shows each server a wrong password, none, and the right one.
func TestWrongPasswords(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, parts: []local.Part{local.Redis, local.ApacheKafka, local.ClickHouse}})
	t.Setenv(passwordEnv, "wrong")
	t.Run("redis", func(t *testing.T) { wrongRedisPassword(t, in) })
	t.Run("clickhouse", func(t *testing.T) { wrongClickHousePassword(t, in) })
	t.Run("kafka", func(t *testing.T) { wrongKafkaPassword(t, in) })
}

func wrongRedisPassword(t *testing.T, in *installation) {
	client := redis.NewClient(&redis.Options{Addr: in.stack.RedisAddr, DisableIdentity: true})
	defer client.Close()
	in.must(client.ConfigSet(t.Context(), "requirepass", "right").Err())
	none := operator{t, in.configFile("redis-none", nil)}
	none.fails(exitFailed, "redis.password", "account", "list")
	o := operator{t, in.configFile("redis", func(c *Config) { c.Redis.PasswordEnv = passwordEnv })}
	for _, args := range [][]string{{"account", "list"}, {"account", "show", "1"}, {"shard", "inspect"}, {"verify"}} {
		o.fails(exitFailed, "redis.password", args...)
	}
	if f := o.doctor(exitFailed)["redis"]; f.State != bad || !strings.Contains(f.Found, "WRONGPASS") || !strings.Contains(f.Advice, "redis.password") {
		t.Errorf("doctor says of redis: %+v", f)
	}
	t.Setenv(passwordEnv, "right")
	o.does("account", "list")
	in.must(client.ConfigSet(t.Context(), "requirepass", "").Err())
}

// wrongClickHousePassword names a user that is not there: the engine has one user without a password, and makes no others.
// The server's answer is that of a wrong password. The engine, unlike the server, does not outlive such a visitor for long.
func wrongClickHousePassword(t *testing.T, in *installation) {
	o := operator{t, in.configFile("clickhouse", func(c *Config) {
		c.ClickHouse.Username, c.ClickHouse.PasswordEnv = "analyst", passwordEnv
	})}
	for _, args := range [][]string{{"statement", "1"}, {"migrate"}} {
		o.fails(exitFailed, "clickhouse.password", args...)
		in.must(in.stack.ClickHouse.Restart(t.Context()))
	}
	if f := o.doctor(exitFailed)["clickhouse"]; f.State != bad || !strings.Contains(f.Advice, "clickhouse.password") {
		t.Errorf("doctor says of clickhouse: %+v", f)
	}
	in.must(in.stack.ClickHouse.Restart(t.Context()))
	wrongDatabase := operator{t, in.configFile("database", func(c *Config) { c.ClickHouse.Database = "elsewhere" })}
	wrongDatabase.fails(exitFailed, "clickhouse.database", "statement", "1")
	in.must(in.stack.ClickHouse.Restart(t.Context()))
}

// wrongKafkaPassword gives the broker a second listener, which wants a password.
func wrongKafkaPassword(t *testing.T, in *installation) {
	address := unusedAddress(t)
	demandPassword(in, address)
	in.must(in.stack.Kafka.Restart(t.Context()))
	addUser(in, "rater", "right")
	o := operator{t, in.configFile("kafka", func(c *Config) {
		c.Kafka.Brokers, c.Kafka.SASL = []string{address}, SASLConfig{Mechanism: "SCRAM-SHA-512", Username: "rater", Secret: Secret{PasswordEnv: passwordEnv}}
	})}
	for _, args := range [][]string{{"account", "list"}, {"serve"}, {"migrate"}, {"topup", "1", "5"}} {
		o.fails(exitFailed, "kafka.sasl.password", args...)
	}
	if f := o.doctor(exitFailed)["kafka"]; f.State != bad || !strings.Contains(f.Advice, "kafka.sasl.password") {
		t.Errorf("doctor says of kafka: %+v", f)
	}
	none := operator{t, in.configFile("kafka-none", func(c *Config) { c.Kafka.Brokers = []string{address} })}
	none.fails(exitFailed, "tls and sasl", "account", "list")
	t.Setenv(passwordEnv, "right")
	o.does("number", "list")
}

// demandPassword writes a listener that wants SCRAM into the config of the broker.
func demandPassword(in *installation, address string) {
	in.Helper()
	path := filepath.Join(in.stack.Kafka.Dir, "server.properties")
	text, err := os.ReadFile(path)
	in.must(err)
	var lines []string
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, "=")
		switch line = strings.TrimSpace(line); key {
		case "listeners", "advertised.listeners":
			line += ",SASL_PLAINTEXT://" + address
		case "listener.security.protocol.map":
			line += ",SASL_PLAINTEXT:SASL_PLAINTEXT"
		}
		lines = append(lines, line)
	}
	lines = append(lines, "sasl.enabled.mechanisms=SCRAM-SHA-512",
		"listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;")
	in.must(os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
}

// addUser makes a user of the broker, through the listener that wants no password.
func addUser(in *installation, name, password string) {
	in.Helper()
	salt := []byte("sixteen bytes ..")
	salted, err := pbkdf2.Key(sha512.New, password, salt, 4096, sha512.Size)
	in.must(err)
	client := kafka.Client{Addr: kafka.TCP(in.stack.KafkaAddr)}
	answer, err := client.AlterUserScramCredentials(in.Context(), &kafka.AlterUserScramCredentialsRequest{
		Upsertions: []kafka.UserScramCredentialsUpsertion{{Name: name, Mechanism: kafka.ScramMechanismSha512, Iterations: 4096, Salt: salt, SaltedPassword: salted}},
	})
	in.must(err)
	for _, result := range answer.Results {
		in.must(result.Error)
	}
}

// TestDoctorNamesWhatIsBroken breaks one thing of each kind in an installation that runs, and demands that each is named with
// what to do.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	in := newInstallation(t, options{book: plainBook, parts: []local.Part{local.Redis, local.EmbeddedKafka, local.ClickHouse}})
	_, err := in.app.kafka.EnsureTopic(t.Context(), stream.TopicSpec{Name: "carrier.own", Partitions: 1, Replication: 1,
		Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"}})
	in.must(err)
	client := redis.NewClient(&redis.Options{Addr: in.stack.RedisAddr})
	defer client.Close()
	in.must(client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	found := operator{t, in.configFile("broken", func(c *Config) { c.Installation = "elsewhere" })}.doctor(exitFailed)
	for check, advice := range map[string]string{
		"source carrier.own": "set cleanup.policy=delete on the topic", "redis": "set maxmemory-policy noeviction",
		"book": "the config says installation elsewhere",
	} {
		if f := found[check]; f.State != bad || !strings.Contains(f.Advice, advice) {
			t.Errorf("doctor says of %s: %+v", check, f)
		}
	}
	elsewhere := operator{t, in.configFile("prefix", func(c *Config) { c.Kafka.TopicPrefix = "other." })}.doctor(exitFailed)
	if f := elsewhere["logs"]; f.State != bad || !strings.Contains(f.Advice, "tollgate migrate") {
		t.Errorf("doctor says of logs that are not there: %+v", f)
	}
}

func findings(t *testing.T, out string) map[string]finding {
	t.Helper()
	found := map[string]finding{}
	for line := range strings.Lines(out) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("not a line of JSON: %q", line)
		}
		found[f.Check] = f
	}
	return found
}
