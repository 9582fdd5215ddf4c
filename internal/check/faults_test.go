package check_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/check"
	"authgear-forward-auth/internal/proxytest"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	resolverPath  = "/_resolver/resolve"
)

// elsewhere lets all that the service asks lie there.
func (s *stand) elsewhere(t *testing.T, origin string) {
	t.Helper()
	s.Timeout = time.Second // where there is no DNS at all
	s.Endpoint, s.ResolverURL = parse(t, origin), parse(t, origin+resolverPath)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers nothing until the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, "<!DOCTYPE html>Sign in")
}

// clockOff lets Authgear's clock be ahead.
func (s *stand) clockOff(by time.Duration) {
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		next.ServeHTTP(w, r)
	})
}

// document changes a member of the discovery document.
func (s *stand) document(t *testing.T, member, value string) {
	next := s.handler
	s.instead(discoveryPath, func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var doc map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
			t.Error(err)
		}
		doc[member] = value
		json.NewEncoder(w).Encode(doc)
	})
}

// One fault makes one step fail, which names the cure.
func TestFaults(t *testing.T) {
	tenants := authgeartest.Options{MultiTenant: true}
	plain := authgeartest.Options{}
	https := certificate(&trusted, unchanged)
	otherName := certificate(&trusted, func(c *x509.Certificate) { c.DNSNames = []string{"other.example.com"} })
	expired := certificate(&trusted, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	ending := certificate(&trusted, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Hour) })
	selfSigned := certificate(nil, unchanged)
	localhost := func(s *stand) string { return strings.Replace(s.Origin(), "127.0.0.1", "localhost", 1) }

	for _, tt := range []struct {
		name  string
		stand *stand
		plant func(*testing.T, *stand)
		step  string
		cure  string
	}{
		{"a host that nobody knows", newStand(t, plain), func(t *testing.T, s *stand) { s.elsewhere(t, "https://nowhere.invalid") },
			"endpoint_dns", "is the host of AUTHGEAR_ENDPOINT right?"},
		{"nothing listens", newStand(t, plain), func(t *testing.T, s *stand) { s.elsewhere(t, "http://"+proxytest.FreeAddr(t)) },
			"endpoint_tcp", "does Authgear listen there, are host and port of AUTHGEAR_ENDPOINT right"},
		{"a certificate of another name", newStand(t, plain, otherName), func(*testing.T, *stand) {},
			"endpoint_tls", "is the host of AUTHGEAR_ENDPOINT right? Else the server needs a certificate with that name"},
		{"an expired certificate", newStand(t, plain, expired), func(*testing.T, *stand) {},
			"endpoint_tls", "renew it"},
		{"a self-signed certificate", newStand(t, plain, selfSigned), func(*testing.T, *stand) {},
			"endpoint_tls", "SSL_CERT_FILE"},
		{"a certificate that ends soon", newStand(t, plain, ending), func(*testing.T, *stand) {},
			"warn endpoint_tls", "does its renewal work?"},
		{"https where there is none", newStand(t, plain), func(t *testing.T, s *stand) { s.elsewhere(t, "https"+strings.TrimPrefix(s.Origin(), "http")) },
			"endpoint_tls", "are scheme and port of AUTHGEAR_ENDPOINT right?"},
		{"another host of Authgear", newStand(t, plain), func(t *testing.T, s *stand) { s.elsewhere(t, localhost(s)) },
			"discovery", "AUTHGEAR_ENDPOINT=http://127.0.0.1:"},
		{"a host of no project", newStand(t, tenants), func(t *testing.T, s *stand) { s.elsewhere(t, localhost(s)) },
			"discovery", "the project's public origin?"},
		{"another issuer", newStand(t, plain), func(t *testing.T, s *stand) { s.document(t, "issuer", "https://other.example.com") },
			"discovery", "AUTHGEAR_ENDPOINT=https://other.example.com, if that is your project"},
		{"keys elsewhere", newStand(t, plain), func(t *testing.T, s *stand) { s.document(t, "jwks_uri", "https://other.example.com/keys") },
			"warn discovery", "does something rewrite"},
		{"a login page before Authgear", newStand(t, plain), func(t *testing.T, s *stand) { s.instead("", page) },
			"discovery", "a login page or a gateway"},
		{"something before Authgear redirects", newStand(t, plain), func(t *testing.T, s *stand) {
			s.instead(discoveryPath, http.RedirectHandler("/.well-known/oauth-authorization-server", http.StatusFound).ServeHTTP)
		}, "discovery", "such as a login page"},
		{"main blocks this machine", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(discoveryPath, status(403)) },
			"discovery", "the IP filter"},
		{"Authgear answers 500", newStand(t, plain), func(t *testing.T, s *stand) { s.instead("", status(500)) },
			"discovery", "are Authgear's PostgreSQL and Redis up?"},
		{"Authgear is slow", newStand(t, plain), func(t *testing.T, s *stand) { s.instead("", hang); s.Timeout = 200 * time.Millisecond },
			"discovery", "AUTHGEAR_RESOLVER_TIMEOUT"},
		{"no usable key", newStand(t, plain), func(t *testing.T, s *stand) {
			s.SetKeys([]byte(`{"keys":[{"kty":"RSA","alg":"RS256","kid":"small","e":"AQAB","n":"` + strings.Repeat("q", 171) + `"}]}`))
		}, "keys", "the project's oauth secret needs an RSA key"},
		{"one more key, of another kind", newStand(t, plain), func(t *testing.T, s *stand) {
			keys, _ := authgeartest.RecordedKeys()
			s.SetKeys([]byte(strings.Replace(string(keys), `{"keys":[`, `{"keys":[{"kty":"oct","kid":"x","k":"AAAA"},`, 1)))
		}, "warn keys", "is the first key of the project's oauth secret an RSA key"},
		{"slow keys", newStand(t, plain), func(t *testing.T, s *stand) { s.instead("/oauth2/jwks", hang); s.Timeout = 200 * time.Millisecond },
			"keys", "AUTHGEAR_RESOLVER_TIMEOUT"},

		{"the resolver's host is unknown", newStand(t, plain), func(t *testing.T, s *stand) {
			s.ResolverURL, s.Timeout = parse(t, "http://nowhere.invalid/resolve"), time.Second
		},
			"resolver_dns", "is the host of AUTHGEAR_RESOLVER_URL right?"},
		{"nothing listens at the resolver's", newStand(t, plain), func(t *testing.T, s *stand) { s.ResolverURL = parse(t, "http://"+proxytest.FreeAddr(t)+"/resolve") },
			"resolver_tcp", "port of AUTHGEAR_RESOLVER_URL"},
		{"no TLS at the resolver's", newStand(t, plain), func(t *testing.T, s *stand) { s.ResolverURL = parse(t, "https://"+httptestAddr(t)) },
			"resolver_tls", "port of AUTHGEAR_RESOLVER_URL"},
		{"a path that is not the resolver's", newStand(t, plain), func(t *testing.T, s *stand) { s.ResolverURL.Path = "/resolver" },
			"resolver", "port 3001 and path /resolve"},
		{"a slash too much", newStand(t, plain), func(t *testing.T, s *stand) { s.ResolverURL.Path += "/" },
			"resolver", "have the right scheme, host and path?"},
		{"a proxy changes Host", newStand(t, tenants), func(t *testing.T, s *stand) {
			s.through(t, func(r *http.Request) { r.Host = "authgear:3001" })
		}, "resolver", "is the host of AUTHGEAR_ENDPOINT (127.0.0.1:"},
		{"the resolver answers 403", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(resolverPath, status(403)) },
			"resolver", "such as a gateway"},
		{"a proxy adds to X-Forwarded-Proto", newStand(t, plain), func(t *testing.T, s *stand) {
			s.through(t, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https,http\x7f") })
		}, "resolver", "PostgreSQL"},
		{"a login page in place of the resolver", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(resolverPath, page) },
			"resolver", "a login page or a gateway"},
		{"the way to a login page", newStand(t, plain), func(t *testing.T, s *stand) {
			s.instead(resolverPath, http.RedirectHandler("/login", http.StatusFound).ServeHTTP)
		}, "resolver", "AUTHGEAR_RESOLVER_URL"},
		{"something that says yes to all", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(resolverPath, status(200)) },
			"resolver", "Authgear's resolver? If so, do cookies get through"},
		{"something that knows everybody", newStand(t, plain), func(t *testing.T, s *stand) {
			s.instead(resolverPath, func(w http.ResponseWriter, _ *http.Request) {
				for _, line := range []string{"Session-Valid: true", "User-Id: root", "User-Anonymous: false", "User-Verified: true", "User-Can-Reauthenticate: true"} {
					name, value, _ := strings.Cut(line, ": ")
					w.Header().Set("X-Authgear-"+name, value)
				}
			})
		}, "resolver", "do not start the service"},
		{"the resolver answers 500", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(resolverPath, status(500)) },
			"resolver", "are Authgear's PostgreSQL and Redis up?"},
		{"the resolver is slow", newStand(t, plain), func(t *testing.T, s *stand) { s.instead(resolverPath, hang); s.Timeout = 200 * time.Millisecond },
			"resolver", "AUTHGEAR_RESOLVER_TIMEOUT"},
		{"no proxy is trusted", newStand(t, authgeartest.Options{NoTrustProxy: true}, https), func(t *testing.T, s *stand) { s.through(t, func(*http.Request) {}) },
			"resolver_scheme", "TRUST_PROXY=true"},
		{"a proxy says http", newStand(t, plain, https), func(t *testing.T, s *stand) {
			s.through(t, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "http") })
		}, "resolver_scheme", "leave Host and X-Forwarded-Proto alone"},

		{"the prefix lacks its end", newStand(t, authgeartest.Options{CookiePrefix: "lab2_"}), func(t *testing.T, s *stand) { s.CookiePrefix = "lab2" },
			"cookie_prefix", "AUTHGEAR_COOKIE_PREFIX=lab2_"},
		{"a prefix too much", newStand(t, plain), func(t *testing.T, s *stand) { s.CookiePrefix = "my_" },
			"cookie_prefix", "unset AUTHGEAR_COOKIE_PREFIX"},
		{"no prefix, and main is not asked", newStand(t, authgeartest.Options{CookiePrefix: "lab2_"}), func(t *testing.T, s *stand) {
			s.Local, s.CookiePrefix = false, ""
			s.through(t, func(*http.Request) {})
		}, "resolver", "is AUTHGEAR_COOKIE_PREFIX (\"\") the project's http.cookie_prefix"},

		{"a proxy changes Host, and there is one tenant", newStand(t, plain), func(t *testing.T, s *stand) {
			s.through(t, func(r *http.Request) { r.Host = "authgear:3001" })
			s.give(s.jwt)
		}, "token", "does it see the scheme and host of AUTHGEAR_ENDPOINT?"},
		{"a revoked opaque token", newStand(t, plain), func(t *testing.T, s *stand) {
			s.give(s.OpaqueToken)
			s.Revoke(s.Token)
		}, "token", "take a token that was just issued"},
		{"an ID token", newStand(t, plain), func(t *testing.T, s *stand) { s.give(s.IDToken) },
			"token", "is it an ID token?"},
		{"a user who is disabled", newStand(t, plain), func(t *testing.T, s *stand) {
			s.give(func(ada *authgeartest.User) string {
				s.Edit(ada, func(u *authgeartest.User) { u.Disabled = true })
				return s.JWT(ada)
			})
		}, "token", "another user"},
		{"an opaque token in mode jwt", newStand(t, plain), func(t *testing.T, s *stand) { s.Remote = false; s.give(s.OpaqueToken) },
			"token", "let the client issue JWT access tokens"},

		{"a clock 2 minutes behind", newStand(t, plain), func(t *testing.T, s *stand) { s.clockOff(2 * time.Minute) },
			"clock", "by NTP"},
		{"a clock 2 minutes ahead", newStand(t, plain), func(t *testing.T, s *stand) { s.clockOff(-2 * time.Minute) },
			"clock", "by NTP"},
		{"a clock 4 seconds behind", newStand(t, plain), func(t *testing.T, s *stand) { s.clockOff(4 * time.Second) },
			"warn clock", "by NTP"},
		{"a clock 4 seconds ahead", newStand(t, plain), func(t *testing.T, s *stand) { s.clockOff(-4 * time.Second) },
			"warn clock", "by NTP"},
		{"a clock 2 minutes ahead, in mode resolver", newStand(t, plain), func(t *testing.T, s *stand) {
			s.clockOff(-2 * time.Minute)
			s.Local = false
		}, "clock", "by NTP"},

		{"a secret in base64url", newStand(t, plain), func(t *testing.T, s *stand) {
			s.WebhookSecrets = []string{base64.RawURLEncoding.EncodeToString([]byte(canary))}
		}, "webhook_secret", "decode it"},
		{"a secret in quotation marks", newStand(t, plain), func(t *testing.T, s *stand) { s.WebhookSecrets = []string{`"` + canary + `"`} },
			"warn webhook_secret", "take them away"},
		{"a secret with a space", newStand(t, plain), func(t *testing.T, s *stand) { s.WebhookSecrets = []string{canary, canary[:16] + " " + canary[16:]} },
			"warn webhook_secret", "copy it anew"},

		{"a certificate of its own that peers refuse", newStand(t, plain), func(t *testing.T, s *stand) {
			s.Certificate, s.Unfit = own(t, expired), errors.New("AUTHGEAR_TLS_CERT: the certificate has expired: renew it. Is the clock right?")
		}, "tls", "renew it"},
		{"a certificate of its own that ends soon", newStand(t, plain), func(t *testing.T, s *stand) { s.Certificate = own(t, ending) },
			"warn tls", "does its renewal work?"},

		{"another process listens", newStand(t, plain), func(t *testing.T, s *stand) { s.Listen = at(httptestAddr(t)) },
			"listen", "End that one, or choose another AUTHGEAR_LISTEN"},
		{"one address for both", newStand(t, plain), func(t *testing.T, s *stand) {
			s.Listen = at(proxytest.FreeAddr(t))
			s.Admin = s.Listen
		}, "admin_listen", "is AUTHGEAR_LISTEN or another process there?"},
		{"an address of another machine", newStand(t, plain), func(t *testing.T, s *stand) { s.Listen = at("192.0.2.1:4180") },
			"listen", "must be an address of this machine"},
		{"an admin listener for all", newStand(t, plain), func(t *testing.T, s *stand) { s.Admin = at(":0") },
			"warn admin_listen", "let a firewall or NetworkPolicy keep others away"},
		{"keys over http", newStand(t, plain), func(t *testing.T, s *stand) {
			s.Local = false
			s.Endpoint = parse(t, "http://auth.example.com")
			s.Server = authgeartest.New(authgeartest.Options{Origin: "http://auth.example.com"})
			s.through(t, func(*http.Request) {})
		}, "warn settings", "take https://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.plant(t, tt.stand)
			report := tt.stand.examine(t)
			want, name := check.Failed, tt.step
			if step, ok := strings.CutPrefix(tt.step, "warn "); ok {
				want, name = check.Warned, step
			}
			odd := remarkable(report)
			if len(odd) != 1 || odd[0].Name != name || odd[0].Status != want || !strings.Contains(odd[0].Cure, tt.cure) {
				t.Errorf("found %+v, want %s of %s, with the cure %q", odd, want, name, tt.cure)
			}
			if report.OK() != (want == check.Warned) {
				t.Errorf("OK() = %v", report.OK())
			}
		})
	}
}

