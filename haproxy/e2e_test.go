package haproxy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authgear-forward-auth/haproxy"
	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m, "HAProxy", proxytest.InstalledVersion("haproxy")) }

const secret = "0123456789abcdef0123456789abcdef"

// edits of the shipped files: old text and new in turn.
type edits struct{ conf, script []string }

// newStand runs HAProxy with the shipped configuration and the shipped auth.lua,
// and all that stands around it. listen is the service's address.
func newStand(t *testing.T, listen string, further edits) *proxytest.Stand {
	st, _ := newStandAndProcess(t, listen, further)
	return st
}

func newStandAndProcess(t *testing.T, listen string, further edits) (*proxytest.Stand, *proxytest.Process) {
	program := proxytest.Installed(t, "haproxy")
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+listen,
		"AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_WEBHOOK_SECRET="+secret)
	service.Start()

	front, asked := proxytest.FreeAddr(t), proxytest.FreeAddr(t)
	script := proxytest.Conf(t, "auth.lua", append(further.script, "127.0.0.1:4179", asked)...)
	conf := proxytest.Conf(t, "haproxy.cfg", append(further.conf,
		"/etc/haproxy/auth.lua", script,
		"bind :8080", "bind "+front,
		"maxconn 9000", "maxconn 3000", "maxconn 3000", "maxconn 1000", // open files may be few here
		"bind 127.0.0.1:4179", "bind "+asked,
		"server app 127.0.0.1:8000", "server app "+proxytest.Upstream(t),
		"server one 127.0.0.1:4180", "server one "+strings.Replace(listen, "unix:", "unix@", 1),
	)...)
	process := proxytest.Start(t, exec.Command(program, "-db", "-f", conf), front, asked)
	return &proxytest.Stand{URL: "http://" + front, Authgear: authgear, Service: service, Away: 503, PassesTrailers: true}, process
}

func TestHAProxy(t *testing.T) {
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t), edits{}))
}

func TestHAProxyOverAUnixSocket(t *testing.T) {
	proxytest.Run(t, newStand(t, "unix:"+filepath.Join(proxytest.Dir(t), "auth.sock"), edits{}))
}

