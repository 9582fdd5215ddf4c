package authgeartest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	jwksPath          = "/oauth2/jwks"
	permissionsPolicy = "accelerometer=(), ambient-light-sensor=(), autoplay=(), battery=(), camera=(), cross-origin-isolated=(), display-capture=(), document-domain=(), encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), usb=(), web-share=(), xr-spatial-tracking=()"
	internalError     = `{"error":{"name":"InternalError","reason":"UnexpectedError","message":"unexpected error occurred","code":500,"tracking_id":"00000000000000000000000000000000-0000000000000000"}}`
)

// ServeHTTP serves discovery, the key set, the resolver and /healthz.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_resolver/resolve", "/resolve":
		s.serveResolver(w, r)
	case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", jwksPath:
		s.serveMain(w, r)
	case "/healthz":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "OK")
	default:
		redirectOrNotFound(w, r)
	}
}

// redirectOrNotFound repairs a resolver path's case and trailing slash by a
// redirection, as httprouter does.
func redirectOrNotFound(w http.ResponseWriter, r *http.Request) {
	fixed := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"))
	if fixed != "/_resolver/resolve" && fixed != "/resolve" {
		http.NotFound(w, r)
		return
	}
	target := *r.URL
	target.Path = fixed
	code := http.StatusMovedPermanently
	if r.Method != http.MethodGet {
		code = http.StatusPermanentRedirect
	}
	http.Redirect(w, r, target.RequestURI(), code)
}

func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
}

// effectiveHost is the host the server takes the request to be for.
func (s *Server) effectiveHost(r *http.Request) string {
	if !s.opts.NoTrustProxy {
		for _, name := range []string{"X-Forwarded-Host", "X-Original-Host"} {
			if v, _, _ := strings.Cut(r.Header.Get(name), ","); strings.TrimSpace(v) != "" {
				return strings.TrimSpace(v)
			}
		}
	}
	return r.Host
}

