package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/caddy"
	"authgear-forward-auth/envoy"
	"authgear-forward-auth/haproxy"
	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/webhook"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/resolver"
	"authgear-forward-auth/traefik"
)

// A town is the people who may come, by their credentials. It is an Authgear that never
// changes, so what is remembered of it must be what it says.
type town struct {
	jwt   *resolver.JWT
	known map[resolver.Credential]*resolver.Session
	jwts  []string // real ones, that pass
}

// newTown has real tokens of a real Authgear, and some people with other credentials.
func newTown(f *testing.F) *town {
	lab, _ := authgeartest.RecordedKeys()
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(lab) }))
	f.Cleanup(issuer.Close)
	const origin, century = "http://localhost:23000", 100 * 365 * 24 * time.Hour // the tokens are old
	t := &town{jwt: &resolver.JWT{Issuer: origin, Audiences: []string{origin, "https://api.example.com"}, Skew: century, Keys: resolver.NewKeys(issuer.URL, time.Second, func(error) {})}}
	user := func(id string, yes resolver.Fact, roles string) *resolver.Session {
		return &resolver.Session{UserID: id, Anonymous: 3 - yes, Verified: yes, CanReauthenticate: yes, Roles: roles}
	}
	t.known = map[resolver.Credential]*resolver.Session{
		{Slot: resolver.Bearer, Value: "opaque-ada"}:         user("ada", resolver.True, "admin,editor"),
		{Slot: resolver.AppAccessToken, Value: "opaque-ada"}: user("ada", resolver.True, "admin,editor"),
		{Slot: resolver.AppSession, Value: "app-bob"}:        user("bob", resolver.False, ""),
		{Slot: resolver.IDPSession, Value: "idp-eve"}:        user("eve", resolver.True, "editor"),
	}
	for _, r := range authgeartest.Recordings() {
		for _, field := range r.Header {
			token, found := strings.CutPrefix(field[1], "Bearer ")
			if found && !slices.Contains(t.jwts, token) && t.who(resolver.Credential{Slot: resolver.Bearer, Value: token}) != nil {
				t.jwts = append(t.jwts, token)
			}
		}
	}
	if len(t.jwts) < 20 {
		f.Fatalf("%d real tokens pass, want 20", len(t.jwts))
	}
	return t
}

// who returns whose the credential is.
func (t *town) who(c resolver.Credential) *resolver.Session {
	if s := t.known[c]; s != nil || !c.IsJWT() {
		return s
	}
	s, err := t.jwt.Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{c}})
	if err != nil {
		return nil
	}
	return s
}

// Resolve answers as Authgear's resolver does.
func (t *town) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	for _, one := range c.List {
		if s := t.who(one); s != nil && !s.Machine {
			confirmed := *s
			confirmed.Confirmed = time.Now()
			return &confirmed, nil
		}
	}
	if last := c.List[len(c.List)-1]; last.Slot == resolver.IDPSession {
		return nil, &resolver.InvalidError{Reason: resolver.SessionInvalid, ClearCookie: "session=; Path=/; HttpOnly"}
	}
	return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
}

// reads returns whom Authgear would find in the fields of a request, as net/http reads
// them: contract §1.2. An Authorization field that can be read in two ways counts for
// nothing.
func (t *town) reads(r *http.Request, machines bool) *resolver.Session {
	var list []resolver.Credential
	if lines := r.Header.Values("Authorization"); len(lines) == 1 && !strings.Contains(lines[0], ",") {
		if scheme, token, _ := strings.Cut(lines[0], " "); strings.EqualFold(scheme, "Bearer") {
			list = append(list, resolver.Credential{Slot: resolver.Bearer, Value: token})
		}
	}
	for _, want := range []resolver.Credential{{Slot: resolver.AppSession, Value: "app_session"}, {Slot: resolver.AppAccessToken, Value: "app_access_token"},
		{Slot: resolver.AppAccessToken, Value: "spa"}, {Slot: resolver.IDPSession, Value: "session"}} {
		if c, err := r.Cookie(want.Value); err == nil {
			list = append(list, resolver.Credential{Slot: want.Slot, Value: c.Value})
		}
	}
	for _, one := range list {
		if s := t.who(one); s != nil && (machines || !s.Machine) {
			return s
		}
	}
	return nil
}

// service is the main listener's handler, with all that stands behind it.
func (t *town) service(f *testing.F, log io.Writer) *fasthttp.Server {
	set := settings{Mode: hybrid, Confirm: after, MaxStaleness: 30 * time.Second, ClockSkew: t.jwt.Skew, ResolverTimeout: time.Second, CacheBytes: 8 << 20}
	remembered, err := cache.New(set.remember(t.jwt, resolver.NewGuard(t, func(error) {}), nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(remembered.Close)
	who := sessions{remembered, set.Mode, nil}
	gate := &forwardauth.Gate{
		Resolver: who.forRule, Reader: resolver.NewReader("", []string{"spa"}), Trusted: forwardauth.Trusted{netip.MustParsePrefix("10.0.0.0/8")},
		Log: zerolog.New(log), Decided: forwardauth.All, ProxyCache: 5 * time.Second, MaxStaleness: set.MaxStaleness,
	}
	paths := routes{envoy.Prefix: gate.Handler(envoy.Dialect), "/forget": gate.Forget(who.forget),
		hookPath: webhook.Handler(func() []string { return []string{"0123456789abcdef0123456789abcdef"} }, who.forgetUser, func(_, _ string) {})}
	for _, d := range []forwardauth.Dialect{nginx.Dialect, traefik.Dialect, caddy.Dialect, haproxy.Dialect} {
		paths["/"+d.Name] = gate.Handler(d)
	}
	return forwardauth.NewServer(paths.serve, forwardauth.Body{Path: hookPath, Most: webhook.MaxBody})
}

// A wire is a connection on which everything has been sent already.
type wire struct {
	net.Conn
	in   io.Reader
	out  bytes.Buffer
	peer net.Addr
}

func (w *wire) Read(b []byte) (int, error)       { return w.in.Read(b) }
func (w *wire) Write(b []byte) (int, error)      { return w.out.Write(b) }
func (w *wire) RemoteAddr() net.Addr             { return w.peer }
func (w *wire) LocalAddr() net.Addr              { return w.peer }
func (w *wire) Close() error                     { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// logged are the lines of the log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logged) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
}

// check tests that each event is one line of JSON, whatever a client sent.
func (l *logged) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		text, found := strings.CutSuffix(line, "\n")
		if !found || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || !json.Valid([]byte(text)) {
			t.Errorf("the log has %q", line)
		}
	}
}
