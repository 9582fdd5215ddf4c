package proxytest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// Questions runs a stand-in for the service that lets everybody pass. It returns
// the address for the proxy, and what it was asked last.
func Questions(t testing.TB) (addr string, last func() *http.Request) {
	var asked atomic.Pointer[http.Request]
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked.Load
}

// PlainQuestions checks that a proxy which asks at that path asks in its own words:
// what the client sent shows in credentials and in what tells of the original
// request, alone.
func PlainQuestions(t *testing.T, st *Stand, last func() *http.Request, path string) {
	for of, query := range map[string]string{"/x": "", "/admin/x": "role=admin", "/public/x": "optional"} {
		for _, more := range [][]string{
			{"Connection", "Upgrade", "Upgrade", "websocket"},
			{"Expect", "100-continue"},
			{"X-Authgear-User-Id", "mallory", "X-Forwarded-Uri", "/other", "X-Forwarded-Method", "PUT", "X-Original-Url", "http://other/", "X-Original-Method", "PUT"},
		} {
			uri := of + "?optional&role=x"
			resp, err := st.ask("POST", uri, strings.NewReader("body"), append(more, Bearer("token")...))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			q := last()
			if q.Method != "GET" || q.URL.Path != path || q.URL.RawQuery != query || q.ContentLength != 0 || len(q.TransferEncoding) > 0 {
				t.Errorf("%s: asked by %s %s, Content-Length %d, %q", of, q.Method, q.RequestURI, q.ContentLength, q.TransferEncoding)
			}
			for _, name := range []string{"Connection", "Upgrade", "Expect", "X-Authgear-User-Id"} {
				if strings.HasPrefix(name, "X-") && st.PassesUnknown {
					continue // to the service, which does not read it
				}
				if values := q.Header.Values(name); len(values) > 0 {
					t.Errorf("%s: asked with %s: %q", of, name, values)
				}
			}
			told := map[string]string{"Authorization": "Bearer token", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Method": "POST", "X-Forwarded-Uri": uri}
			if path == "/nginx" {
				told = map[string]string{"Authorization": "Bearer token", "X-Forwarded-For": "127.0.0.1", "X-Original-Method": "POST", "X-Original-Url": st.URL + uri}
			}
			for name, want := range told {
				if values := q.Header.Values(name); len(values) != 1 || values[0] != want {
					t.Errorf("%s: asked with %s: %q, want %q", of, name, values, want)
				}
			}
		}
	}
	Found(t, questions, "ok")
}

// ASlowService checks that nobody passes and nobody is signed out while the service
// hangs, and that the proxy gives up by itself.
func ASlowService(t *testing.T, st *Stand, within time.Duration) {
	bob := st.bob()
	st.Expect(t, 200, "GET", "/", bob...)
	st.Service.Signal(syscall.SIGSTOP)
	defer st.Service.Signal(syscall.SIGCONT)
	alive := http.Client{Timeout: time.Second}
	Eventually(t, "the service hangs", func() bool {
		resp, err := alive.Get("http://" + st.Service.Admin + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	begin := time.Now()
	st.Expect(t, st.Away, "GET", "/", bob...)
	if took := time.Since(begin); took > within {
		t.Errorf("it took %v, want %v at most", took, within)
	}
	Found(t, slow, fmt.Sprintf("%s, after %s at most", st.away(), within))
}

// EventArrives checks that Authgear's event reaches the service through the proxy.
// The service has the secret, and an hour to go until it asks again.
func EventArrives(t *testing.T, st *Stand, secret string) {
	st.Authgear.Webhook(st.URL+"/hooks/authgear", secret)
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada"})
	who := Bearer(st.Authgear.OpaqueToken(ada))
	st.Expect(t, 200, "GET", "/", who...)
	st.Authgear.Disable(ada)
	Eventually(t, "the user is out", func() bool {
		resp, _ := st.Do(t, "GET", "/", nil, who...)
		return resp.StatusCode == 401
	})
	if resp, _ := st.Do(t, "POST", "/hooks/authgear", nil); resp.StatusCode != 401 {
		t.Errorf("an unsigned event: status %d, want 401", resp.StatusCode)
	}
	// What else the service serves is for the application alone.
	for _, path := range []string{"/forget", "/hooks/authgear/../../forget", "/hooks/../forget"} {
		st.Expect(t, 401, "POST", path)
	}
	nothingIsSmuggled(t, st)
	Found(t, event, "ok")
}

// Whatever a stranger sends as an event, the proxy's next question is its own.
func nothingIsSmuggled(t *testing.T, st *Stand) {
	form := "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n" + strings.Repeat("\r\n", 8000)
	for _, mode := range []string{"nginx", "traefik", "caddy", "haproxy"} {
		req, err := http.NewRequest("POST", st.URL+"/hooks/authgear", strings.NewReader(form+"GET /"+mode+"?optional HTTP/1.1\r\nX-Swallow: "))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		for range 8 { // a proxy may keep several connections
			resp, err := http.DefaultTransport.RoundTrip(req.Clone(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			req.Body, _ = req.GetBody()
			st.Expect(t, 401, "GET", "/admin/")
		}
	}
}

// KeptConnections checks that a proxy asks over connections that it keeps, whatever
// the answer: at most that many were opened.
func KeptConnections(t *testing.T, st *Stand, count func() int64, most int64) {
	bob := st.bob()
	for _, tt := range []struct {
		name, method, path string
		fields             []string
		status             int
	}{
		{"no credential", "GET", "/", nil, 401},
		{"a bad token", "GET", "/", Bearer("eyJ.bad.token"), 401},
		{"no credential, and a body", "POST", "/", nil, 401},
		{"a missing role", "GET", "/admin/", bob, 403},
		{"a user", "GET", "/", bob, 200},
		{"Authgear is away", "GET", "/", Bearer("unseen"), 503},
	} {
		if tt.status == 503 {
			st.Authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
		}
		for range 50 {
			resp, _ := st.Do(t, tt.method, tt.path, strings.NewReader(strings.Repeat("x", 1000)), tt.fields...)
			if resp.StatusCode != tt.status {
				t.Fatalf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
			}
		}
		if n := count(); n > most {
			t.Errorf("%s: %d connections to the service so far, want %d at most", tt.name, n, most)
		}
	}
	Found(t, kept, "ok")
}

// RollingRestart checks that no request fails while two services are restarted,
// one at a time: that of the stand, and another, which the proxy asks at that
// address.
func RollingRestart(t *testing.T, st *Stand, another string) {
	other := NewService(t, "AUTHGEAR_ENDPOINT="+st.Authgear.Origin(), "AUTHGEAR_LISTEN="+another, "AUTHGEAR_RESOLVER_TIMEOUT=30s")
	other.Start()
	var restarted atomic.Bool
	var crowd sync.WaitGroup
	crowd.Go(func() { st.Crowd(t, func() bool { return !restarted.Load() }, st.bob()...) })
	for _, service := range []*Service{st.Service, other, st.Service, other} {
		service.Stop()
		service.Start()
	}
	restarted.Store(true)
	crowd.Wait()
	Found(t, rolling, "ok")
}
