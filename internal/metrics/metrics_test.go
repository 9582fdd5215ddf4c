package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

func TestEachVerdictIsCountedUnderItsReason(t *testing.T) {
	m := New("", time.Minute)
	d := m.Proxy("plain")
	for i, reason := range resolver.Reasons {
		for range i + 1 {
			d.Add(uint64(i), policy.Verdict{Outcome: policy.Forbid, Reason: reason}, resolver.Hit, time.Millisecond)
		}
	}
	if n := len(resolver.Reasons); n > reasons {
		t.Fatalf("there are %d reasons, and room for %d", n, reasons)
	}
	got := make(map[string]float64)
	for _, s := range gather(t, m)["authgear_forward_auth_decisions_total"].GetMetric() {
		var verdict, reason string
		for _, l := range s.GetLabel() {
			switch l.GetName() {
			case "verdict":
				verdict = l.GetValue()
			case "reason":
				reason = l.GetValue()
			}
		}
		if verdict == "forbid" {
			got[reason] = s.GetCounter().GetValue()
		}
	}
	for i, reason := range resolver.Reasons {
		if got[string(reason)] != float64(i+1) {
			t.Errorf("%s is counted %v times, want %d", reason, got[string(reason)], i+1)
		}
	}
}

// Whoever looks for an increase needs the 0 before it.
func TestTheFirstSlipOfAPolicyIsAnIncrease(t *testing.T) {
	m := New("", time.Minute)
	m.Proxy("plain")
	got := fmt.Sprint(gather(t, m)["authgear_forward_auth_decisions_total"].GetMetric())
	for _, label := range []string{`value:"allow"`, `value:"ok"`, `value:"misconfigured"`, `value:"bad_policy"`} {
		if strings.Count(got, label) != 1 {
			t.Errorf("%s is not there once in %s", label, got)
		}
	}
}

func TestAgesFallIntoTheBucketsOfTheBound(t *testing.T) {
	m := New("", 10*time.Second)
	d := m.Proxy("plain")
	for connection, age := range []time.Duration{-time.Millisecond, 0, time.Second, time.Second + 1, 9 * time.Second, 10 * time.Second, 10*time.Second + 1} {
		d.Served(uint64(connection), age)
	}
	h := gather(t, m)["authgear_forward_auth_confirmation_age_seconds"].GetMetric()[0].GetHistogram()
	for bucket, want := range map[int]uint64{0: 3, 1: 4, 8: 5, 9: 6} {
		if b := h.GetBucket()[bucket]; b.GetCumulativeCount() != want {
			t.Errorf("%d ages are at most %v, want %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
		}
	}
	if h.GetSampleCount() != 7 {
		t.Errorf("%d ages, want 7: the one above the bound, too", h.GetSampleCount())
	}
	d.Served(0, -time.Hour)
	if after := gather(t, m)["authgear_forward_auth_confirmation_age_seconds"].GetMetric()[0].GetHistogram().GetSampleSum(); after < h.GetSampleSum() {
		t.Errorf("the sum went from %v to %v", h.GetSampleSum(), after)
	}
}

func TestWhereNobodyConfirmsNoAgeIsTold(t *testing.T) {
	m := New("", 0)
	m.Proxy("plain").Served(0, time.Second)
	for name := range gather(t, m) {
		if strings.HasSuffix(name, "confirmation_age_seconds") {
			t.Errorf("%s is exported", name)
		}
	}
}

func gather(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	list, err := prometheus.Gatherer(m.registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*dto.MetricFamily)
	for _, f := range list {
		all[f.GetName()] = f
	}
	return all
}
