package nginx_test

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/nginx"
)

func TestMain(m *testing.M) { proxytest.Main(m, "nginx", proxytest.InstalledVersion("nginx")) }

const secret = "0123456789abcdef0123456789abcdef"

// newStand runs nginx with the shipped configuration, and all that stands
// around it. listen is the service's address; edits are further edits of the
// configuration.
func newStand(t *testing.T, listen string, edits ...string) *proxytest.Stand {
	return standWith(t, []string{"AUTHGEAR_MAX_STALENESS=1h"}, listen, edits...)
}

func standWith(t *testing.T, settings []string, listen string, edits ...string) *proxytest.Stand {
	program := proxytest.Installed(t, "nginx")
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, append(settings, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+listen, "AUTHGEAR_LOG_DECISIONS=all",
		"AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_PROXY_CACHE=1s", "AUTHGEAR_WEBHOOK_SECRET="+secret)...)
	service.Start()

	front := proxytest.FreeAddr(t)
	conf := proxytest.Conf(t, "nginx.conf", append(edits,
		"listen 8080;", "listen "+front+";",
		"server 127.0.0.1:8000;", "server "+proxytest.Upstream(t)+";",
		"server 127.0.0.1:4180;", "server "+listen+";",
		"/tmp/authgear-nginx", proxytest.Dir(t)+"/nginx",
		"/dev/shm/authgear-nginx-cache", proxytest.Dir(t)+"/cache",
	)...)
	proxytest.Start(t, exec.Command(program, "-c", conf, "-g", "daemon off;"), front)
	return &proxytest.Stand{URL: "http://" + front, Authgear: authgear, Service: service, Away: 503, AddsSlash: true, PassesUnknown: true}
}

func TestNginx(t *testing.T) {
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t)))
}

func TestNginxOverAUnixSocket(t *testing.T) {
	proxytest.Run(t, newStand(t, "unix:"+filepath.Join(proxytest.Dir(t), "auth.sock")))
}

// With the lines of docs/running.md.
func TestNginxOverMutualTLS(t *testing.T) {
	page, err := os.ReadFile("../docs/running.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(page), "```nginx\nproxy_pass https://authgear_forward_auth/nginx;\n")
	lines, _, found := strings.Cut(lines, "```")
	if !found {
		t.Fatal("docs/running.md has no lines for nginx")
	}
	ca, dir := proxytest.NewCA(t), proxytest.Dir(t)
	files := map[string][]byte{"ca.crt": ca.PEM}
	files["service.crt"], files["service.key"] = ca.Sign(t, "the service")
	files["tls.crt"], files["tls.key"] = ca.Sign(t, "nginx")
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{"AUTHGEAR_TLS_CERT=" + dir + "/service.crt", "AUTHGEAR_TLS_KEY=" + dir + "/service.key", "AUTHGEAR_TLS_CLIENT_CA=" + dir + "/ca.crt"}
	lines = strings.ReplaceAll(lines, "/etc/nginx/authgear", dir)
	proxytest.Run(t, standWith(t, settings, proxytest.FreeAddr(t), "proxy_pass http://authgear_forward_auth", lines+"proxy_pass https://authgear_forward_auth"))
}

// What nginx itself may reuse changes no story.
func TestNginxWithItsOwnCache(t *testing.T) {
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t), nginx.Cache...))
}

func TestNginxReusesA200ForAMoment(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), nginx.Cache...)
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada", Roles: []string{"admin"}})
	asked := func() int { return strings.Count(st.Service.Log(), `"message":"decided"`) }
	for _, tt := range []struct {
		name, path string
		fields     []string
		status     int
		reused     bool
	}{
		{"a token", "/", proxytest.Bearer(st.Authgear.OpaqueToken(ada)), 200, true},
		{"a cookie", "/", []string{"Cookie", "session=" + st.Authgear.SessionCookie(ada)}, 200, true},
		{"another policy", "/admin/", proxytest.Bearer(st.Authgear.OpaqueToken(ada)), 200, true},
		{"a visitor", "/public/", nil, 200, false},
		{"a bad token where visitors may pass", "/public/", proxytest.Bearer("bad"), 200, false},
		{"a denial", "/", proxytest.Bearer("bad"), 401, false},
		{"a missing role", "/admin/", st.User(authgeartest.User{ID: "bob"}), 403, false},
	} {
		const n = 100
		st.Expect(t, tt.status, "GET", tt.path, tt.fields...) // one more: an unconfirmed JWT is not reused
		before := asked()
		for range n {
			st.Expect(t, tt.status, "GET", tt.path, tt.fields...)
		}
		if got := asked() - before; tt.reused && got > n/2 || !tt.reused && got < n {
			t.Errorf("%s: the service was asked %d times for %d requests", tt.name, got, n)
		}
	}
}

