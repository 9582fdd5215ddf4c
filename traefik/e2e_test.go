package traefik_test

import (
	"os/exec"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/traefik"
)

func TestMain(m *testing.M) { proxytest.Main(m, "Traefik", proxytest.BuiltVersion("traefik")) }

const secret = "0123456789abcdef0123456789abcdef"

// newStand runs Traefik with the shipped configuration, and all that stands around
// it. edits are further edits of dynamic.yml.
func newStand(t *testing.T, listen string, edits ...string) *proxytest.Stand {
	return newStandOf(t, listen, nil, edits)
}

// newStandOf is newStand with further edits of traefik.yml, too.
func newStandOf(t *testing.T, listen string, static, edits []string) *proxytest.Stand {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+listen,
		"AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_WEBHOOK_SECRET="+secret)
	service.Start()

	front := proxytest.FreeAddr(t)
	dynamic := proxytest.Conf(t, "dynamic.yml", append(edits,
		"127.0.0.1:8000", proxytest.Upstream(t),
		"127.0.0.1:4180", listen,
	)...)
	conf := proxytest.Conf(t, "traefik.yml", append(static,
		`":8080"`, front,
		"/etc/traefik/dynamic.yml", dynamic,
	)...)
	proxytest.Start(t, exec.Command(proxytest.Built(t, "traefik"), "--configfile="+conf), front)
	st := &proxytest.Stand{URL: "http://" + front, Authgear: authgear, Service: service,
		Away: 500, CleansPaths: true, RefusesEncodedSlash: true}
	// Traefik listens before it has read its routes.
	proxytest.Eventually(t, "Traefik knows its routes", func() bool {
		resp, _ := st.Do(t, "HEAD", "/", nil)
		return resp.StatusCode != 404
	})
	return st
}

func TestTraefik(t *testing.T) {
	t.Parallel()
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t)))
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	st := newStand(t, proxytest.FreeAddr(t))
	proxytest.HTTP2(t, st, st.URL)
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	st := newStand(t, proxytest.FreeAddr(t), "serversTransport: app\n        servers:\n          - url: http:", "serversTransport: app\n        servers:\n          - url: h2c:")
	proxytest.GRPC(t, st, st.URL)
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	proxytest.Preflight(t, newStand(t, proxytest.FreeAddr(t), "?role=admin\n", "?role=admin&preflight\n"))
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	proxytest.SignIn(t, newStand(t, proxytest.FreeAddr(t), traefik.SignIn(proxytest.SignInPath)...))
}

func TestAQuestionIsPlain(t *testing.T) {
	t.Parallel()
	addr, last := proxytest.Questions(t)
	proxytest.PlainQuestions(t, newStand(t, proxytest.FreeAddr(t), "127.0.0.1:4180", addr), last, "/traefik")
}

func TestAuthgearsEventArrives(t *testing.T) {
	t.Parallel()
	proxytest.EventArrives(t, newStand(t, proxytest.FreeAddr(t)), secret)
}

// Traefik waits 30 s, whatever it is told.
func TestASlowServiceIsNoSignOut(t *testing.T) {
	t.Parallel()
	proxytest.ASlowService(t, newStand(t, proxytest.FreeAddr(t)), 35*time.Second)
}

// It keeps two connections, which is enough for one client at a time.
func TestNoDenialEndsTheConnectionToTheService(t *testing.T) {
	t.Parallel()
	listen := proxytest.FreeAddr(t)
	between, count := proxytest.CountConnections(t, listen)
	proxytest.KeptConnections(t, newStand(t, listen, "127.0.0.1:4180", between), count, 4)
}

// The longer rule wins: one that names its hosts must not win over that of /admin/.
func TestARuleThatNamesHostsIsNotBeforeTheOthers(t *testing.T) {
	t.Parallel()
	st := newStand(t, proxytest.FreeAddr(t), "rule: PathPrefix(`/`)\n", "rule: (Host(`127.0.0.1`) || Host(`shop.example.com`)) && PathPrefix(`/`)\n")
	bob := st.User(authgeartest.User{ID: "bob"})
	st.Expect(t, 200, "GET", "/", bob...)
	st.Expect(t, 403, "GET", "/admin/", bob...)
	st.Expect(t, 200, "GET", "/public/")
}

// With a proxy before it, Traefik believes what that says of the client; of the request, it says
// what the client said.
func TestAnotherProxyInFront(t *testing.T) {
	t.Parallel()
	st := newStandOf(t, proxytest.FreeAddr(t), []string{"    transport:\n", "    forwardedHeaders: {trustedIPs: [127.0.0.1/32]}\n    transport:\n"},
		[]string{"trustForwardHeader: false\n        authRequestHeaders", "trustForwardHeader: true\n        authRequestHeaders", "?role=admin\n", "?role=admin&preflight\n"})
	bob := proxytest.Bearer(st.Authgear.OpaqueToken(st.Authgear.AddUser(authgeartest.User{ID: "bob"})))
	_, seen := st.Expect(t, 200, "GET", "/true", append(bob, "X-Forwarded-For", "203.0.113.9",
		"X-Forwarded-Method", "PUT", "X-Forwarded-Uri", "/admin/")...)
	if ip := st.Authgear.LastResolve().Header.Get("X-Forwarded-For"); ip != "203.0.113.9" {
		t.Errorf("Authgear is told that the client is %s", ip)
	}
	for _, name := range []string{"X-Forwarded-Method", "X-Forwarded-Uri"} {
		if got := seen.Header.Get(name); got != "" {
			t.Errorf("the application is told %s: %s", name, got)
		}
	}
	preflight := []string{"Origin", "https://other.example", "Access-Control-Request-Method", "DELETE"}
	st.Expect(t, 200, "OPTIONS", "/admin/", preflight...)
	st.Expect(t, 401, "POST", "/admin/", append(preflight, "X-Forwarded-Method", "OPTIONS")...)
}

// Each of these lines closes a hole.
func TestTheDoctorFindsAMissingLine(t *testing.T) {
	t.Parallel()
	st := newStand(t, proxytest.FreeAddr(t), "authResponseHeadersRegex: ^X-Authgear-", "authResponseHeaders: [X-Authgear-User-Id]")
	proxytest.DoctorFinds(t, st, "A client can forge who it is")
	st = newStand(t, proxytest.FreeAddr(t), "middlewares: [authgear]\n", "middlewares: [authgear-optional]\n")
	proxytest.DoctorFinds(t, st, "Visitors pass")
}
