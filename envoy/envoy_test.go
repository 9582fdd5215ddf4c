package envoy_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// Envoy itself is not run here. These are the subrequests that its documentation
// of ext_authz tells of: the client's method, path_prefix and the client's path
// and query, Host, Authorization and the allowed fields, and Content-Length: 0.

func TestMain(m *testing.M) { proxytest.Main(m, "Envoy", "") }

// replayed says of which stories a test has sent what Envoy would ask.
func replayed(t *testing.T, stories ...string) {
	for _, story := range stories {
		proxytest.Found(t, story, "replayed")
	}
}

// newService runs the service with an Authgear.
func newService(t *testing.T) (*proxytest.Service, *authgeartest.Server) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_RESOLVER_TIMEOUT=30s",
		"AUTHGEAR_WEBHOOK_SECRET=0123456789abcdef0123456789abcdef")
	s.Start()
	return s, authgear
}

// check sends the subrequest for a client's request.
func check(t *testing.T, s *proxytest.Service, method, target string, fields ...string) (*http.Response, string) {
	t.Helper()
	return proxytest.Raw(t, s.Addr, question(method, "app.example", target, fields...))
}

func question(method, host, target string, fields ...string) string {
	text := method + " /envoy" + target + " HTTP/1.1\r\nhost: " + host + "\r\ncontent-length: 0\r\nx-forwarded-for: 203.0.113.9\r\n" +
		"x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 5000\r\n"
	for i := 0; i < len(fields); i += 2 {
		text += strings.ToLower(fields[i]) + ": " + fields[i+1] + "\r\n"
	}
	return text + "\r\n"
}

func user(authgear *authgeartest.Server, u authgeartest.User) []string {
	return proxytest.Bearer(authgear.JWT(authgear.AddUser(u)))
}

func TestEveryMethodIsAnswered(t *testing.T) {
	s, authgear := newService(t)
	bob := user(authgear, authgeartest.User{ID: "bob"})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		resp, body := check(t, s, method, "/orders/7", bob...)
		// Any 2xx but 200 is a no to Envoy.
		if resp.StatusCode != 200 || resp.Header.Get("X-Authgear-User-Id") != "bob" || body != "" || resp.Close {
			t.Errorf("%s: status %d, %v, %q; want 200, bob, and the connection kept", method, resp.StatusCode, resp.Header, body)
		}
		expectLogged(t, s, decision{method, "app.example", "/orders/7", "envoy"})
		resp, _ = check(t, s, method, "/orders/7")
		if resp.StatusCode != 401 || len(resp.Header.Values("WWW-Authenticate")) != 1 {
			t.Errorf("%s without a credential: status %d, %v; want 401", method, resp.StatusCode, resp.Header)
		}
	}
	replayed(t, "no credential is challenged", "a JWT passes and the application learns who it is", "HEAD and OPTIONS")
}

// The query is the client's, and so is what looks like a path of the service.
func TestNothingThatAClientAsksForIsPolicy(t *testing.T) {
	s, authgear := newService(t)
	bob := user(authgear, authgeartest.User{ID: "bob"})
	for _, target := range []string{
		"/?optional", "/x?optional&role=x", "/?role=admin", "/?optionall", "/?max_staleness=0s", "/?%zz", "/?", "/x#?optional",
		"/../nginx?optional", "/%2e%2e/nginx?optional", "/..%2fnginx?optional", "/./../caddy?optional", "//../nginx?optional", "/../../traefik?optional", "/x/../../haproxy?optional",
		"/../forget", "/../hooks/authgear", "/../healthz", "/nginx?optional", "/envoy/?optional",
		"//", "//nginx?optional", "/odd//a", "/odd/%2e%2e/a", "/odd;a=b/c;d", "/odd%2fa", "/%zz", "/odd%00", "/http://other/nginx?optional", "/\xc3\xa4",
		"/" + strings.Repeat("x", 8000),
	} {
		want := target[:min(strings.IndexAny(target+"?", "?#"), 1024)] // what may be logged of a path
		if resp, _ := check(t, s, "GET", target); resp.StatusCode != 401 {
			t.Errorf("%.60q: a visitor gets status %d, want 401", target, resp.StatusCode)
		}
		expectLogged(t, s, decision{"GET", "app.example", want, "envoy"})
		if resp, _ := check(t, s, "POST", target, bob...); resp.StatusCode != 200 || resp.Header.Get("X-Authgear-User-Id") != "bob" {
			t.Errorf("%.60q: a user gets status %d, %v; want 200", target, resp.StatusCode, resp.Header)
		}
	}
	replayed(t, "what a client asks for is no policy")
}