// In a container /tmp is small: who downloads slowly, or uploads, must not fill it.
func TestNoBodyIsKeptInAFile(t *testing.T) {
	dir := proxytest.Dir(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			io.CopyN(w, rand.Reader, 64<<20)
		}
		io.Copy(io.Discard, r.Body)
	}))
	defer page.Close()
	st := newStand(t, proxytest.FreeAddr(t), "/tmp/authgear-nginx", dir+"/tmp", "server 127.0.0.1:8000;", "server "+strings.TrimPrefix(page.URL, "http://")+";")
	for _, text := range []string{
		"GET /public/x HTTP/1.1\r\nHost: app\r\n\r\n",
		"POST /public/x HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 900_000),
	} {
		c, err := proxytest.Dial(strings.TrimPrefix(st.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	// nginx opens such a file and removes its name at once.
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		open, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, fd := range open {
			if name, _ := os.Readlink(fd); strings.HasPrefix(name, dir) {
				t.Fatalf("nginx writes %s", name)
			}
		}
	}
}

// The bound is that of the service, and nginx's part is in it.
func TestWhatNginxReusesIsWithinTheBound(t *testing.T) {
	const bound = 3 * time.Second
	st := standWith(t, []string{"AUTHGEAR_MAX_STALENESS=3s"}, proxytest.FreeAddr(t), nginx.Cache...)
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada"})
	for i := range 4 {
		token := st.Authgear.OpaqueToken(ada)
		who := proxytest.Bearer(token)
		for end := time.Now().Add(time.Duration(i) * 700 * time.Millisecond); time.Now().Before(end); {
			st.Expect(t, 200, "GET", "/", who...)
		}
		st.Authgear.Revoke(token)
		revoked := time.Now()
		for {
			sent := time.Now()
			if resp, _ := st.Do(t, "GET", "/", nil, who...); resp.StatusCode == 401 {
				break
			}
			if late := sent.Sub(revoked) - bound; late > 0 {
				t.Fatalf("a request sent %s past the bound passes", late)
			}
		}
	}
}

// Whoever copies a location for another policy may forget the key.
func TestALocationReusesItsOwnAnswersAlone(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), append(nginx.Cache, ` /nginx?role=admin\n`, ` /nginx\n`)...)
	bob := st.User(authgeartest.User{ID: "bob"})
	for range 3 {
		st.Expect(t, 200, "GET", "/", bob...)
		st.Expect(t, 403, "GET", "/admin/", bob...)
	}
}

// nginx chooses a server, and with it the policy, by the host of the request line; the
// application reads the other one.
func TestARequestHasOneHost(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	for request, want := range map[string]int{
		"GET http://one.example/ HTTP/1.1\r\nHost: another.example\r\n":       400,
		"GET http://one.example/ HTTP/1.1\r\nHost: one.example.another\r\n":   400,
		"GET http://one.example/ HTTP/1.1\r\nHost: one.example@another\r\n":   400,
		"GET http://one.example?x=/public/ HTTP/1.1\r\nHost: one.example\r\n": 400,
		"GET http://one.example HTTP/1.1\r\nHost: one.example\r\n":            401,
		"GET http://one.example/ HTTP/1.1\r\nHost: one.example\r\n":           401,
		"GET http://one.example:80/ HTTP/1.1\r\nHost: ONE.example:8080\r\n":   401,
		"GET http://one.example/public/ HTTP/1.1\r\nHost: one.example.\r\n":   200,
		"GET / HTTP/1.1\r\nHost: one.example:80\r\n":                          401,
		"GET / HTTP/1.1\r\nHost: [::1]:80\r\n":                                401,
		"GET / HTTP/1.0\r\n":                                                  401,
	} {
		if resp, _ := proxytest.Raw(t, strings.TrimPrefix(st.URL, "http://"), request+"Connection: close\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("%q: status %d, want %d", request, resp.StatusCode, want)
		}
	}
}

// What stands before the Host line nginx reads as the first server of the listen has it.
func TestAnotherServerBefore(t *testing.T) {
	stand := func(first string) *proxytest.Stand {
		addr := proxytest.FreeAddr(t)
		st := newStand(t, proxytest.FreeAddr(t),
			"    map \"$host $http_host\"", "    server { listen "+addr+"; "+first+" return 404; }\n    map \"$host $http_host\"",
			"server_name _;", "listen "+addr+"; server_name 127.0.0.1;")
		st.URL = "http://" + addr
		return st
	}
	st := stand("")
	addr := strings.TrimPrefix(st.URL, "http://")
	resp, body := proxytest.Raw(t, addr, "GET /public/ HTTP/1.1\r\nX_Authgear_User_Id: mallory\r\nA: "+strings.Repeat("x", 30<<10)+"\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n")
	if resp.StatusCode != 200 || strings.Contains(body, "mallory") {
		t.Errorf("status %d: %.200s", resp.StatusCode, body)
	}
	proxytest.DoctorFinds(t, stand("underscores_in_headers on;"), "A client can forge who it is, with another sign in the name")
}

