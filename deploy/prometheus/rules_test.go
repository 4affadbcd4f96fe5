// Package prometheus holds the alert rules to the product, to their own tests and to their runbook.
//
// It parses the sources for the metrics that there are, and has promtool do the rest.
package prometheus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// rule is an alert of tollgate.rules.yml.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) (all []rule) {
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(read(t, "tollgate.rules.yml"), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func read(t *testing.T, name string) []byte {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRulesNameMetricsThatExist reads every metrics.go of the tree: a rule about a metric that nobody sets never fires.
func TestRulesNameMetricsThatExist(t *testing.T) {
	subsystem := regexp.MustCompile(`"tollgate", (?:Subsystem: )?"(\w+)"`)
	named := regexp.MustCompile(`(?:Name: |(?:counter|gauge|vector)\()"(\w+)"`)
	exist := map[string]bool{}
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "metrics.go" {
			return err
		}
		text := string(read(t, name))
		found := subsystem.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("%s: no subsystem was found", name)
			return nil
		}
		for _, metric := range named.FindAllStringSubmatch(text, -1) {
			exist["tollgate_"+found[1]+"_"+metric[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`tollgate_\w+`)
	for _, r := range rules(t) {
		for _, name := range metric.FindAllString(r.Expr+r.Annotations["description"], -1) {
			if !exist[name] {
				t.Errorf("%s: there is no metric %s", r.Alert, name)
			}
		}
	}
}

// TestRulesSayWhatToDo demands of each alert what a person needs at night, in its annotations and in the runbook.
func TestRulesSayWhatToDo(t *testing.T) {
	runbook, tests := string(read(t, "README.md")), string(read(t, "tollgate.rules.test.yml"))+string(read(t, "tollgate.retention.test.yml"))
	for _, r := range rules(t) {
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q: use critical or warning", r.Alert, s)
		}
		if len(r.Annotations["summary"]) < 20 || len(r.Annotations["description"]) < 80 {
			t.Errorf("%s: say what is wrong in the summary, and what it means and what to do in the description", r.Alert)
		}
		if want := "deploy/prometheus/README.md: " + r.Alert; r.Annotations["runbook"] != want {
			t.Errorf("%s: its runbook is %q, not %q", r.Alert, r.Annotations["runbook"], want)
		}
		if !strings.Contains(runbook, "| `"+r.Alert+"` |") {
			t.Errorf("%s: README.md has no row for it", r.Alert)
		}
		// Silent: an expectation of nothing. Firing: one of a sample.
		silent := fmt.Sprintf(`alertname="%s", alertstate="firing"}', eval_time:`, r.Alert)
		firing := fmt.Sprintf(`labels: 'ALERTS{alertname="%s", alertstate="firing"`, r.Alert)
		if !strings.Contains(tests, silent) || !strings.Contains(tests, firing) {
			t.Errorf("%s: tollgate.rules.test.yml or tollgate.retention.test.yml must show it silent and firing", r.Alert)
		}
	}
}

// TestPromtool has promtool check the rules and play their tests.
func TestPromtool(t *testing.T) {
	promtool, err := findPromtool(t)
	if err != nil {
		t.Skipf("promtool cannot be had, install prometheus: %v", err)
	}
	for _, args := range [][]string{{"check", "rules", "tollgate.rules.yml"}, {"test", "rules", "tollgate.rules.test.yml", "tollgate.retention.test.yml"}} {
		if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
}

// findPromtool looks on PATH, then takes it out of Debian's package, into the user's cache. The package is not installed:
// that would start a server.
func findPromtool(t *testing.T) (string, error) {
	if path, err := exec.LookPath("promtool"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "tollgate", "prometheus-debian")
	promtool := filepath.Join(folder, "usr", "bin", "promtool")
	if _, err := os.Stat(promtool); err == nil {
		return promtool, nil
	}
	if _, err := os.Stat("/etc/debian_version"); err != nil {
		return "", errors.New("it is not on PATH")
	}
	dir := t.TempDir()
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, output)
		}
		return nil
	}
	download := []string{"-q", "-o", "APT::Sandbox::User=root", "download", "prometheus"}
	if run("apt-get", download...) != nil { // the lists of packages may be missing, and only root may fetch them
		if err := errors.Join(run("apt-get", "-q", "update"), run("apt-get", download...)); err != nil {
			return "", err
		}
	}
	packages, err := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	if err != nil || len(packages) != 1 {
		return "", fmt.Errorf("apt-get download left %v", packages)
	}
	unpacked := filepath.Join(dir, "unpacked")
	if err := run("dpkg-deb", "-x", packages[0], unpacked); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(promtool), 0o755); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(unpacked, "usr", "bin", "promtool"))
	if err != nil {
		return "", err
	}
	// Written aside and moved, so that another test never starts half of it.
	aside := filepath.Join(filepath.Dir(promtool), fmt.Sprintf(".promtool-%d", os.Getpid()))
	return promtool, errors.Join(os.WriteFile(aside, text, 0o755), os.Rename(aside, promtool))
}

// TestAlertsAreCalledOnce keeps the names apart, by which runbook and tests find them.
func TestAlertsAreCalledOnce(t *testing.T) {
	var names []string
	for _, r := range rules(t) {
		if slices.Contains(names, r.Alert) {
			t.Errorf("there are two alerts %s", r.Alert)
		}
		names = append(names, r.Alert)
	}
}
