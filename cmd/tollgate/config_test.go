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

func TestConfigRefusesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"instalation: x":                            "instalation",
		"stages: [rate, debti]":                     "debti",
		"kafka: {brokers: 7}":                       "brokers",
		"rate: {loops: 0}":                          "rate.loops",
		"rate: {linger: soon}":                      "linger",
		"recharge: {gateway: stripes}":              "stripes",
		"recharge: {gateway: simulated}":            "book_file",
		"log: {level: loud}":                        "loud",
		"redis: {password: secret}":                 "password",
		"drain_within: 20s":                         "drain_within",
		"kafka: {compression: rar}":                 "rar",
		"clickhouse:\n  addresses: [a]\n  datab: x": "datab",
	} {
		_, err := ParseConfig([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not name %q", text, err, want)
		}
	}
	if _, err := ParseConfig(nil); err != nil {
		t.Errorf("an empty config is the default one, and yet: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("installation: x\nkafka: {brokers: [a, b]}")
	f.Add("rate: {loops: 3, linger: 5ms}")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ParseConfig([]byte(text))
	})
}