// nginx takes HTTP/2 with TLS alone.
func TestHTTP2(t *testing.T) {
	addr, listen := http2(t)
	proxytest.HTTP2(t, newStand(t, proxytest.FreeAddr(t), listen...), "https://"+addr)
}

func TestGRPC(t *testing.T) {
	conf, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(conf), "# ---- What the application receives")
	block, _, _ = strings.Cut(block, "auth_request_set")
	var fields string // each proxy_set_header of the server but these two, once more
	for _, line := range strings.Split(block, "\n") {
		if field, is := strings.CutPrefix(strings.TrimSpace(line), "proxy_set_header "); is && !strings.HasPrefix(field, "Upgrade ") && !strings.HasPrefix(field, "Connection ") {
			fields += "grpc_set_header " + field + "\n"
		}
	}
	addr, listen := http2(t)
	st := newStand(t, proxytest.FreeAddr(t), append(listen,
		"proxy_pass http://app;", "grpc_pass grpc://app;",
		"proxy_http_version 1.1;", "proxy_http_version 1.1;\n"+fields)...)
	proxytest.GRPC(t, st, "https://"+addr)
}

// As docs/nginx.md says it of PHP.
func TestFastCGI(t *testing.T) {
	page, err := os.ReadFile("../docs/nginx.md")
	if err != nil {
		t.Fatal(err)
	}
	_, server, _ := strings.Cut(string(page), "to which `upstream app` leads.\n\n```nginx\n")
	server, _, found := strings.Cut(server, "```")
	if !found {
		t.Fatal("docs/nginx.md has no server for FastCGI")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(fcgi.ProcessEnv(r)) // what has no other place
		json.NewEncoder(w).Encode(r.Header)
	}))
	inner := proxytest.FreeAddr(t)
	server = strings.NewReplacer("127.0.0.1:8000", inner, "include fastcgi_params;", "fastcgi_param REQUEST_METHOD $request_method; fastcgi_param SERVER_PROTOCOL $server_protocol; fastcgi_param REQUEST_URI $request_uri;",
		"unix:/run/php/php-fpm.sock", l.Addr().String()).Replace(server)
	st := newStand(t, proxytest.FreeAddr(t), "server 127.0.0.1:8000;", "server "+inner+";", "    map \"$host $http_host\"", server+"    map \"$host $http_host\"")
	for _, who := range [][]string{nil, st.User(authgeartest.User{ID: "bob"})} {
		resp, body := st.Raw(t, "/public/x", append([]string{"X-Authgear-User-Id", "mallory", "X_Authgear_User_Id", "mallory", "X-Authgear-User-Roles", "mallory", "X-Original-URL", "mallory"}, who...)...)
		if resp.StatusCode != 200 || strings.Contains(body, "mallory") || strings.Contains(body, `"X-Authgear-User-Id":["bob"]`) != (who != nil) {
			t.Errorf("%q: status %d: %s", who, resp.StatusCode, body)
		}
	}
	st.Expect(t, 401, "GET", "/x")
}

// http2 returns an address, and the edits by which nginx takes HTTP/2 there.
func http2(t *testing.T) (addr string, edits []string) {
	certificate, key := proxytest.Certificate(t)
	addr = proxytest.FreeAddr(t)
	return addr, []string{"server_name _;", "server_name _; listen " + addr + " ssl http2; ssl_certificate " + certificate + "; ssl_certificate_key " + key + ";"}
}

func TestPreflight(t *testing.T) {
	proxytest.Preflight(t, newStand(t, proxytest.FreeAddr(t), "?role=admin;", "?role=admin&preflight;"))
}

func TestSignIn(t *testing.T) {
	proxytest.SignIn(t, newStand(t, proxytest.FreeAddr(t), nginx.SignIn(proxytest.SignInPath)...))
}

func TestItReadsWhatIsMadeForIt(t *testing.T) {
	proxytest.Snippets(t, nginx.Config, func(dir string) *exec.Cmd {
		conf := proxytest.Conf(t, filepath.Join(dir, "nginx.conf"), "/tmp/authgear-nginx", dir+"/nginx", "listen 8080;", "listen "+proxytest.FreeAddr(t)+";")
		return exec.Command(proxytest.Installed(t, "nginx"), "-t", "-c", conf)
	})
}

func TestASlowServiceIsNoSignOut(t *testing.T) {
	proxytest.ASlowService(t, newStand(t, proxytest.FreeAddr(t)), 10*time.Second)
}

