package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// Codes of ClickHouse's errors.
const (
	clickHouseUnknownTable    = 60
	clickHouseUnknownDatabase = 81
	clickHouseDenied          = 497
	clickHouseWrongPassword   = 516
)

// advise adds to an error of a server what the operator can do about it, and puts it all on one line.
func advise(err error) error {
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if advice := adviceOn(err); advice != "" {
		text = strings.TrimSuffix(text, ".") + "; " + advice
	}
	return advised{err, text}
}

// advised is an error with what to do about it.
type advised struct {
	error
	text string
}

// Error gives both in one line.
func (a advised) Error() string { return a.text }

// Unwrap gives the error alone.
func (a advised) Unwrap() error { return a.error }

// adviceOn says what to do about an error of a server, "" where the error is of none.
func adviceOn(err error) string {
	var network *net.OpError
	if advice := refusal(err); advice != "" {
		return advice
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "the server hung up: it may want TLS or a password, see tls and sasl in the config"
	}
	if errors.As(err, &network) {
		return "is the server running there? `tollgate doctor` looks at all of them"
	}
	return ""
}

// refusal says what to do about a server that is there and turned us away, "" if it was something else.
func refusal(err error) string {
	var fromRedis redis.Error
	if errors.As(err, &fromRedis) {
		switch code, _, _ := strings.Cut(fromRedis.Error(), " "); code {
		case "NOAUTH", "WRONGPASS", "NOPERM":
			return signIn("redis")
		}
	}
	var fromClickHouse *clickhouse.Exception
	if errors.As(err, &fromClickHouse) {
		switch fromClickHouse.Code {
		case clickHouseWrongPassword, clickHouseDenied:
			return signIn("clickhouse")
		case clickHouseUnknownDatabase, clickHouseUnknownTable:
			return "check clickhouse.database in the config, or run `tollgate migrate`"
		}
	}
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return signIn("kafka.sasl")
	case errors.Is(err, kafka.Unknown), errors.Is(err, kafka.KafkaStorageError):
		return "the broker's own log says why: look whether its disk is full"
	}
	return ""
}

// signIn names the keys of the config that a server is signed in to with.
func signIn(server string) string {
	return fmt.Sprintf("check %[1]s.username and %[1]s.password_env or %[1]s.password_file in the config", server)
}
