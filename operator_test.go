package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// A small fleet: replicas with one Authgear and one Redis.
type smallFleet struct {
	authgear *authgeartest.Server
	redis    *proxytest.Process
	replicas []*proxytest.Service
}

func newFleet(t *testing.T, replicas int) *smallFleet {
	t.Helper()
	f := &smallFleet{authgear: authgeartest.Start(t, authgeartest.Options{})}
	addr, redis := proxytest.Redis(t)
	f.redis = redis
	for range replicas {
		s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+f.authgear.Origin(), "AUTHGEAR_REDIS_URL=redis://"+addr,
			"AUTHGEAR_FLEET_SECRET="+strings.Repeat("s", 32), "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_MAX_STALENESS=1h")
		s.Start()
		f.replicas = append(f.replicas, s)
		proxytest.Eventually(t, "the replica takes part", func() bool { return gauge(t, s, "fleet_connected") == "1" })
	}
	return f
}

// gauge returns a metric without labels; nothing if it is not there.
func gauge(t *testing.T, s *proxytest.Service, name string) string {
	t.Helper()
	_, text := operator(t, s, "/metrics")
	m := regexp.MustCompile(`(?m)^authgear_forward_auth_` + name + ` (.*)$`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

func explained(t *testing.T, s *proxytest.Service, token string) string {
	t.Helper()
	_, body := proxytest.Raw(t, s.Admin, fmt.Sprintf("POST /explain HTTP/1.1\r\nHost: admin\r\nContent-Length: %d\r\n\r\n%s", len(token), token))
	return body
}

func TestTheOperatorIsToldOfTheFleet(t *testing.T) {
	f := newFleet(t, 2)
	one, two := f.replicas[0], f.replicas[1]
	token := f.authgear.OpaqueToken(f.authgear.AddUser(authgeartest.User{ID: "ada"}))
	if text := explained(t, two, token); !strings.Contains(text, "note  fleet            nothing is shared of it\n") {
		t.Errorf("before anybody came:\n%s", text)
	}
	other := f.authgear.OpaqueToken(f.authgear.AddUser(authgeartest.User{ID: "bob"}))
	if resp := ask(t, one, "Authorization: Bearer "+other); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	known := regexp.MustCompile(`(?m)^note  fleet            a session, confirmed by Authgear \S+ ago$`)
	proxytest.Eventually(t, "the other replica can tell", func() bool { return known.MatchString(explained(t, two, other)) })

	for _, name := range []string{"fleet_connected", "fleet_events_age_seconds", "fleet_clock_ahead_seconds"} {
		if value := gauge(t, one, name); value == "" || value == "NaN" || value == "-1" {
			t.Errorf("%s is %q", name, value)
		}
	}

	f.redis.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { f.redis.Signal(syscall.SIGCONT) })
	away := regexp.MustCompile(`Redis \(AUTHGEAR_REDIS_URL\) does not answer|events of the other replicas cannot be read`)
	proxytest.Eventually(t, "it is noticed that Redis is away", func() bool { return gauge(t, one, "fleet_connected") == "0" })
	if status, text := operator(t, one, "/readyz"); status != 200 || !strings.HasPrefix(text, "ready\n") || !away.MatchString(text) {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if text := explained(t, one, other); !strings.Contains(text, "note  fleet            not asked: ") || !away.MatchString(text) || !strings.Contains(text, "200 ok") {
		t.Errorf("without Redis:\n%s", text)
	}
	f.redis.Signal(syscall.SIGCONT)
	proxytest.Eventually(t, "Redis is back", func() bool { return gauge(t, one, "fleet_connected") == "1" })
	if _, text := operator(t, one, "/readyz"); text != "ready\n" {
		t.Errorf("/readyz: %s", text)
	}
}

// explain as a command joins no fleet.
func TestExplainingDisturbsNoFleet(t *testing.T) {
	f := newFleet(t, 1)
	token := f.authgear.OpaqueToken(f.authgear.AddUser(authgeartest.User{ID: "ada"}))
	cmd := f.replicas[0].Command("explain")
	cmd.Stdin = strings.NewReader(token)
	status, text, stderr := result(t, cmd)
	if status != 0 || !strings.Contains(text, "note  fleet            not asked: POST the same to /explain of a running replica") {
		t.Errorf("status %d: %s%s", status, text, stderr)
	}
	if text := explained(t, f.replicas[0], token); !strings.Contains(text, "fleet            nothing is shared of it\n") {
		t.Errorf("the command told the fleet:\n%s", text)
	}
}

func TestAReplicaAloneTellsOfNoFleet(t *testing.T) {
	s, authgear := start(t)
	if _, text := operator(t, s, "/metrics"); strings.Contains(text, "_fleet_") {
		t.Error("/metrics tells of a fleet")
	}
	if text := explained(t, s, authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"}))); strings.Contains(text, "fleet") {
		t.Errorf("explain tells of a fleet:\n%s", text)
	}
}

// Both secrets may stand in files, and SIGHUP does not read them again: the page says so.
func TestTheSecretsOfAFleetMayBeInFiles(t *testing.T) {
	addr, _ := proxytest.Redis(t, "--requirepass", "canary-of-redis")
	dir := t.TempDir()
	for name, text := range map[string]string{"url": "redis://:canary-of-redis@" + addr, "secret": "canary-" + strings.Repeat("0", 32)} {
		if err := os.WriteFile(dir+"/"+name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := start(t, "AUTHGEAR_REDIS_URL_FILE="+dir+"/url", "AUTHGEAR_FLEET_SECRET_FILE="+dir+"/secret")
	proxytest.Eventually(t, "the replica takes part", func() bool { return gauge(t, s, "fleet_connected") == "1" })
	os.WriteFile(dir+"/url", []byte("redis://:canary-wrong@"+addr), 0o600)
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "it was read again", func() bool { return strings.Contains(s.Log(), `"message":"read again"`) })
	if gauge(t, s, "fleet_connected") != "1" || strings.Contains(s.Log(), "canary") {
		t.Errorf("%s", s.Log())
	}
}