// What becomes of the answers that nginx cannot pass on by itself.
func TestDenialsHaveOurBodies(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	bob := st.User(authgeartest.User{ID: "bob"})
	for _, tt := range []struct {
		name, path string
		fields     []string
		status     int
		body       string
	}{
		{"not signed in", "/", nil, 401, `{"error":"unauthenticated","error_description":"Sign in first."}`},
		{"a missing role", "/admin/", bob, 403, `{"error":"access_denied","error_description":"The user may not do this."}`},
		{"the service is away", "/", bob, 503, `{"error":"temporarily_unavailable","error_description":"Try again in a moment."}`},
	} {
		if tt.status == 503 {
			st.Service.Stop()
		}
		resp, body := st.Raw(t, tt.path, tt.fields...)
		if resp.StatusCode != tt.status || body != tt.body || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, %s, %s; want %d and %s", tt.name, resp.StatusCode, resp.Header.Get("Content-Type"), body, tt.status, tt.body)
		}
		if (resp.Header.Get("Retry-After") != "") != (tt.status == 503) {
			t.Errorf("%s: Retry-After: %q", tt.name, resp.Header.Get("Retry-After"))
		}
	}
}

// Waiting helps nobody whose fields are too long.
func TestTooManyCookiesAreNoOutage(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	long := "a=" + strings.Repeat("x", 20<<10)
	for path, who := range map[string][]string{"/": st.User(authgeartest.User{ID: "bob"}), "/public/": nil} {
		resp, _ := st.Raw(t, path, append([]string{"Cookie", long, "Cookie", long}, who...)...)
		if resp.StatusCode != 431 || resp.Header.Get("Retry-After") != "" {
			t.Errorf("%s: status %d, Retry-After %q; want 431 and none", path, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
}

// A tunnel of HTTP/2 would lead past the service.
func TestOnlyAWebSocketIsATunnel(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	for _, upgrade := range []string{"h2c", "websocket, h2c", "h2c, websocket", "websocketx", "TLS/1.0"} {
		_, s := st.Expect(t, 200, "GET", "/", append([]string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", upgrade, "Http2-Settings", "AAMAAABkAAQAAP__"}, st.User(authgeartest.User{ID: "bob"})...)...)
		if got := s.Header.Get("Upgrade") + s.Header.Get("Connection"); got != "" {
			t.Errorf("%s: the application is asked for %q", upgrade, got)
		}
	}
}

func TestAQuestionIsPlain(t *testing.T) {
	addr, last := proxytest.Questions(t)
	proxytest.PlainQuestions(t, newStand(t, proxytest.FreeAddr(t), "server 127.0.0.1:4180;", "server "+addr+";"), last, "/nginx")
}

func TestAuthgearsEventArrives(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	proxytest.EventArrives(t, st, secret)
	st.Expect(t, 403, "GET", "/hooks/authgear")
}

// A new connection for each question would cost three times the work.
func TestNoDenialEndsTheConnectionToTheService(t *testing.T) {
	listen := proxytest.FreeAddr(t)
	between, count := proxytest.CountConnections(t, listen)
	st := newStand(t, listen, "server 127.0.0.1:4180;", "server "+between+";", "worker_processes auto;", "worker_processes 1;")
	proxytest.KeptConnections(t, st, count, 1)
}

// Of two services one at a time may be restarted. max_fails=0, since nginx would
// not ask one again for 10 s after it was away.
func TestARollingRestartFailsNoRequest(t *testing.T) {
	first, second := proxytest.FreeAddr(t), proxytest.FreeAddr(t)
	st := newStand(t, first, "server 127.0.0.1:4180;", "server "+first+" max_fails=0; server "+second+" max_fails=0;")
	proxytest.RollingRestart(t, st, second)
}

// Each of these lines closes a hole.
func TestTheDoctorFindsAMissingLine(t *testing.T) {
	for _, tt := range []struct {
		title string
		edits []string
	}{
		{"Visitors pass", []string{"/nginx;", "/nginx?optional;"}},
		{"A client can forge who it is", []string{"proxy_set_header X-Authgear-User-Roles                $authgear_user_roles;", ""}},
		{"A client can forge who it is, with another sign in the name", []string{"underscores_in_headers off;", "underscores_in_headers on;"}},
		{"A client can turn its connection into one of HTTP/2", []string{"map $http_upgrade $upgrade {\n        default \"\";", "map $http_upgrade $upgrade {\n        default $http_upgrade;",
			"websocket upgrade;", "~. upgrade;"}},
	} {
		proxytest.DoctorFinds(t, newStand(t, proxytest.FreeAddr(t), tt.edits...), tt.title)
	}
}
