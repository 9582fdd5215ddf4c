package nginx_test

import (
	"bytes"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

const secret = "0123456789abcdef0123456789abcdef"

// newStand runs nginx with the shipped configuration, and all that stands
// around it. listen is the service's address; edits are further edits of the
// configuration.
func newStand(t *testing.T, listen string, edits ...string) *proxytest.Stand {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx = "/usr/sbin/nginx"; exec.Command(nginx, "-v").Run() != nil {
			t.Fatal("nginx is not installed: `make test` installs it")
		}
	}
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+listen,
		"AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_WEBHOOK_SECRET="+secret)
	service.Start()

	front := proxytest.FreeAddr(t)
	conf := proxytest.Conf(t, "nginx.conf", append(edits,
		"listen 8080;", "listen "+front+";",
		"server 127.0.0.1:8000;", "server "+proxytest.Upstream(t)+";",
		"server 127.0.0.1:4180;", "server "+listen+";",
		"/tmp/authgear-nginx", proxytest.Dir(t)+"/nginx",
	)...)
	proxytest.Start(t, exec.Command(nginx, "-c", conf, "-g", "daemon off;"), front)
	return &proxytest.Stand{URL: "http://" + front, Authgear: authgear, Service: service, Away: 503, PassesUnknown: true}
}

func TestNginx(t *testing.T) {
	proxytest.Run(t, newStand(t, proxytest.FreeAddr(t)))
}

func TestNginxOverAUnixSocket(t *testing.T) {
	proxytest.Run(t, newStand(t, "unix:"+filepath.Join(proxytest.Dir(t), "auth.sock")))
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

// With an hour to go until the next confirmation, only the event can tell.
func TestAuthgearsEventArrives(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t))
	st.Authgear.Webhook(st.URL+"/hooks/authgear", secret)
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada"})
	who := proxytest.Bearer(st.Authgear.OpaqueToken(ada))
	st.Expect(t, 200, "GET", "/", who...)
	st.Authgear.Disable(ada)
	proxytest.Eventually(t, "the user is out", func() bool {
		resp, _ := st.Do(t, "GET", "/", nil, who...)
		return resp.StatusCode == 401
	})
	for method, status := range map[string]int{"POST": 401, "GET": 403} { // unsigned
		if resp, _ := st.Do(t, method, "/hooks/authgear", nil); resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", method, resp.StatusCode, status)
		}
	}
}

// A new connection for each question would cost three times the work.
func TestNoDenialEndsTheConnectionToTheService(t *testing.T) {
	listen := proxytest.FreeAddr(t)
	between, count := proxytest.CountConnections(t, listen)
	st := newStand(t, listen, "server 127.0.0.1:4180;", "server "+between+";", "worker_processes auto;", "worker_processes 1;")
	bob := st.User(authgeartest.User{ID: "bob"})
	down := func(w http.ResponseWriter, r *http.Request) { http.Error(w, "down", 500) }
	for _, tt := range []struct {
		name, method, path string
		fields             []string
		status             int
	}{
		{"no credential", "GET", "/", nil, 401},
		{"a bad token", "GET", "/", proxytest.Bearer("eyJ.bad.token"), 401},
		{"a body that is not wanted", "POST", "/", nil, 401},
		{"a missing role", "GET", "/admin/", bob, 403},
		{"a user", "GET", "/", bob, 200},
		{"Authgear is away", "GET", "/", proxytest.Bearer("unseen"), 503},
	} {
		if tt.status == 503 {
			st.Authgear.Fail("resolver", down)
		}
		for range 50 {
			resp, _ := st.Do(t, tt.method, tt.path, bytes.NewReader(make([]byte, 1000)), tt.fields...)
			if resp.StatusCode != tt.status {
				t.Fatalf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
			}
		}
		if n := count(); n != 1 {
			t.Errorf("%s: %d connections to the service so far, want 1", tt.name, n)
		}
	}
}

// Of two services one at a time may be restarted. max_fails=0, since nginx would
// not ask one again for 10 s after it was away.
func TestARollingRestartFailsNoRequest(t *testing.T) {
	first, second := proxytest.FreeAddr(t), proxytest.FreeAddr(t)
	st := newStand(t, first, "server 127.0.0.1:4180;", "server "+first+" max_fails=0; server "+second+" max_fails=0;")
	other := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+st.Authgear.Origin(), "AUTHGEAR_LISTEN="+second, "AUTHGEAR_RESOLVER_TIMEOUT=30s")
	other.Start()
	var restarted atomic.Bool
	var crowd sync.WaitGroup
	crowd.Go(func() {
		st.Crowd(t, func() bool { return !restarted.Load() }, st.User(authgeartest.User{ID: "bob"})...)
	})
	for _, service := range []*proxytest.Service{st.Service, other, st.Service, other} {
		service.Stop()
		service.Start()
	}
	restarted.Store(true)
	crowd.Wait()
}

// Each of these lines closes a hole.
func TestTheDoctorFindsAMissingLine(t *testing.T) {
	for _, tt := range []struct {
		title string
		edits []string
	}{
		{"Visitors pass", []string{"auth_request /_authgear;", "auth_request /_authgear_optional;"}},
		{"A client can forge who it is", []string{"proxy_set_header X-Authgear-User-Roles                $authgear_user_roles;", ""}},
		{"A client can forge who it is, with another sign in the name", []string{"underscores_in_headers off;", "underscores_in_headers on;"}},
		{"A client can turn its connection into one of HTTP/2", []string{"map $http_upgrade $upgrade {\n        default \"\";", "map $http_upgrade $upgrade {\n        default $http_upgrade;",
			"websocket upgrade;", "~. upgrade;"}},
	} {
		proxytest.DoctorFinds(t, newStand(t, proxytest.FreeAddr(t), tt.edits...), tt.title)
	}
}
