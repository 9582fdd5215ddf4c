// Package prometheus has alerts and dashboard judged by Prometheus's own code. promtool
// itself would take some ten minutes to compile, for the discovery of services in every
// cloud.
package prometheus

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"gopkg.in/yaml.v3"
)

const deploy = "../../deploy/"

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(deploy+"prometheus/alerts.yml", false)
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestEachAlertTellsTheCure(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s has no summary, description or severity", r.Alert)
		}
		if r.Annotations["runbook"] != "docs/metrics.md#"+strings.ToLower(r.Alert) || !strings.Contains(string(page), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no runbook: %q", r.Alert, r.Annotations["runbook"])
		}
	}
}

// A suite is a file of promtool's tests of rules, as far as it is used here.
type suite struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []struct {
		Name     string
		Interval model.Duration
		Series   []struct{ Series, Values string } `yaml:"input_series"`
		Cases    []struct {
			At       model.Duration `yaml:"eval_time"`
			Alert    string         `yaml:"alertname"`
			Expected []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	file, err := os.Open(deploy + "prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var s suite
	d := yaml.NewDecoder(file)
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	fired := make(map[string]bool)
	for _, test := range s.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var from memory
			for _, in := range test.Series {
				from = append(from, series(t, in.Series+" "+in.Values, time.Duration(test.Interval)))
			}
			for _, c := range test.Cases {
				var want []string
				for _, e := range c.Expected {
					fired[c.Alert] = true
					want = append(want, labels.FromMap(e.Labels).String())
				}
				slices.Sort(want)
				r := rule(t, c.Alert)
				if got := firing(t, from, r, time.Duration(s.EvaluationInterval), time.Duration(c.At)); !slices.Equal(got, want) {
					t.Errorf("%s at %v: %q fire, want %q", c.Alert, c.At, got, want)
				}
			}
		})
	}
	for _, r := range rules(t) {
		if !fired[r.Alert] {
			t.Errorf("no test has %s fire", r.Alert)
		}
	}
}

func rule(t *testing.T, name string) rulefmt.Rule {
	t.Helper()
	all := rules(t)
	i := slices.IndexFunc(all, func(r rulefmt.Rule) bool { return r.Alert == name })
	if i < 0 {
		t.Fatalf("there is no alert %s", name)
	}
	return all[i]
}

// firing returns the labels of the alerts of a rule that fire at a time: what its expression
// has returned at each evaluation for as long as the rule says.
func firing(t *testing.T, from memory, r rulefmt.Rule, every, at time.Duration) (list []string) {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	defer engine.Close()
	since := make(map[string]time.Duration)
	for now := time.Duration(0); now <= at; now += every {
		query, err := engine.NewInstantQuery(context.Background(), from.queryable(), nil, r.Expr, time.Unix(0, 0).Add(now))
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(context.Background())
		vector, err := result.Vector()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		active := make(map[string]bool)
		for _, sample := range vector {
			name := alertLabels(sample, r)
			active[name] = true
			if _, known := since[name]; !known {
				since[name] = now
			}
		}
		for name := range since {
			if !active[name] {
				delete(since, name)
			}
		}
		query.Close()
	}
	for name, begin := range since {
		if at-begin >= time.Duration(r.For) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func alertLabels(sample promql.Sample, r rulefmt.Rule) string {
	b := labels.NewBuilder(sample.Metric)
	b.Del(labels.MetricName)
	for name, value := range r.Labels {
		b.Set(name, value)
	}
	return b.Labels().String()
}
