package caddy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/caddy"
	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m, "Caddy", proxytest.BuiltVersion("caddy")) }

const secret = "0123456789abcdef0123456789abcdef"

// newStand runs Caddy with the shipped configuration, and all that stands around
// it. listen is the service's address; edits are further edits of the
// configuration.
func newStand(t *testing.T, listen string, edits ...string) *proxytest.Stand {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+listen,
		"AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_WEBHOOK_SECRET="+secret)
	service.Start()

	front := proxytest.FreeAddr(t)
	conf := proxytest.Conf(t, "Caddyfile", append(edits,
		":8080 {", front[strings.LastIndex(front, ":"):]+" {\n\tbind 127.0.0.1",
		"127.0.0.1:8000", proxytest.Upstream(t),
		"127.0.0.1:4180", strings.Replace(listen, "unix:", "unix/", 1),
	)...)
	cmd := exec.Command(proxytest.Built(t, "caddy"), "run", "--config", conf, "--adapter", "caddyfile")
	home := proxytest.Dir(t)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	proxytest.Start(t, cmd, front)
	return &proxytest.Stand{URL: "http://" + front, Authgear: authgear, Service: service, Away: 503, PassesTrailers: true}
}

func TestCaddy(t *testing.T) {
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t)))
}

func TestCaddyOverAUnixSocket(t *testing.T) {
	proxytest.Run(t, newStand(t, "unix:"+filepath.Join(proxytest.Dir(t), "auth.sock")))
}

// As with TLS, where Caddy takes it by itself.
func TestHTTP2(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), "\tservers {\n", "\tservers {\n\t\tprotocols h1 h2c\n")
	proxytest.HTTP2(t, st, st.URL)
}

func TestGRPC(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), "\tservers {\n", "\tservers {\n\t\tprotocols h1 h2c\n",
		"dial_timeout 1s\n\t\t\tresponse_header_timeout 60s", "versions h2c\n\t\t\tdial_timeout 1s\n\t\t\tresponse_header_timeout 60s")
	proxytest.GRPC(t, st, st.URL)
}

func TestPreflight(t *testing.T) {
	proxytest.Preflight(t, newStand(t, proxytest.FreeAddr(t), `"role=admin"`, `"role=admin&preflight"`))
}

func TestSignIn(t *testing.T) {
	proxytest.SignIn(t, newStand(t, proxytest.FreeAddr(t), caddy.SignIn(proxytest.SignInPath)...))
}

func TestItReadsWhatIsMadeForIt(t *testing.T) {
	proxytest.Snippets(t, caddy.Config, func(dir string) *exec.Cmd {
		cmd := exec.Command(proxytest.Built(t, "caddy"), "validate", "--adapter", "caddyfile", "--config", filepath.Join(dir, "Caddyfile"))
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		return cmd
	})
}

func TestAQuestionIsPlain(t *testing.T) {
	addr, last := proxytest.Questions(t)
	proxytest.PlainQuestions(t, newStand(t, proxytest.FreeAddr(t), "127.0.0.1:4180", addr), last, "/caddy")
}

func TestAuthgearsEventArrives(t *testing.T) {
	proxytest.EventArrives(t, newStand(t, proxytest.FreeAddr(t)), secret)
}

// Without response_header_timeout Caddy would wait for ever.
func TestASlowServiceIsNoSignOut(t *testing.T) {
	proxytest.ASlowService(t, newStand(t, proxytest.FreeAddr(t)), 10*time.Second)
}

func TestNoDenialEndsTheConnectionToTheService(t *testing.T) {
	listen := proxytest.FreeAddr(t)
	between, count := proxytest.CountConnections(t, listen)
	proxytest.KeptConnections(t, newStand(t, listen, "127.0.0.1:4180", between), count, 4) // it may ask before the last connection is free again
}

// 503 is for the service alone, and has the body of its own 503.
func TestAnApplicationThatIsAwayIsNotTheService(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), "127.0.0.1:8000", proxytest.FreeAddr(t))
	bob := st.User(authgeartest.User{ID: "bob"})
	if resp, _ := st.Raw(t, "/", bob...); resp.StatusCode != 502 {
		t.Errorf("the application is away: status %d, want 502", resp.StatusCode)
	}
	st.Service.Stop()
	resp, body := st.Raw(t, "/", bob...)
	if want := `{"error":"temporarily_unavailable","error_description":"Try again in a moment."}`; resp.StatusCode != 503 ||
		body != want || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the service is away: status %d, %v, %s; want 503 and %s", resp.StatusCode, resp.Header, body, want)
	}
}

// Of two services one at a time may be restarted.
func TestARollingRestartFailsNoRequest(t *testing.T) {
	first, second := proxytest.FreeAddr(t), proxytest.FreeAddr(t)
	st := newStand(t, first,
		"forward_auth 127.0.0.1:4180 {", "forward_auth "+first+" "+second+" {\nlb_try_duration 1s\nlb_try_interval 10ms")
	proxytest.RollingRestart(t, st, second)
}

// Each of these lines closes a hole.
func TestTheDoctorFindsAMissingLine(t *testing.T) {
	for _, tt := range []struct {
		title string
		edits []string
	}{
		{"Visitors pass", []string{`import authgear ""`, `import authgear "optional"`}},
		{"A client can forge who it is", []string{"\trequest_header -*authgear*\n", ""}},
		{"A client can take its identity away", []string{"\trequest_header @other -Connection\n", ""}},
		{"The client's query says who may pass", []string{"uri /caddy?{args[0]}", "uri /caddy"}},
	} {
		proxytest.DoctorFinds(t, newStand(t, proxytest.FreeAddr(t), tt.edits...), tt.title)
	}
}