func TestAQuestionIsPlain(t *testing.T) {
	addr, last := proxytest.Questions(t)
	st := newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"server one 127.0.0.1:4180", "server one " + addr}})
	proxytest.PlainQuestions(t, st, last, "/haproxy")

	st.Raw(t, "//x/..%2fy?a=%2f", "Authorization", "Bearer a", "Cookie", "a=1", "User-Agent", "curl", "Authorization", "Bearer b", "Cookie", "b=2, c",
		"Accept-Language", "de", "X-Real-Ip", "6.6.6.6",
		"Origin", "https://x", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "none", "X-HTTP-Method-Override", "PUT")
	want := http.Header{
		"Authorization": {"Bearer a", "Bearer b"}, "Cookie": {"a=1", "b=2, c"}, "User-Agent": {"curl"}, "Accept": {"*/*"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"http"},
		"X-Forwarded-Host": {strings.TrimPrefix(st.URL, "http://")}, "X-Forwarded-Uri": {"//x/..%2fy?a=%2f"},
		"Origin": {"https://x"}, "Sec-Fetch-Mode": {"cors"}, "X-Http-Method-Override": {"PUT"},
	}
	got := last().Header
	for name, values := range got {
		if !slices.Equal(values, want[name]) {
			t.Errorf("asked with %s: %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("asked without %s", name)
	}
}

func TestAuthgearsEventArrives(t *testing.T) {
	proxytest.EventArrives(t, newStand(t, proxytest.FreeAddr(t), edits{}), secret)
}

func TestASlowServiceIsNoSignOut(t *testing.T) {
	proxytest.ASlowService(t, newStand(t, proxytest.FreeAddr(t), edits{}), 10*time.Second)
}

func TestNoDenialEndsTheConnectionToTheService(t *testing.T) {
	listen := proxytest.FreeAddr(t)
	between, count := proxytest.CountConnections(t, listen)
	st := newStand(t, listen, edits{conf: []string{"server one 127.0.0.1:4180", "server one " + between, "tune.bufsize", "nbthread 1\n    tune.bufsize"}})
	proxytest.KeptConnections(t, st, count, 4) // it may ask before the last connection is free again
}

func TestAnswers(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	bob := st.User(authgeartest.User{ID: "bob"})
	for _, tt := range []struct {
		name, path      string
		fields          []string
		status          int
		challenge, body string
	}{
		{"a user", "/", bob, 200, "", ""},
		{"not signed in", "/", nil, 401, `Bearer realm="authgear"`, `{"error":"unauthenticated","error_description":"Sign in first."}`},
		{"a missing role", "/admin/", bob, 403, `Bearer realm="authgear", error="insufficient_scope"`,
			`{"error":"insufficient_scope","error_description":"The user lacks a role."}`},
		{"the service is away", "/", bob, 503, "", `{"error":"temporarily_unavailable","error_description":"Try again in a moment."}`},
	} {
		if tt.status == 503 {
			st.Service.Stop()
		}
		resp, body := st.Raw(t, tt.path, tt.fields...)
		if got := resp.Header.Values("Set-Cookie"); len(got) > 0 {
			t.Errorf("%s: Set-Cookie: %q, want none", tt.name, got)
		}
		if tt.status == 200 {
			continue // the rest is the application's
		}
		if resp.StatusCode != tt.status || body != tt.body || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, %v, %s; want %d and %s", tt.name, resp.StatusCode, resp.Header, body, tt.status, tt.body)
		}
		if got := strings.Join(resp.Header.Values("WWW-Authenticate"), "|"); got != tt.challenge {
			t.Errorf("%s: WWW-Authenticate: %s, want %s", tt.name, got, tt.challenge)
		}
		if (resp.Header.Get("Retry-After") != "") != (tt.status == 503) {
			t.Errorf("%s: Retry-After: %q", tt.name, resp.Header.Get("Retry-After"))
		}
	}
}

// What the client says of itself, of the next hop and of other protocols ends here.
func TestWhatElseTheApplicationReceives(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	_, body := st.Raw(t, "/public/", "X-Forwarded-For", "6.6.6.6", "X_Forwarded_For", "6.6.6.6", "X.Forwarded.For", "6.6.6.6", "X-Forwarded-Proto", "https",
		"X-Forwarded-Host", "other", "Connection", "X-Authgear-User-Id, Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	var seen proxytest.Seen
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		t.Fatal(err, body)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X_forwarded_for": "", "X.forwarded.for": "", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": strings.TrimPrefix(st.URL, "http://"), "Connection": "", "Upgrade": "",
	} {
		if got := strings.Join(seen.Header[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A client may send all of its body before it reads.
func TestADenialArrivesBehindALongBody(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	c, err := net.Dial("tcp", strings.TrimPrefix(st.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	body := strings.Repeat("x", 8<<20)
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

// As when it is restarted just then.
func TestAServiceThatClosesAKeptConnectionIsAskedAnew(t *testing.T) {
	var known sync.Map
	var closed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, again := known.LoadOrStore(r.RemoteAddr, true); again {
			closed.Add(1)
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Authgear-Session-Valid", "true")
	}))
	defer other.Close()
	st := newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"server one 127.0.0.1:4180", "server one " + other.Listener.Addr().String()}})
	for range 20 {
		st.Expect(t, 200, "GET", "/")
	}
	if closed.Load() == 0 {
		t.Error("no connection was used twice")
	}
}

func TestNoTunnelOpens(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	bob := st.User(authgeartest.User{ID: "bob"})
	text := "CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\nAuthorization: " + bob[1] + "\r\n\r\n"
	if resp, _ := proxytest.Raw(t, strings.TrimPrefix(st.URL, "http://"), text); resp.StatusCode != 405 {
		t.Errorf("status %d, want 405", resp.StatusCode)
	}
}

// HAProxy goes on as if nothing were when a script fails.
func TestAScriptThatFailsLetsNobodyIn(t *testing.T) {
	for _, line := range []string{"  local answer = ask(txn,", `  txn:set_var("txn.authgear_status", 200)`, `  local decoded = path:gsub(`} {
		st := newStand(t, proxytest.FreeAddr(t), edits{script: []string{line, "  error('x')\n" + line}})
		for _, path := range []string{"/", "/public/", "/admin/"} {
			st.Expect(t, 503, "GET", path, st.User(authgeartest.User{ID: "ada", Roles: []string{"admin"}})...)
		}
	}
}

// Only the service gives verdicts, and nothing else that listens where it should.
func TestWhatIsNoVerdictLetsNobodyIn(t *testing.T) {
	var status atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
	}))
	defer other.Close()
	st := newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"server one 127.0.0.1:4180", "server one " + other.Listener.Addr().String()}})
	for _, n := range []int64{200, 204, 206, 302, 304, 400, 404, 431, 500, 502} {
		status.Store(n)
		for _, path := range []string{"/", "/public/"} {
			if resp, _ := st.Do(t, "GET", path, nil); resp.StatusCode != 503 {
				t.Errorf("%d, %s: status %d, want 503", n, path, resp.StatusCode)
			}
		}
	}
}

