package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/internal/webhook"
	"authgear-forward-auth/resolver"
)

// families are the metrics of a service. :: name → its series
type families map[string]*dto.MetricFamily

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, s *proxytest.Service) families {
	t.Helper()
	status, body := operator(t, s, "/metrics")
	if status != 200 {
		t.Fatalf("/metrics: status %d", status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// values returns the series of a metric, by the values of their labels. Of a histogram
// they are the counts.
func (f families) values(name string) map[string]float64 {
	all := make(map[string]float64)
	for _, m := range f["authgear_forward_auth_"+name].GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		if v != 0 {
			all[strings.Join(labels, " ")] = v
		}
	}
	return all
}

func (f families) value(name string) float64 {
	sum := 0.0
	for _, v := range f.values(name) {
		sum += v
	}
	return sum
}

// promised are the metrics of the product.
var promised = []string{
	"decisions_total{proxy,reason,verdict}", "decision_duration_seconds", "sessions_total{result}",
	"resolver_requests_total{outcome}", "resolver_duration_seconds", "resolver_in_flight", "confirmation_age_seconds",
	"keys_fetch_total{outcome}", "keys_age_seconds", "webhook_events_total{outcome,type}", "cache_bytes", "cache_evictions_total",
	"build_info{go_version,version}", "max_staleness_seconds", "resolver_away",
	"fleet_operations_total{operation,outcome}", "fleet_connected", "fleet_events_age_seconds", "fleet_clock_ahead_seconds",
}

func TestTheMetricsAreThoseOfTheDocumentation(t *testing.T) {
	s, _ := start(t, "AUTHGEAR_WEBHOOK_SECRET=0123456789abcdef", "AUTHGEAR_REDIS_URL=redis://127.0.0.1:1", "AUTHGEAR_FLEET_SECRET="+strings.Repeat("0", 32))
	deliver(t, s, "0123456789abcdef", `{"type":"user.created"}`)
	all := scrape(t, s)
	var exported []string
	for name, family := range all {
		short, ours := strings.CutPrefix(name, "authgear_forward_auth_")
		if !ours {
			continue
		}
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		if len(labels) > 0 {
			short += "{" + strings.Join(labels, ",") + "}"
		}
		exported = append(exported, short)
		problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{family}).Lint()
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		if row := "| `" + short + "` | " + strings.ToLower(family.GetType().String()) + " |"; err != nil || !strings.Contains(read(t, "docs/metrics.md"), row) {
			t.Errorf("docs/metrics.md lacks %q (%v)", row, err)
		}
	}
	slices.Sort(exported)
	want := slices.Sorted(slices.Values(promised))
	if !slices.Equal(exported, want) {
		t.Errorf("exported are\n%q, want\n%q", exported, want)
	}
	if n := len(regexp.MustCompile("(?m)^\\| `[a-z_]+(\\{[a-z_,]+\\})?` \\| (counter|gauge|histogram) \\|").FindAllString(read(t, "docs/metrics.md"), -1)); n != len(promised) {
		t.Errorf("docs/metrics.md has %d metrics, want %d", n, len(promised))
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_inuse_bytes", "process_resident_memory_bytes", "process_start_time_seconds"} {
		if all[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// deliver sends an event as Authgear does, and returns the status.
func deliver(t *testing.T, s *proxytest.Service, secret, body string) int {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	resp, _ := send(t, s.Addr, "POST /hooks/authgear", []string{"x-authgear-body-signature: " + hex.EncodeToString(mac.Sum(nil))}, body)
	return resp.StatusCode
}

func TestTheMetricsCount(t *testing.T) {
	const secret = "0123456789abcdef"
	s, authgear := start(t, "AUTHGEAR_WEBHOOK_SECRET="+secret, "AUTHGEAR_CONFIRM=before", "AUTHGEAR_MAX_STALENESS=10m")
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	get := func(path string, status int, fields ...string) {
		t.Helper()
		if resp, _ := send(t, s.Addr, "GET "+path, fields, ""); resp.StatusCode != status {
			t.Errorf("%s %.40q: status %d, want %d", path, fields, resp.StatusCode, status)
		}
	}
	remembered := func(is float64) { // it is filed behind the answer
		t.Helper()
		proxytest.Eventually(t, "the session is remembered", func() bool { return scrape(t, s).value("cache_bytes") > is })
	}
	jwt, cookie := "Authorization: Bearer "+authgear.JWT(ada), "Cookie: session="+authgear.SessionCookie(ada)
	get("/nginx", 200, jwt) // miss
	remembered(0)
	get("/nginx", 200, jwt)
	get("/traefik", 200, jwt)
	get("/nginx?role=admin", 403, jwt)
	get("/caddy", 200, cookie) // miss
	remembered(1000)
	get("/caddy?max_staleness=0s", 200, cookie) // refresh
	get("/nginx", 401)
	get("/nginx?optional", 200)
	get("/nginx?roles=admin", 500, jwt)
	get("/nginx", 401, "Authorization: Bearer nobody's") // miss, and no question: there is no such token
	get("/nginx", 401, "Authorization: Bearer 0123456789")
	proxytest.Eventually(t, "it is remembered that a token is worthless", func() bool {
		get("/nginx", 401, "Authorization: Bearer 0123456789")
		return scrape(t, s).values("sessions_total")["result=negative"] > 0
	})
	authgear.Fail("resolver", unavailableResolver)
	get("/haproxy", 503, "Authorization: Bearer 9876543210")
	get("/envoy/x", 503, "Authorization: Bearer 9876543210")
	disabled := `{"id":"1","type":"user.disabled","payload":{"user":{"id":"bob","is_disabled":true}}}`
	for _, body := range []string{disabled, disabled, `{"type":"user.created","payload":{"user":{"id":"bob"}}}`, `{"type":"mallory"}`, `{`} {
		deliver(t, s, secret, body)
	}
	deliver(t, s, "another secret...", disabled)
	if status := deliver(t, s, secret, strings.Repeat(" ", webhook.MaxBody+1)); status != 413 || !strings.Contains(s.Log(), `"outcome":"too_large"`) {
		t.Errorf("an event that is too long: status %d, and it must be logged", status)
	}

	all := scrape(t, s)
	decisions := all.values("decisions_total")
	worthless := decisions["proxy=nginx reason=unknown_token verdict=challenge"]
	delete(decisions, "proxy=nginx reason=unknown_token verdict=challenge")
	want(t, "decisions_total", decisions, map[string]float64{
		"proxy=nginx reason=ok verdict=allow": 2, "proxy=traefik reason=ok verdict=allow": 1, "proxy=caddy reason=ok verdict=allow": 2,
		"proxy=nginx reason=missing_role verdict=forbid": 1, "proxy=nginx reason=no_credential verdict=challenge": 1,
		"proxy=nginx reason=visitor verdict=allow": 1, "proxy=nginx reason=bad_policy verdict=misconfigured": 1,
		"proxy=nginx reason=malformed_credential verdict=challenge":     1,
		"proxy=haproxy reason=resolver_unavailable verdict=unavailable": 1, "proxy=envoy reason=resolver_unavailable verdict=unavailable": 1,
	})
	sessions := all.values("sessions_total")
	if n := sessions["result=negative"] + sessions["result=miss"]; n != worthless+5 {
		t.Errorf("%v misses and negatives, want %v", n, worthless+5)
	}
	if sessions["result=hit"] != 3 || sessions["result=refresh"] != 1 {
		t.Errorf("sessions_total is %v, want 3 hits and 1 refresh", sessions)
	}
	questions := all.values("resolver_requests_total")
	if n := all.value("resolver_requests_total"); n != float64(authgear.ResolverCalls()) || n != all.value("resolver_duration_seconds") {
		t.Errorf("resolver_requests_total is %v, resolver_duration_seconds counts %v; Authgear was asked %d times", questions, all.value("resolver_duration_seconds"), authgear.ResolverCalls())
	}
	if questions["outcome=valid"] != 3 || questions["outcome=unavailable"] != 2 || questions["outcome=invalid"] < 1 {
		t.Errorf("resolver_requests_total is %v, want 3 valid, 2 unavailable, and invalid ones", questions)
	}
	want(t, "keys_fetch_total", all.values("keys_fetch_total"), map[string]float64{"outcome=ok": float64(authgear.KeyFetches())})
	want(t, "webhook_events_total", all.values("webhook_events_total"), map[string]float64{
		"outcome=forgotten type=user.disabled": 1, "outcome=duplicate type=user.disabled": 1, "outcome=ignored type=user.created": 1,
		"outcome=ignored type=other": 1, "outcome=malformed type=other": 1, "outcome=bad_signature type=other": 1,
		"outcome=too_large type=other": 1,
	})
	want(t, "resolver_in_flight", all.values("resolver_in_flight"), map[string]float64{})
	want(t, "cache_evictions_total", all.values("cache_evictions_total"), map[string]float64{})
	want(t, "max_staleness_seconds", all.values("max_staleness_seconds"), map[string]float64{"": 600})
	if n := all.value("decision_duration_seconds"); n != all.value("decisions_total") {
		t.Errorf("decision_duration_seconds counts %v, decisions_total %v", n, all.value("decisions_total"))
	}
	age := all["authgear_forward_auth_confirmation_age_seconds"].GetMetric()[0].GetHistogram()
	last := age.GetBucket()[len(age.GetBucket())-1]
	if age.GetSampleCount() != 5 || age.GetSampleSum() < 0 {
		t.Errorf("confirmation_age_seconds has the count %d and the sum %v, want 5 answers", age.GetSampleCount(), age.GetSampleSum())
	}
	for _, b := range age.GetBucket() {
		if b.GetUpperBound() == 600 && b.GetCumulativeCount() != 5 {
			t.Errorf("confirmation_age_seconds: %d answers within the bound, want all 5; %v", b.GetCumulativeCount(), last)
		}
	}
}

func want(t *testing.T, name string, got, want map[string]float64) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s is\n%v, want\n%v", name, got, want)
	}
}

// closed are the values that labels may have.
var closed = map[string][]string{
	"proxy":   {"nginx", "traefik", "caddy", "haproxy", "envoy"},
	"verdict": {"allow", "challenge", "forbid", "unavailable", "misconfigured"},
	"result":  {"hit", "miss", "refresh", "negative"},
	"outcome": {"valid", "invalid", "unavailable", "ok", "error", "forgotten", "ignored", "duplicate", "malformed", "bad_signature", "too_large"},
	"type": {
		"user.disabled", "user.deleted", "user.deletion_scheduled", "user.anonymization_scheduled", "user.anonymized", "user.reenabled", "user.deletion_unscheduled",
		"user.anonymization_unscheduled", "user.profile.updated", "user.anonymous.promoted", "user.reauthenticated", "user.created", "user.authenticated", "identity.*", "other",
	},
}

func TestNoLabelHoldsWhatAStrangerSends(t *testing.T) {
	const secret = "0123456789abcdef"
	s, authgear := start(t, "AUTHGEAR_WEBHOOK_SECRET="+secret, "AUTHGEAR_LOG_DECISIONS=none")
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	random := func() string { return fmt.Sprintf("mallory%x", rand.Uint64()) }
	for range 50 {
		for _, path := range []string{"/nginx", "/traefik", "/caddy", "/haproxy", "/envoy/", "/hooks/authgear", "/forget", "/"} {
			line := random() + " " + path + random()
			if path != "/" && path != "/envoy/" {
				line = random() + " " + path + "?" + random() + "=" + random()
			}
			send(t, s.Addr, line, []string{
				"Authorization: Bearer " + random(), "Cookie: session=" + random() + "; " + random() + "=" + random(), "User-Agent: " + random(),
				"X-Original-URL: https://" + random() + "/" + random(), "X-Original-Method: " + random(), "X-Forwarded-Uri: /" + random(), random() + ": " + random(),
			}, random())
		}
		send(t, s.Addr, "GET /nginx", []string{"Authorization: Bearer " + authgear.JWT(ada, func(h, c map[string]any) { h["kid"], c["client_id"], c["iss"] = random(), random(), random() })}, "")
		deliver(t, s, secret, `{"id":"`+random()+`","type":"user.`+random()+`","payload":{"user":{"id":"`+random()+`"}}}`)
		deliver(t, s, secret, `{"id":"`+random()+`","type":"identity.`+random()+`","payload":{"user":{"id":"`+random()+`"}}}`)
		deliver(t, s, random(), `{"type":"`+random()+`"}`)
	}
	for _, r := range resolver.Reasons {
		closed["reason"] = append(closed["reason"], string(r))
	}
	_, body := operator(t, s, "/metrics")
	if strings.Contains(body, "mallory") {
		t.Error("what a stranger sent stands in the metrics")
	}
	for name, family := range scrape(t, s) {
		if !strings.HasPrefix(name, "authgear_forward_auth_") || strings.HasSuffix(name, "build_info") {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(closed[l.GetName()], l.GetValue()) {
					t.Errorf("%s has the label %s=%q, which is of no closed set", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}

func unavailableResolver(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }
