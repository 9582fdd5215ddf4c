// Package authgeartest is a small Authgear for tests and demonstrations: real
// keys, real signed tokens, discovery, JWKS and the resolver, answering as
// recordings of the real server do. It is a net/http server, as Authgear is.
package authgeartest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Options of a Server. The zero Options are a project without a cookie prefix.
type Options struct {
	Origin       string // public origin; for Start its own URL by default
	CookiePrefix string
}

// A User of the project.
type User struct {
	ID                          string
	Roles                       []string
	Verified, Anonymous         bool
	CanReauthenticate, Disabled bool
}

// Server is a small Authgear. It is safe for concurrent use.
type Server struct {
	options Options

	mu       sync.Mutex
	key      *rsa.PrivateKey
	keyID    string
	grants   map[string]*User // :: slot and token, cookie value or jti → user
	broken   map[string]http.HandlerFunc
	resolves int
	fetches  int
	last     *http.Request
}

// The places where the resolver looks a credential up.
const (
	bearer     = "bearer "
	appSession = "app_session "
	session    = "session "
	jwtID      = "jti "
)

// New returns a Server that does not listen.
func New(o Options) *Server {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return &Server{options: o, key: key, keyID: rand.Text(), grants: map[string]*User{}, broken: map[string]http.HandlerFunc{}}
}

// Start returns a Server on loopback that is closed with the test.
func Start(tb testing.TB, o Options) *Server {
	s := New(o)
	l := httptest.NewServer(s)
	tb.Cleanup(l.Close)
	if s.options.Origin == "" {
		s.options.Origin = l.URL
	}
	return s
}

// Origin is the public origin, which is the issuer.
func (s *Server) Origin() string { return s.options.Origin }

// AddUser adds a user.
func (s *Server) AddUser(u User) *User { return &u }

// JWT issues an access token for half an hour. Edits apply before signing.
func (s *Server) JWT(u *User, edits ...func(header, claims map[string]any)) string {
	now := time.Now().Unix()
	roles := u.Roles
	if roles == nil {
		roles = []string{}
	}
	jti := sha256.Sum256([]byte(rand.Text()))
	header := map[string]any{"typ": "at+jwt"}
	claims := map[string]any{
		"iss": s.Origin(), "aud": []string{s.Origin()}, "sub": u.ID, "iat": now, "exp": now + 1800,
		"client_id": "spa-jwt", "scope": "openid offline_access", "jti": hex.EncodeToString(jti[:]),
		"auth_time": now, "amr": []string{"pwd", "x_primary_password"},
		"https://authgear.com/claims/user/is_anonymous":       u.Anonymous,
		"https://authgear.com/claims/user/is_verified":        u.Verified,
		"https://authgear.com/claims/user/can_reauthenticate": u.CanReauthenticate,
		"https://authgear.com/claims/user/roles":              roles,
	}
	for _, edit := range edits {
		edit(header, claims)
	}
	if id, ok := claims["jti"].(string); ok {
		s.grant(jwtID+id, u)
	}
	return s.Sign(header, claims)
}

// Sign signs any token by the current key, with alg and kid unless given.
func (s *Server) Sign(header, claims map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	t.Header["kid"] = s.keyID
	for name, value := range header {
		t.Header[name] = value
	}
	text, err := t.SignedString(s.key)
	if err != nil {
		panic(err)
	}
	return text
}

// OpaqueToken issues an opaque access token.
func (s *Server) OpaqueToken(u *User) string { return s.issue(bearer, rand.Text()+rand.Text()[:6], u) }

// AppSession issues the value of an app_session cookie.
func (s *Server) AppSession(u *User) string { return s.issue(appSession, rand.Text(), u) }

// SessionCookie issues the value of a session cookie.
func (s *Server) SessionCookie(u *User) string {
	return s.issue(session, rand.Text()+"."+rand.Text()+rand.Text()[:6], u)
}

func (s *Server) issue(slot, value string, u *User) string {
	s.grant(slot+value, u)
	return value
}

func (s *Server) grant(key string, u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[key] = u
}

// RevokeUser ends every session of a user.
func (s *Server) RevokeUser(u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, owner := range s.grants {
		if owner == u {
			delete(s.grants, key)
		}
	}
}

// RotateKey makes a new key, which signs and is published alone.
func (s *Server) RotateKey() {
	fresh := New(Options{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.keyID = fresh.key, fresh.keyID
}

// Fail lets f answer for "resolver" or "keys"; nil ends that.
func (s *Server) Fail(what string, f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[what] = f
}

// ResolverCalls is how often the resolver was asked.
func (s *Server) ResolverCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolves
}

// KeyFetches is how often the keys were fetched.
func (s *Server) KeyFetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// LastResolve is the newest question to the resolver; nil if there was none.
func (s *Server) LastResolve() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_resolver/resolve", "/resolve":
		s.count(&s.resolves, r)
		s.unlessBroken("resolver", s.resolve)(w, r)
	case "/oauth2/jwks":
		s.count(&s.fetches, nil)
		s.unlessBroken("keys", s.jwks)(w, r)
	case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server":
		s.public(w, r, map[string]any{"issuer": s.Origin(), "jwks_uri": s.Origin() + "/oauth2/jwks", "response_types_supported": []string{"code", "none"}})
	case "/healthz":
		w.Write([]byte("OK"))
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

func (s *Server) count(n *int, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	if r != nil {
		s.last = r.Clone(r.Context())
	}
}

func (s *Server) unlessBroken(what string, f http.HandlerFunc) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	if broken := s.broken[what]; broken != nil {
		return broken
	}
	return f
}

