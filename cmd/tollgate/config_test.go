package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestShippedConfigIsTheDefault holds deploy/tollgate.yml to DefaultConfig: it must show every key, with its default.
func TestShippedConfigIsTheDefault(t *testing.T) {
	text, err := os.ReadFile("../../deploy/tollgate.yml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if want := DefaultConfig(); !reflect.DeepEqual(shipped, want) {
		t.Errorf("the shipped config is not the default:\n%+v\n%+v", shipped, want)
	}
	var shown map[string]any
	if err := yaml.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	defaults, err := yaml.Marshal(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(defaults, &all); err != nil {
		t.Fatal(err)
	}
	missing("", all, shown, func(key string) { t.Errorf("key %s is not shown", key) })
}

// missing tells which keys of all are not in shown.
func missing(path string, all, shown map[string]any, tell func(string)) {
	for key, value := range all {
		other, ok := shown[key]
		if !ok {
			tell(path + key)
			continue
		}
		if inner, isMap := value.(map[string]any); isMap {
			if otherInner, ok := other.(map[string]any); ok {
				missing(path+key+".", inner, otherInner, tell)
			}
		}
	}
}

// TestConfigRefusesWhatIsWrong demands the line, the path of the key and what is wanted, in one line without a word of Go.
func TestConfigRefusesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"# one\ninstalation: x":                      "line 2: instalation: there is no such key: use some of installation, stages,",
		"kafka: {broker: x}":                         "line 1: kafka.broker: there is no such key: use some of brokers,",
		"redis: {password: secret}":                  "line 1: redis.password: there is no such key",
		"clickhouse:\n  addresses: [a]\n  datab: x":  "line 3: clickhouse.datab: there is no such key",
		"kafka: {brokers: 7}":                        `line 1: kafka.brokers: a list, such as [a, b], is wanted here, not "7"`,
		"kafka:\n  brokers:\n  - a\n  - {b: c}":      "line 4: kafka.brokers[1]: a text is wanted here",
		"kafka: nine":                                `line 1: kafka: a mapping of keys is wanted here, not "nine"`,
		"- a":                                        "line 1: a mapping of keys is wanted here",
		"rate:\n  loops: many":                       `line 2: rate.loops: a whole number is wanted here, not "many"`,
		"rate: {loops: 1.5}":                         `line 1: rate.loops: a whole number is wanted here, not "1.5"`,
		"rate: {loops: [2]}":                         "line 1: rate.loops: a whole number is wanted here",
		"rate: {loops: 99999999999999999999}":        "line 1: rate.loops: a whole number is wanted here",
		"recharge: {simulated: {seed: -1}}":          "line 1: recharge.simulated.seed: a whole number, not below 0, is wanted here",
		"recharge: {simulated: {late_percent: lot}}": `line 1: recharge.simulated.late_percent: a number is wanted here, not "lot"`,
		"kafka: {tls: {enabled: perhaps}}":           `line 1: kafka.tls.enabled: true or false is wanted here, not "perhaps"`,
		"debit:\n  linger: soon":                     `line 2: debit.linger: a duration such as 5ms, 1s, 10m or 2h is wanted here, not "soon"`,
		"debit: {linger: 5}":                         `line 1: debit.linger: a duration such as 5ms, 1s, 10m or 2h is wanted here, not "5"`,
		"rate: {loops: 2, loops: 3}":                 `line 1: rate: {loops: 2, loops: 3}: mapping key "loops" already defined`,
		"installation: a\n---\ninstallation: b":      "line 3: a second document begins here: use one",
		"a: [":                                       "line 1: a: [:",
		"kafka: *x":                                  "line 1: kafka: *x:",
		"stages: [rate, debti]":                      `stages: unknown stage "debti": use some of rate,`,
		"stages: [rate, debit, rate]":                `stages: "rate" is there twice`,
		"stages: []":                                 "stages: must be more than nothing",
		"closing: {after_midnight: -1h}":             "closing.after_midnight: -1h0m0s is less than nothing",
		"rate: {loops: 0}":                           "rate.loops: must be more than nothing",
		"recharge: {gateway: stripes}":               `recharge.gateway: unknown gateway "stripes": use none or simulated`,
		"recharge: {gateway: simulated}":             "recharge.simulated.book_file: name the file",
		"log: {level: loud}":                         `log.level: unknown level "loud"`,
		"drain_within: 20s":                          "drain_within: 20s must be less than kafka.session",
		"kafka: {compression: rar}":                  "kafka.compression: ",
	} {
		_, err := ParseConfig([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: the error does not begin with %q: %v", text, want, err)
			continue
		}
		for _, word := range []string{"Go ", "struct", "Config", "unmarshal", "int64", "interface", "\n"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%q: the error speaks of %q: %v", text, word, err)
			}
		}
	}
}

func TestConfigTakesWhatIsRight(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "rate:\n", "rate: {loops: 0x10, linger: 0}", "installation: 4711",
		"kafka: &k {session: 12s}\n", "http: {listen: \"\"}", "recharge: {simulated: {late_percent: 3}}"} {
		if _, err := ParseConfig([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("installation: x\nkafka: {brokers: [a, b]}")
	f.Add("rate: {loops: 3, linger: 5ms}")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ParseConfig([]byte(text))
	})
}