func TestTheCredentialsAreTheClients(t *testing.T) {
	s, authgear := newService(t)
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	resp, _ := check(t, s, "GET", "/", "Cookie", "session=\xc3\xa4; a=1; session="+authgear.SessionCookie(ada), "User-Agent", "curl")
	if resp.StatusCode != 200 || resp.Header.Get("X-Authgear-User-Id") != "ada" {
		t.Errorf("a session cookie: status %d, %v; want 200", resp.StatusCode, resp.Header)
	}
	if h := authgear.LastResolve().Header; h.Get("X-Forwarded-For") != "203.0.113.9" || h.Get("User-Agent") != "curl" {
		t.Errorf("Authgear is told that the client is %s, %s", h.Get("X-Forwarded-For"), h.Get("User-Agent"))
	}
	token := authgear.JWT(ada)
	// Envoy joins the lines of a field.
	if resp, _ := check(t, s, "GET", "/", "Authorization", "Bearer "+token+",Bearer "+token); resp.StatusCode != 401 {
		t.Errorf("two Authorization lines: status %d, want 401", resp.StatusCode)
	}
	resp, _ = check(t, s, "GET", "/", "Cookie", "session=dead.cookie")
	if got := resp.Header.Values("Set-Cookie"); resp.StatusCode != 401 || len(got) != 1 || !strings.HasPrefix(got[0], "session=;") {
		t.Errorf("a dead session: status %d, Set-Cookie %q", resp.StatusCode, got)
	}
	replayed(t, "a session cookie passes, behind a planted one", "two Authorization lines never pass")
}

// Envoy passes on the client's Host. One that cannot be read is refused, and is
// neither an outage nor a policy.
func TestAStrangeHostIsNoOutage(t *testing.T) {
	s, _ := newService(t)
	for _, host := range []string{"app:xyz", "[::1", "%zz", "app%41", "app?optional", "app#x", "a@b", "app/nginx?optional", ""} {
		if resp, _ := proxytest.Raw(t, s.Addr, question("GET", host, "/strange")); resp.StatusCode != 400 && resp.StatusCode != 401 {
			t.Errorf("%s: status %d, want 400 or 401", host, resp.StatusCode)
		}
	}
	replayed(t, "a strange Host is no outage")
}

func TestAnOutageIsNoSignOut(t *testing.T) {
	s, authgear := newService(t)
	authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
	if resp, _ := check(t, s, "GET", "/", proxytest.Bearer("unseen")...); resp.StatusCode != 503 {
		t.Errorf("status %d, want 503", resp.StatusCode)
	}
	replayed(t, "while Authgear is down nobody is signed out")
}

// A path of the service that merely begins alike is none.
func TestOnlyWhatIsBehindThePrefixIsAnswered(t *testing.T) {
	s, authgear := newService(t)
	bob := user(authgear, authgeartest.User{ID: "bob"})
	for _, target := range []string{"x", "", "*", ";x/"} {
		if resp, _ := check(t, s, "OPTIONS", target, bob...); resp.StatusCode != 404 {
			t.Errorf("/envoy%s: status %d, want 404", target, resp.StatusCode)
		}
	}
}

type decision struct{ Method, Host, Path, Proxy string }

// expectLogged checks the last decision in the log.
func expectLogged(t *testing.T, s *proxytest.Service, want decision) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(s.Log()), "\n")
	var got decision
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil || got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
}

// What removes them is the first filter: each of its expressions stands for a whole name.
func TestNoFieldTellsTheApplicationAnotherPath(t *testing.T) {
	conf, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var removed []*regexp.Regexp
	for _, match := range regexp.MustCompile(`remove_on_match: .*regex: "([^"]*)"`).FindAllStringSubmatch(string(conf), -1) {
		removed = append(removed, regexp.MustCompile("^("+match[1]+")$"))
	}
	for _, name := range proxytest.PathNames {
		for _, name := range []string{name, strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "~", 1)} {
			if !slices.ContainsFunc(removed, func(r *regexp.Regexp) bool { return r.MatchString(strings.ToLower(name)) }) {
				t.Errorf("%s is not removed", name)
			}
		}
	}
}
