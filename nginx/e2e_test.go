package nginx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// seen is what the application was handed.
type seen struct {
	Method, URI, SHA256 string
	Header              http.Header
}

// upstream shows the identity that it was handed.
func upstream(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			http.Error(w, "the application's own error", http.StatusInternalServerError)
			return
		}
		if r.Header.Get("Upgrade") == "websocket" {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		hash := sha256.New()
		io.Copy(hash, r.Body)
		json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, hex.EncodeToString(hash.Sum(nil)), r.Header})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a program until the test ends, or until the returned function is
// called, and waits until it accepts connections at addr.
func start(t *testing.T, cmd *exec.Cmd, network, addr string) (stop func()) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Signal(os.Interrupt)
			cmd.Wait()
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, out.String())
		}
	})
	for range 200 {
		if c, err := net.Dial(network, addr); err == nil {
			c.Close()
			return stop
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%s does not listen at %s", cmd.Path, addr)
	return nil
}

// stand is nginx with the shipped configuration, the real service, an Authgear
// and an application.
type stand struct {
	authgear     *authgeartest.Server
	url          string
	startService func() (stop func())
	stopService  func()
}

func newStand(t *testing.T, network string) *stand {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx = "/usr/sbin/nginx"; exec.Command(nginx, "-v").Run() != nil {
			t.Fatal("nginx is not installed: `make test` installs it")
		}
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "authgear-forward-auth")
	if out, err := exec.Command("go", "build", "-o", binary, "authgear-forward-auth").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	st := &stand{authgear: authgeartest.Start(t, authgeartest.Options{})}
	service := freeAddr(t)
	listen, server := service, service
	if network == "unix" {
		service = filepath.Join(dir, "auth.sock")
		listen, server = "unix:"+service, "unix:"+service
	}
	admin := freeAddr(t)
	st.startService = func() func() {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), "AUTHGEAR_ENDPOINT="+st.authgear.Origin(), "AUTHGEAR_LISTEN="+listen, "AUTHGEAR_ADMIN_LISTEN="+admin)
		return start(t, cmd, network, service)
	}
	st.stopService = st.startService()

	front := freeAddr(t)
	conf, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for old, replacement := range map[string]string{
		"listen 8080;":           "listen " + front + ";",
		"server 127.0.0.1:8000;": "server " + upstream(t) + ";",
		"server 127.0.0.1:4180;": "server " + server + ";",
		"/tmp/authgear-nginx":    dir + "/nginx",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("nginx.conf has no %q", old)
		}
		text = strings.ReplaceAll(text, old, replacement)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)               // the worker may be another user
	os.Chmod(filepath.Dir(dir), 0o755) // likewise
	start(t, exec.Command(nginx, "-c", file, "-g", "daemon off;"), "tcp", front)
	st.url = "http://" + front
	return st
}

// get asks nginx; the fields are name and value in turn.
func (st *stand) do(t *testing.T, method, path string, body io.Reader, fields ...string) (*http.Response, seen) {
	t.Helper()
	req, err := http.NewRequest(method, st.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, seen{}
	}
	content, _ := io.ReadAll(resp.Body)
	var s seen
	if resp.StatusCode == http.StatusOK && method != http.MethodHead {
		if err := json.Unmarshal(content, &s); err != nil {
			t.Fatalf("the application's answer: %v: %s", err, content)
		}
	}
	return resp, s
}

func (st *stand) expect(t *testing.T, status int, method, path string, fields ...string) (*http.Response, seen) {
	t.Helper()
	resp, s := st.do(t, method, path, nil, fields...)
	if resp.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d", method, path, resp.StatusCode, status)
	}
	return resp, s
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

var forged = []string{
	"X-Authgear-User-Id", "mallory", "X-Authgear-User-Roles", "admin", "x-authgear-user-roles", "admin",
	"X_Authgear_User_Id", "mallory", "X-Authgear_User-Roles", "admin", "X.Authgear.User.Id", "mallory",
	"X-Authgear-Session-Acr", "mallory", "X-Authgear-Session-Valid", "true", "X-Authgear-User-Verified", "true",
	"X-Authgear-Scope", "mallory", "X-Authgear-Client-Id", "mallory", "X-Authgear-Session-Amr", "mallory",
	"X-Authgear-Session-Authenticated-At", "1", "X-Authgear-User-Can-Reauthenticate", "mallory", "X-Authgear-User-Anonymous", "mallory",
}