// Strangers may send what cannot be read, or is too long, as often as they like.
func TestAMalformedRequestIsNothingForTheLog(t *testing.T) {
	st, haproxy := newStandAndProcess(t, proxytest.FreeAddr(t), edits{})
	before := haproxy.Output()
	long := strings.Repeat("x", 24_000)
	for status, fields := range map[int][]string{400: {"Cookie", "a=\x01"}, 431: {"Cookie", long, "Cookie", long[:16_000]}} {
		resp, body := st.Raw(t, "/public/", fields...)
		if resp.StatusCode != status || !strings.HasPrefix(body, `{"error":"invalid_request",`) || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Retry-After") != "" {
			t.Errorf("status %d, %v, %s; want %d", resp.StatusCode, resp.Header, body, status)
		}
	}
	if written := strings.TrimPrefix(haproxy.Output(), before); written != "" {
		t.Errorf("HAProxy writes %s", written)
	}
}

// An application may read a path otherwise than HAProxy: the policy must hold
// however it is read.
func TestThePolicyHoldsHoweverThePathIsRead(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	bob := st.User(authgeartest.User{ID: "bob"})
	for _, path := range []string{
		"/admin", "/admin/", "/ADMIN/x", "/admin;x=1/", "/;x/admin/", "/a/..;x/admin/", "/a%2f..%2fadmin/", `/a\..\admin/`, "/public/../admin/",
		"/public/%2e%2e/admin/", "/public/..;/admin/", "/../../admin/x",
		// Of these it is not known how: they want the role, too.
		"/x/../public/", "/x/%2e%2e/public/", "/public/../x", "/public/..", "/public/%2e%2e%2fx", "/public/..;/x", "/admin//../x", "/admin/;/../x", "/x;y", `/x\y`,
		"/public/%%5cb/../../admin/x", "/public/%%5cb/%2e%2e/%2e%2e/admin/x", "/public/%zz/../x", "/admin/%2e%2e/%zz+/%2E", "/admin%00x", "//public/", "//x/admin/", "/%2fpublic/", "/x%", "/x%4", "/x%4g", "/public/x%",
	} {
		if resp, _ := st.Raw(t, path, bob...); resp.StatusCode != 403 {
			t.Errorf("%s: status %d, want 403", path, resp.StatusCode)
		}
	}
	if resp, _ := st.Raw(t, "/public/#/../x", bob...); resp.StatusCode != 400 && resp.StatusCode != 403 {
		t.Errorf("with a #: status %d, want 400 or 403", resp.StatusCode)
	}
	for _, path := range []string{
		"/public", "/publicly/", "/%70ublic/", "/x..y", "/x?/public/", "/x?;/../", "/x%23y",
	} {
		if resp, _ := st.Raw(t, path); resp.StatusCode != 401 {
			t.Errorf("%s: a visitor gets status %d, want 401", path, resp.StatusCode)
		}
		if resp, _ := st.Raw(t, path, bob...); resp.StatusCode != 200 {
			t.Errorf("%s: a user gets status %d, want 200", path, resp.StatusCode)
		}
	}
}