// effectiveProto is the scheme, verbatim from the proxy if it is trusted.
func (s *Server) effectiveProto(r *http.Request) string {
	if !s.opts.NoTrustProxy {
		for _, name := range []string{"X-Forwarded-Proto", "X-Original-Proto"} {
			if v := r.Header.Get(name); v != "" {
				return v
			}
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func (s *Server) serveMain(w http.ResponseWriter, r *http.Request) {
	if fail := s.countKeys(r); fail != nil {
		fail(w, r)
		return
	}
	host, proto := s.effectiveHost(r), s.effectiveProto(r)
	w.Header().Set("Vary", "User-Agent")
	if !s.knowsHost(host) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<!DOCTYPE html>\n")
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Max-Age", "900")
	w.Header().Set("Set-Cookie", s.nonceCookie(proto))
	switch {
	case proto+"://"+host != s.origin:
		http.Redirect(w, r, s.origin+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	case r.Method != http.MethodGet:
		methodNotAllowed(w, "GET, OPTIONS")
	case r.URL.Path == jwksPath:
		writeJSON(w, s.publishedKeys())
	default:
		writeJSON(w, s.discovery())
	}
}

func (s *Server) nonceCookie(proto string) string {
	c := s.opts.CookiePrefix + "csp_nonce=" + strings.ToUpper(alnum(32)) + "; Path=/; HttpOnly"
	if proto == "https" {
		c += "; Secure; SameSite=None"
	}
	return c
}

func writeJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func (s *Server) discovery() []byte {
	b, _ := json.Marshal(map[string]any{
		"authorization_endpoint":                s.origin + "/oauth2/authorize",
		"claims_supported":                      []string{"iss", "aud", "iat", "exp", "sub", "email", "email_verified", "phone_number", "phone_number_verified", "preferred_username", "family_name", "given_name", "middle_name", "name", "nickname", "picture", "profile", "website", "gender", "birthdate", "zoneinfo", "locale", "address", "updated_at"},
		"code_challenge_methods_supported":      []string{"S256"},
		"dpop_signing_alg_values_supported":     []string{"ES256", "RS256"},
		"end_session_endpoint":                  s.origin + "/oauth2/end_session",
		"grant_types_supported":                 []string{"authorization_code", "refresh_token", "client_credentials"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"issuer":                                s.origin,
		"jwks_uri":                              s.origin + jwksPath,
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"response_types_supported":              []string{"code", "urn:authgear:params:oauth:response-type:settings-action", "none"},
		"revocation_endpoint":                   s.origin + "/oauth2/revoke",
		"scopes_supported":                      []string{"offline_access", "device_sso", "openid", "profile", "email", "address", "phone", "https://authgear.com/scopes/full-access", "https://authgear.com/scopes/full-userinfo", "https://authgear.com/scopes/pre-authenticated-url"},
		"subject_types_supported":               []string{"public"},
		"token_endpoint":                        s.origin + "/oauth2/token",
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_post", "client_secret_basic"},
		"userinfo_endpoint":                     s.origin + "/oauth2/userinfo",
	})
	return append(b, '\n')
}

func (s *Server) serveResolver(w http.ResponseWriter, r *http.Request) {
	if fail := s.countResolve(r); fail != nil {
		fail(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		methodNotAllowed(w, "GET, HEAD, OPTIONS")
		return
	}
	host, proto := s.effectiveHost(r), s.effectiveProto(r)
	if !s.knowsHost(host) {
		http.Error(w, "app not found", http.StatusNotFound)
		return
	}
	origin := proto + "://" + host
	if _, err := url.Parse(origin); err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, internalError)
		return
	}
	s.writeOutcome(w, r, origin, proto)
}

// writeOutcome answers 200 with "true", "false" or no X-Authgear field.
func (s *Server) writeOutcome(w http.ResponseWriter, r *http.Request, origin, proto string) {
	g, invalid := s.resolveRequest(r, origin)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "none")
	h.Set("Permissions-Policy", permissionsPolicy)
	h.Set("Content-Length", "0")
	s.mu.Lock()
	switch {
	case g != nil && !g.user.Disabled:
		g.writeTo(h)
	case g != nil || invalid:
		h.Set("X-Authgear-Session-Valid", "false")
		s.clearSession(h, r, proto)
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// resolveRequest tries the credentials in Authgear's order. invalid says that
// none resolved and a session cookie was there.
func (s *Server) resolveRequest(r *http.Request, origin string) (g *grant, invalid bool) {
	if token, ok := bearerToken(r); ok {
		if g := s.accessToken(token, origin); g != nil {
			return g, false
		}
	}
	if v, ok := s.cookie(r, "app_session"); ok {
		if g := s.lookup(AppSession, v); g != nil {
			return g, false
		}
	}
	if v, ok := s.cookie(r, "app_access_token"); ok {
		if g := s.accessToken(v, origin); g != nil {
			return g, false
		}
	}
	v, ok := s.cookie(r, "session")
	if !ok {
		return nil, false
	}
	g = s.lookup(Session, v)
	return g, g == nil
}

// bearerToken reads the first Authorization field as Authgear does: split at
// the first space, the rest verbatim.
func bearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "bearer")
}

func (s *Server) cookie(r *http.Request, name string) (string, bool) {
	c, err := r.Cookie(s.opts.CookiePrefix + name)
	if err != nil {
		return "", false
	}
	return c.Value, true
}

// accessToken looks a JWT up by its jti and anything else by itself. Neither
// iss nor typ nor sub of a JWT counts.
func (s *Server) accessToken(token, origin string) *grant {
	if strings.HasPrefix(token, "eyJ") {
		if claims, ok := s.claimsOf(token); ok {
			jti, _ := claims["jti"].(string)
			if !hasAudience(claims, origin) {
				return nil
			}
			return s.lookup(JTI, jti)
		}
	}
	return s.lookup(Bearer, token)
}

func (s *Server) lookup(kind Kind, value string) *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.grants[grantKey{kind, value}]; ok {
		return &g
	}
	return nil
}

func (g *grant) writeTo(h http.Header) {
	h.Set("X-Authgear-Session-Valid", "true")
	h.Set("X-Authgear-User-Id", g.user.ID)
	h.Set("X-Authgear-User-Anonymous", strconv.FormatBool(g.user.Anonymous))
	h.Set("X-Authgear-User-Verified", strconv.FormatBool(g.user.Verified))
	h.Set("X-Authgear-User-Can-Reauthenticate", strconv.FormatBool(g.user.CanReauthenticate))
	h.Set("X-Authgear-Session-Amr", "")
	if len(g.user.Roles) > 0 {
		h.Set("X-Authgear-User-Roles", strings.Join(g.user.Roles, ","))
	}
	if g.authenticatedAt != 0 {
		h.Set("X-Authgear-Session-Authenticated-At", strconv.FormatInt(g.authenticatedAt, 10))
	}
}

// clearSession clears the session cookie if the request has it.
func (s *Server) clearSession(h http.Header, r *http.Request, proto string) {
	if _, ok := s.cookie(r, "session"); !ok {
		return
	}
	c := s.opts.CookiePrefix + "session=; Path=/"
	if s.opts.CookieDomain != "" {
		c += "; Domain=" + s.opts.CookieDomain
	}
	c += "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly"
	if proto == "https" {
		c += "; Secure"
	}
	h.Set("Set-Cookie", c+"; SameSite=Lax")
}