func TestNginx(t *testing.T) {
	st := newStand(t, "tcp")
	ada := st.authgear.AddUser(authgeartest.User{ID: "ada", Roles: []string{"admin", "editor"}, Verified: true, CanReauthenticate: true})
	bob := st.authgear.AddUser(authgeartest.User{ID: "bob"})
	adas, bobs := bearer(st.authgear.JWT(ada)), bearer(st.authgear.JWT(bob))

	t.Run("no credential is challenged", func(t *testing.T) {
		resp, _ := st.expect(t, 401, "GET", "/")
		if got := resp.Header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Bearer realm="authgear"` {
			t.Errorf("WWW-Authenticate: %q", got)
		}
	})
	t.Run("a JWT passes and the application learns who it is", func(t *testing.T) {
		_, s := st.expect(t, 200, "GET", "/a//b%2e?x=1", adas...)
		for name, want := range map[string]string{"X-Authgear-User-Id": "ada", "X-Authgear-User-Roles": "admin,editor", "X-Authgear-Session-Valid": "true", "X-Authgear-User-Verified": "true"} {
			if got := s.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q once", name, got, want)
			}
		}
		if s.URI != "/a//b%2e?x=1" {
			t.Errorf("the application saw %s", s.URI)
		}
	})
	t.Run("an opaque token passes", func(t *testing.T) {
		_, s := st.expect(t, 200, "GET", "/", bearer(st.authgear.OpaqueToken(bob))...)
		if s.Header.Get("X-Authgear-User-Id") != "bob" {
			t.Errorf("the application saw %v", s.Header)
		}
	})
	t.Run("a session cookie passes, behind a planted one", func(t *testing.T) {
		st.expect(t, 200, "GET", "/", "Cookie", "session=\xc3\xa4; =x;\tsession="+st.authgear.SessionCookie(ada)+"; session=other")
	})
	t.Run("an expired token is challenged", func(t *testing.T) {
		old := st.authgear.JWT(ada, func(_, c map[string]any) { c["exp"] = time.Now().Unix() - 60 })
		resp, _ := st.expect(t, 401, "GET", "/", bearer(old)...)
		if got := resp.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
			t.Errorf("WWW-Authenticate: %q", got)
		}
	})
	t.Run("a role opens its route and nobody else's", func(t *testing.T) {
		st.expect(t, 200, "GET", "/admin/", adas...)
		st.expect(t, 403, "GET", "/admin/", bobs...)
		st.expect(t, 401, "GET", "/admin/")
	})
	t.Run("no forged field reaches the application", func(t *testing.T) {
		for path, who := range map[string][]string{"/": bobs, "/public/": nil} {
			_, s := st.expect(t, 200, "GET", path, append(append([]string{}, forged...), who...)...)
			for name, values := range s.Header {
				if strings.Contains(strings.Join(values, ","), "mallory") || strings.Contains(strings.ToLower(name), "roles") {
					t.Errorf("%s: the application saw %s: %q", path, name, values)
				}
			}
		}
		_, s := st.expect(t, 200, "GET", "/", append([]string{"Connection", "X-Authgear-User-Id"}, bobs...)...)
		if s.Header.Get("X-Authgear-User-Id") != "bob" {
			t.Errorf("Connection took the identity away")
		}
	})
	t.Run("a dead session cookie is cleared", func(t *testing.T) {
		resp, _ := st.expect(t, 401, "GET", "/", "Cookie", "session=dead.cookie")
		if got := resp.Header.Values("Set-Cookie"); len(got) != 1 || !strings.HasPrefix(got[0], "session=; Path=/; Expires=Thu, 01 Jan 1970") {
			t.Errorf("Set-Cookie: %q", got)
		}
	})
	t.Run("16 KiB of cookies pass", func(t *testing.T) {
		st.expect(t, 200, "GET", "/", append([]string{"Cookie", "a=" + strings.Repeat("x", 16<<10)}, bobs...)...)
	})
	t.Run("a POST arrives whole", func(t *testing.T) {
		body := bytes.Repeat([]byte("x"), 1<<20-1)
		resp, s := st.do(t, "POST", "/", bytes.NewReader(body), append([]string{"Expect", "100-continue"}, bobs...)...)
		if sum := sha256.Sum256(body); resp.StatusCode != 200 || s.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("status %d, the application saw %+v", resp.StatusCode, s)
		}
		if resp, _ := st.do(t, "POST", "/", bytes.NewReader(body)); resp.StatusCode != 401 {
			t.Errorf("without a credential: status %d, want 401", resp.StatusCode)
		}
	})
	t.Run("HEAD and OPTIONS", func(t *testing.T) {
		st.expect(t, 200, "HEAD", "/", bobs...)
		st.expect(t, 200, "OPTIONS", "/", bobs...)
		st.expect(t, 401, "OPTIONS", "/")
	})
	t.Run("a WebSocket opens for a user alone", func(t *testing.T) {
		upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
		st.expect(t, 101, "GET", "/", append(upgrade, bobs...)...)
		st.expect(t, 401, "GET", "/", upgrade...)
	})
	t.Run("two Authorization lines never pass", func(t *testing.T) {
		if resp, _ := st.do(t, "GET", "/", nil, append(append([]string{}, bobs...), adas...)...); resp.StatusCode == 200 {
			t.Error("they pass")
		}
	})
	t.Run("the application's own error stays", func(t *testing.T) {
		st.expect(t, 500, "GET", "/broken", bobs...)
	})
	t.Run("while Authgear is down nobody is signed out", func(t *testing.T) {
		st.authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
		defer st.authgear.Fail("resolver", nil)
		st.expect(t, 200, "GET", "/", bobs...)
		resp, _ := st.expect(t, 503, "GET", "/", bearer(st.authgear.OpaqueToken(bob))...)
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		st.expect(t, 503, "GET", "/public/", bearer("unseen")...)
	})
	t.Run("without the service nobody passes and nobody is signed out", func(t *testing.T) {
		st.stopService()
		st.expect(t, 503, "GET", "/", bobs...)
		st.expect(t, 503, "GET", "/public/")
		st.stopService = st.startService()
		st.expect(t, 200, "GET", "/", bobs...)
	})
}

func TestNginxOverAUnixSocket(t *testing.T) {
	st := newStand(t, "unix")
	ada := st.authgear.AddUser(authgeartest.User{ID: "ada"})
	st.expect(t, 401, "GET", "/")
	st.expect(t, 200, "GET", "/", bearer(st.authgear.JWT(ada))...)
	if n := st.authgear.ResolverCalls(); n != 0 {
		t.Errorf("%d resolver calls for a JWT", n)
	}
}
