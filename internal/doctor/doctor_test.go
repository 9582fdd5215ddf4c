package doctor_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"authgear-forward-auth/internal/doctor"
)

// A stranger learns nothing from the echo.
func TestTheEchoKnowsTheDoctorAlone(t *testing.T) {
	echo := httptest.NewServer(new(doctor.Echo))
	defer echo.Close()
	for _, nonce := range []string{"", "x"} {
		req, err := http.NewRequest("GET", echo.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(doctor.NonceField, nonce)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 404 || strings.Contains(string(body), "doctor") {
			t.Errorf("nonce %q: status %d, %s; want 404", nonce, resp.StatusCode, body)
		}
	}
}

// Where the route does not lead to the doctor, the error says how it would.
func TestWithoutARouteThereIsNoReport(t *testing.T) {
	for _, tt := range []struct {
		status       int
		server, want string
	}{
		{200, "", "traefik  services:"},
		{404, "nginx/1.22", "upstream app { server 127.0.0.1:4182; }"},
		{502, "", "haproxy  server app 127.0.0.1:4182"},
		{500, "Caddy", "  reverse_proxy 127.0.0.1:4182"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", tt.server)
			w.WriteHeader(tt.status)
		}))
		defer s.Close()
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = doctor.Examine(t.Context(), new(doctor.Echo), doctor.Options{URL: u})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: %v, want %s", tt.status, err, tt.want)
		}
	}
}

// A job that examines a proxy again and again must not be content for ever with a token
// that has long expired.
func TestATokenThatDoesNotPassIsAnError(t *testing.T) {
	all := func(*http.Request) bool { return true }
	for _, tt := range []struct {
		name, want string
		optional   bool
		make       func(*front)
	}{
		{"it has expired", "the answer is 401 Unauthorized. Most likely it has expired", false, func(*front) {}},
		{"a role lacks", "the answer is 403 Forbidden. Most likely its user lacks", false, denied(403)},
		{"a sign-in", "the answer is 302 Found. Most likely it has expired", false, denied(302)},
		{"Authgear is away", "the answer is 503 Service Unavailable. Most likely the service", false, func(f *front) {
			f.around = func(h http.HandlerFunc) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "" {
						w.WriteHeader(503)
						return
					}
					h(w, r)
				})
			}
		}},
		{"visitors pass, and it does not", "the answer is 401", false, func(f *front) {
			f.opens = func(r *http.Request) bool { return r.Header.Get("Authorization") == "" }
		}},
		{"it passes as a visitor", "X-Authgear-Session-Valid: false", true, func(f *front) {
			f.isUser, f.tell = all, func(_ *http.Request, out http.Header) { out.Set("X-Authgear-Session-Valid", "false") }
		}},
	} {
		f := newFront()
		tt.make(f)
		echo, at := f.serve(t)
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		report, err := doctor.Examine(t.Context(), echo, doctor.Options{URL: u, Token: "bad", Optional: tt.optional})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %s", tt.name, report, err, tt.want)
		}
	}
}

// A request that did not arrive shows nothing if none arrives any more.
func TestAProxyThatChangesIsNotExamined(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *front, after func() bool)
		want   string
	}{
		{"the token expires", func(f *front, after func() bool) {
			f.isUser = func(r *http.Request) bool { return hasToken(r) && !after() }
		}, "the access token is good no more"},
		{"a limit is reached", func(f *front, after func() bool) {
			f.opens = func(*http.Request) bool { return !after() }
			f.denied = func(w http.ResponseWriter) { w.WriteHeader(429) }
		}, "429"},
		{"visitors pass no more", func(f *front, after func() bool) {
			f.opens = func(*http.Request) bool { return !after() }
		}, "a visitor's request fares otherwise"},
	} {
		n := 0
		f := newFront()
		tt.change(f, func() bool { n++; return n > 40 })
		echo, at := f.serve(t)
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := doctor.Examine(t.Context(), echo, doctor.Options{URL: u, Token: token}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestHTTPS(t *testing.T) {
	echo := new(doctor.Echo)
	app := httptest.NewServer(echo)
	defer app.Close()
	to, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(to))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doctor.Examine(t.Context(), echo, doctor.Options{URL: u}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	report := examine(t, echo, doctor.Options{TLS: &tls.Config{InsecureSkipVerify: true}}, s.URL)
	if finding(report, visitorsTitle).Title == "" {
		t.Errorf("visitors pass, but the doctor finds %v", report.Findings)
	}
}

func TestCures(t *testing.T) {
	f := newFront()
	f.opens = func(*http.Request) bool { return true }
	echo, at := f.serve(t)
	for _, proxy := range append(doctor.Proxies(), "") {
		report := examine(t, echo, doctor.Options{Proxy: proxy}, at)
		n := 1
		if proxy == "" {
			n = len(doctor.Proxies())
		}
		if got := report.Findings[0].Cures(report.Proxy); len(got) != n {
			t.Errorf("%q: %q, want %d lines", proxy, got, n)
		}
	}
}