// HAProxy takes all up to the first slash for the host, an application all up to the question
// mark. What is asked about must be what arrives.
func TestTheApplicationGetsThePathThatIsAskedAbout(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	for request, want := range map[string]string{
		"GET http://h?page=secret&x=/public/ HTTP/1.0\r\n":                            `"/public/"`,
		"GET http://h\\admin\\?/public/x?y HTTP/1.0\r\n":                              `"/public/x?y"`,
		"GET http://h/public/?x=/admin/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n": `"/public/?x=/admin/"`,
	} {
		resp, body := proxytest.Raw(t, strings.TrimPrefix(st.URL, "http://"), request+"\r\n")
		if resp.StatusCode == 400 {
			continue // the application's, or HAProxy's
		}
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%q: status %d, and the application is asked for %s, want %s", request, resp.StatusCode, body, want)
		}
	}
}

// Strangers who only connect must not take the connections that a question needs.
func TestAQuestionDoesNotWaitForClients(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"maxconn 9000", "maxconn 60", "maxconn 3000", "maxconn 20"}})
	bob := st.User(authgeartest.User{ID: "bob"})
	st.Expect(t, 200, "GET", "/", bob...)
	var strangers []net.Conn
	for range 70 {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(st.URL, "http://"), 50*time.Millisecond)
		if err != nil { // no more than that are waiting to be accepted
			break
		}
		defer c.Close()
		strangers = append(strangers, c)
	}
	time.Sleep(100 * time.Millisecond)
	for range 5 {
		st.Expect(t, 200, "GET", "/", bob...)
	}
	for _, c := range strangers {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a user was answered when strangers had been sent away, and not before")
		}
	}
}

func TestHTTP2(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	proxytest.HTTP2(t, st, st.URL)
}

func TestGRPC(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"\n\n# authgear-forward-auth, as auth.lua", " proto h2\n\n# authgear-forward-auth, as auth.lua"}})
	proxytest.GRPC(t, st, st.URL)
}

func TestPreflight(t *testing.T) {
	proxytest.Preflight(t, newStand(t, proxytest.FreeAddr(t), edits{conf: []string{"str(?role=admin)", "str(?role=admin&preflight)"}}))
}

func TestSignIn(t *testing.T) {
	proxytest.SignIn(t, newStand(t, proxytest.FreeAddr(t), edits{conf: haproxy.SignIn(proxytest.SignInPath)}))
}

func TestItReadsWhatIsMadeForIt(t *testing.T) {
	proxytest.Snippets(t, haproxy.Config, func(dir string) *exec.Cmd {
		conf := proxytest.Conf(t, filepath.Join(dir, "haproxy.cfg"), "/etc/haproxy/auth.lua", filepath.Join(dir, "auth.lua"))
		return exec.Command(proxytest.Installed(t, "haproxy"), "-c", "-f", conf)
	})
}

// Of two services one at a time may be restarted.
func TestARollingRestartFailsNoRequest(t *testing.T) {
	first, second := proxytest.FreeAddr(t), proxytest.FreeAddr(t)
	st := newStand(t, first, edits{conf: []string{"server one 127.0.0.1:4180", "server one " + first + "\n    server two " + second}})
	proxytest.RollingRestart(t, st, second)
}

// Each of these lines closes a hole.
func TestTheDoctorFindsAMissingLine(t *testing.T) {
	for _, tt := range []struct {
		title string
		conf  []string
	}{
		{"Visitors pass", []string{"    http-request use-service lua.authgear_denies unless hook or path_is_read passes\n", ""}},
		{"A client can forge who it is", []string{"    http-request del-header ^x[^a-z0-9]authgear[^a-z0-9] -m reg unless hook\n", ""}},
	} {
		proxytest.DoctorFinds(t, newStand(t, proxytest.FreeAddr(t), edits{conf: tt.conf}), tt.title)
	}
}