func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	public := s.key.PublicKey
	id := s.keyID
	s.mu.Unlock()
	b64 := base64.RawURLEncoding.EncodeToString
	s.public(w, r, map[string]any{"keys": []any{map[string]any{
		"alg": "RS256", "kty": "RSA", "use": "sig", "kid": id, "created_at": time.Now().Unix(),
		"n": b64(public.N.Bytes()), "e": b64(big.NewInt(int64(public.E)).Bytes()),
	}}})
}

// public answers as the main server does: at the public origin alone.
func (s *Server) public(w http.ResponseWriter, r *http.Request, doc any) {
	h := w.Header()
	h.Set("Vary", "User-Agent")
	h.Set("Access-Control-Allow-Origin", "*")
	if originOf(r) != s.Origin() {
		http.Redirect(w, r, s.Origin()+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	h.Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(doc)
}

// originOf is the origin that Authgear takes the request to be for, with
// TRUST_PROXY=true. Contract §1.3.
func originOf(r *http.Request) string {
	host, proto := r.Host, "http"
	for _, name := range []string{"X-Original-Host", "X-Forwarded-Host"} {
		if v := r.Header.Get(name); v != "" {
			host, _, _ = strings.Cut(v, ",")
		}
	}
	for _, name := range []string{"X-Original-Proto", "X-Forwarded-Proto"} {
		if v := r.Header.Get(name); v != "" {
			proto = v
		}
	}
	return proto + "://" + host
}

// resolve is /_resolver/resolve. Contract §1.2 to §1.6.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	if strings.Contains(r.Header.Get("X-Forwarded-Proto"), ",") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"error":{"name":"InternalError","reason":"UnexpectedError","message":"unexpected error occurred","code":500}}`)
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "none")
	h.Set("Content-Length", "0")
	cookie, err := r.Cookie(s.options.CookiePrefix + "session")
	u := s.whose(r)
	switch {
	case u == nil && err != nil: // a bad token is no session at all
	case u == nil || u.Disabled:
		h.Set("X-Authgear-Session-Valid", "false")
		if cookie != nil {
			clearing := &http.Cookie{Name: cookie.Name, Path: "/", Expires: time.Unix(0, 0), HttpOnly: true, SameSite: http.SameSiteLaxMode,
				Secure: strings.HasPrefix(originOf(r), "https:")}
			http.SetCookie(w, clearing)
		}
	default:
		setIdentity(h, u)
	}
}

func setIdentity(h http.Header, u *User) {
	h.Set("X-Authgear-Session-Valid", "true")
	h.Set("X-Authgear-User-Id", u.ID)
	h.Set("X-Authgear-User-Anonymous", strconv.FormatBool(u.Anonymous))
	h.Set("X-Authgear-User-Verified", strconv.FormatBool(u.Verified))
	h.Set("X-Authgear-User-Can-Reauthenticate", strconv.FormatBool(u.CanReauthenticate))
	h.Set("X-Authgear-Session-Amr", "")
	h.Set("X-Authgear-Session-Authenticated-At", strconv.FormatInt(time.Now().Unix(), 10))
	if len(u.Roles) > 0 {
		h.Set("X-Authgear-User-Roles", strings.Join(u.Roles, ","))
	}
}

// whose tries the credentials of a request; the first that resolves wins.
func (s *Server) whose(r *http.Request) *User {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		if u := s.accessToken(r, token); u != nil {
			return u
		}
	}
	for _, name := range []string{"app_session", "app_access_token", "session"} {
		cookie, err := r.Cookie(s.options.CookiePrefix + name)
		if err != nil {
			continue
		}
		u := s.owner(name + " " + cookie.Value)
		if name == "app_access_token" {
			u = s.accessToken(r, cookie.Value)
		}
		if u != nil {
			return u
		}
	}
	return nil
}

func (s *Server) owner(key string) *User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[key]
}

// accessToken looks a token up: a JWT for this origin by its jti, any other
// text as an opaque token. Contract §3.3.
func (s *Server) accessToken(r *http.Request, token string) *User {
	if strings.HasPrefix(token, "eyJ") {
		var claims jwt.RegisteredClaims
		s.mu.Lock()
		key := &s.key.PublicKey
		s.mu.Unlock()
		_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuedAt())
		if err == nil {
			if !slices.Contains(claims.Audience, originOf(r)) {
				return nil
			}
			return s.owner(jwtID + claims.ID)
		}
	}
	return s.owner(bearer + token)
}