// own returns a certificate as the service has read it.
func own(t *testing.T, c tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// httptestAddr is where something listens that is not ours.
func httptestAddr(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// What the service itself has is not another process's.
func TestTheServiceMayRunAlready(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	running := service(t)
	s.Listen, s.Admin = at(running), at(running)
	if odd := remarkable(s.examine(t)); len(odd) > 0 {
		t.Errorf("%+v", odd)
	}
}

// That the service is alive at one address says nothing of the other.
func TestAnotherProcessIsNotTheServiceBesideIt(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	s.Listen, s.Admin = at(httptestAddr(t)), at(service(t))
	expectCure(t, s, "listen", "End that one, or choose another AUTHGEAR_LISTEN")
	s.Listen, s.Admin = at(service(t)), at(httptestAddr(t))
	expectCure(t, s, "admin_listen", "End that one, or choose another AUTHGEAR_ADMIN_LISTEN")
	s.Listen, s.Admin = at("192.0.2.1:4180"), at(service(t))
	expectCure(t, s, "listen", "AUTHGEAR_LISTEN must be an address of this machine")
}

func expectCure(t *testing.T, s *stand, step, cure string) {
	t.Helper()
	odd := remarkable(s.examine(t))
	if len(odd) != 1 || odd[0].Name != step || odd[0].Status != check.Failed || !strings.Contains(odd[0].Cure, cure) {
		t.Errorf("%+v, want that %s fails with %q", odd, step, cure)
	}
}

// service returns an address where both listeners of a service answer.
func service(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /healthz":
			io.WriteString(w, "ok\n")
		case "POST /forget":
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
