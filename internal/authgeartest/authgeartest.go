// Package authgeartest is a small Authgear for tests and demonstrations: real
// RSA keys, real RS256 tokens, discovery, the key set and the resolver, with
// the outcomes, header fields and oddities of the recorded server.
package authgeartest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options shape a Server. The zero value means: the public origin is the
// server's own URL, no cookie prefix, no cookie domain, proxies trusted, one
// tenant that answers any Host.
type Options struct {
	// Origin is the public origin, such as "https://auth.example.com".
	Origin string
	// CookiePrefix precedes every cookie name, as http.cookie_prefix does.
	CookiePrefix string
	// CookieDomain is the Domain of cleared cookies, as http.cookie_domain is.
	CookieDomain string
	// NoTrustProxy is TRUST_PROXY=false: forwarded fields are ignored.
	NoTrustProxy bool
	// MultiTenant answers 404 "app not found" for a Host that is not Origin's.
	MultiTenant bool
}

// Kind says where a credential is accepted.
type Kind string

// The kinds of credential.
const (
	Bearer     Kind = "bearer"      // opaque access token: Authorization or the app_access_token cookie
	AppSession Kind = "app_session" // the app_session cookie
	Session    Kind = "session"     // the IdP session cookie
	JTI        Kind = "jti"         // the jti of a JWT access token
)

// User is what the resolver tells of a user. Disabled is the account status: a
// session still resolves, and the answer is "false". Once a user was given to
// AddUser, change it only by Edit.
type User struct {
	ID                string
	Roles             []string
	Verified          bool
	Anonymous         bool
	CanReauthenticate bool
	Disabled          bool
}

type grantKey struct {
	kind  Kind
	value string
}

type grant struct {
	user            *User
	authenticatedAt int64
}

// Server is a small Authgear. It is an http.Handler that serves the main
// endpoints and the resolver at once, and is safe for concurrent use.
type Server struct {
	// Now is the server's clock, time.Now by default. Set it before use.
	Now func() time.Time

	opts   Options
	origin string
	url    string

	mu      sync.Mutex
	grants  map[grantKey]grant
	keys    []signingKey
	jwks    []byte
	fails   map[string]http.HandlerFunc
	resolve int
	fetches int
	last    *http.Request
	hook    hook
}

// New returns a Server that does not listen; its origin is opts.Origin, or
// http://localhost:3000.
func New(opts Options) *Server {
	s := &Server{
		Now:    time.Now,
		opts:   opts,
		grants: map[grantKey]grant{},
		fails:  map[string]http.HandlerFunc{},
	}
	s.setOrigin("http://localhost:3000")
	return s
}

// Start returns a Server that listens on loopback until tb ends. Its origin
// is opts.Origin, or its own URL.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s := New(opts)
	hs := httptest.NewUnstartedServer(s)
	s.url = "http://" + hs.Listener.Addr().String()
	s.setOrigin(s.url)
	hs.Start()
	tb.Cleanup(hs.Close)
	return s
}

func (s *Server) setOrigin(fallback string) {
	s.origin = strings.TrimSuffix(s.opts.Origin, "/")
	if s.origin == "" {
		s.origin = fallback
	}
}

// Origin is the public origin: the iss and aud of tokens.
func (s *Server) Origin() string { return s.origin }

// URL is where a started Server listens, which Options.Origin does not change;
// it is empty for New.
func (s *Server) URL() string { return s.url }

// AddUser returns a user of its own from u, with a random id if it has none.
func (s *Server) AddUser(u User) *User {
	if u.ID == "" {
		u.ID = newUUID()
	}
	u.Roles = append([]string(nil), u.Roles...)
	return &u
}

// Edit changes a user while the server runs: roles, facts, Disabled.
func (s *Server) Edit(u *User, change func(*User)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(u)
}

// Grant makes a given credential good for u, authenticated now.
func (s *Server) Grant(kind Kind, value string, u *User) {
	s.GrantAt(kind, value, u, s.Now())
}

// GrantAt is Grant with the time of authentication; the zero time leaves
// X-Authgear-Session-Authenticated-At out.
func (s *Server) GrantAt(kind Kind, value string, u *User, at time.Time) {
	g := grant{user: u}
	if !at.IsZero() {
		g.authenticatedAt = at.Unix()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[grantKey{kind, value}] = g
}

// OpaqueToken returns a live opaque access token: 32 letters and digits.
func (s *Server) OpaqueToken(u *User) string { return s.grantNew(Bearer, alnum(32), u) }

// SessionCookie returns the value of a live IdP session cookie.
func (s *Server) SessionCookie(u *User) string {
	return s.grantNew(Session, newUUID()+"."+alnum(32), u)
}

// AppSession returns the value of a live app_session cookie.
func (s *Server) AppSession(u *User) string {
	return s.grantNew(AppSession, newUUID()+"."+alnum(32), u)
}

func (s *Server) grantNew(kind Kind, value string, u *User) string {
	s.Grant(kind, value, u)
	return value
}

// Revoke ends that credential alone: an opaque token, a cookie value, a JWT
// (by its jti) or a bare jti.
func (s *Server) Revoke(credential string) {
	jti := jtiOf(credential)
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.grants {
		if k.value == credential || (k.kind == JTI && k.value == jti) {
			delete(s.grants, k)
		}
	}
}

// RevokeUser ends every credential of u.
func (s *Server) RevokeUser(u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revokeUser(u)
}

// Disable disables u as an administrator does: every grant is deleted, so
// that tokens answer nothing and session cookies "false", and stay dead.
func (s *Server) Disable(u *User) {
	s.mu.Lock()
	s.revokeUser(u)
	u.Disabled = true
	s.mu.Unlock()
	s.tell("user.disabled", u)
}

func (s *Server) revokeUser(u *User) {
	for k, g := range s.grants {
		if g.user == u {
			delete(s.grants, k)
		}
	}
}

// Fail makes f answer instead of the "resolver" or the "keys" (discovery and
// the key set), until it is called with nil.
func (s *Server) Fail(kind string, f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[kind] = f
}

// ResolverCalls is the number of requests the resolver got, failed ones too.
func (s *Server) ResolverCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolve
}

// KeyFetches is the number of requests for the key set, failed ones too.
func (s *Server) KeyFetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// LastResolve is a copy of the newest resolver request, without its body; nil
// before the first.
func (s *Server) LastResolve() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return nil
	}
	return s.last.Clone(context.Background())
}

func (s *Server) countResolve(r *http.Request) http.HandlerFunc {
	clone := r.Clone(context.Background())
	clone.Body = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolve++
	s.last = clone
	return s.fails["resolver"]
}

func (s *Server) countKeys(r *http.Request) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == jwksPath {
		s.fetches++
	}
	return s.fails["keys"]
}

func (s *Server) knowsHost(host string) bool {
	if !s.opts.MultiTenant {
		return true
	}
	u, err := url.Parse(s.origin)
	return err == nil && hostname(host) == u.Hostname()
}

func hostname(host string) string {
	return (&url.URL{Host: host}).Hostname()
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func alnum(n int) string {
	out := make([]byte, n)
	_, _ = rand.Read(out)
	for i, b := range out {
		out[i] = letters[int(b)%len(letters)]
	}
	return string(out)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func newJTI() string {
	sum := sha256.Sum256([]byte(alnum(32)))
	return hex.EncodeToString(sum[:])
}
