package doctor_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/doctor"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/proxytest"
)

const token = "a-good-token"

// A front is a small proxy without a hole. A fault is a change of one of its parts.
type front struct {
	isUser func(*http.Request) bool
	opens  func(*http.Request) bool // for visitors
	denied func(http.ResponseWriter)
	ours   func(name string) bool // fields that only the front may set
	tell   func(in *http.Request, out http.Header)
	change func(*httputil.ProxyRequest)        // of the rest
	around func(http.HandlerFunc) http.Handler // of all
}

var alike = regexp.MustCompile(`(?i)^x[^a-z0-9]authgear[^a-z0-9]`)

func newFront() *front {
	return &front{
		isUser: hasToken,
		opens:  func(*http.Request) bool { return false },
		denied: func(w http.ResponseWriter) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(401)
		},
		ours:   alike.MatchString,
		tell:   func(_ *http.Request, out http.Header) { out.Set("X-Authgear-User-Id", "ada") },
		change: func(*httputil.ProxyRequest) {},
		around: func(h http.HandlerFunc) http.Handler { return h },
	}
}

// hasToken looks for the token in Authorization, of which two lines are none, and
// then in the cookie.
func hasToken(r *http.Request) bool {
	lines := r.Header.Values("Authorization")
	if len(lines) > 1 {
		return false
	}
	return len(lines) == 1 && lines[0] == "Bearer "+token || cookie(r, "app_access_token") == token
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// serve runs the front before an echo and returns where.
func (f *front) serve(t *testing.T) (*doctor.Echo, string) {
	echo := new(doctor.Echo)
	app := httptest.NewServer(echo)
	t.Cleanup(app.Close)
	to, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(f.around(func(w http.ResponseWriter, r *http.Request) {
		user := f.isUser(r)
		if !user && !f.opens(r) {
			f.denied(w)
			return
		}
		proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host
			p.Out.Header.Del("Connection")
			p.Out.Header.Del("Upgrade")
			p.Out.Trailer = nil
			for name := range p.Out.Header {
				if f.ours(name) {
					p.Out.Header.Del(name)
					delete(p.Out.Header, name)
				}
			}
			if user {
				f.tell(p.In, p.Out.Header)
			}
			for _, name := range proxytest.PathNames {
				p.Out.Header.Del(name)
			}
			f.change(p)
		}}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return echo, s.URL
}

func TestAFrontWithoutAFault(t *testing.T) {
	for _, o := range []doctor.Options{{Token: token}, {}, {Token: token, CookiePrefix: "my_"}} {
		echo, at := newFront().serve(t)
		report := examine(t, echo, o, at+"/app?x=y")
		expectFindings(t, report)
		// Without a token not all can be known, and the report says so.
		if all := len(report.NotMade) == 0 && len(report.Remarks) == 0; all != (o.Token == token) {
			t.Errorf("%+v: remarks %+v; not made: %q", o, report.Remarks, report.NotMade)
		}
	}
}

// Where visitors are welcome they are no finding, but identity counts.
func TestAnOptionalRoute(t *testing.T) {
	f := newFront()
	f.opens = func(*http.Request) bool { return true }
	echo, at := f.serve(t)
	expectFindings(t, examine(t, echo, doctor.Options{Token: token, Optional: true}, at))
	f.ours = func(name string) bool { return name == "X-Authgear-User-Id" }
	report := examine(t, echo, doctor.Options{Optional: true}, at)
	expectFindings(t, report, forgedTitle, aliasTitle)
	if want := "the client's query is no policy: needs a good access token (-token FILE)"; !slices.Contains(report.NotMade, want) {
		t.Errorf("not made: %q, want %q", report.NotMade, want)
	}
}

const (
	visitorsTitle = "Visitors pass"
	forgedTitle   = "A client can forge who it is"
	aliasTitle    = "A client can forge who it is, with another sign in the name"
	takenTitle    = "A client can take its identity away"
	twoTitle      = "A request with two Authorization lines passes"
	tunnelTitle   = "A client can turn its connection into one of HTTP/2"
	verdictTitle  = "One user is served as another"
	pageTitle     = "One user's page is given to another"
	denialTitle   = "A denial may be kept by a cache"
	claimTitle    = "What a client says of its own request changes the verdict"
	queryTitle    = "The client's query says who may pass"
	pathTitle     = "Another spelling of the path evades the protection"
	methodTitle   = "Another method evades the protection"
	bodyTitle     = "A POST does not arrive whole"
)

// Each check can fail, and a fault is found by no other.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		fault string
		make  func(*front)
		want  string
	}{
		{"a visitor passes", opens(func(r *http.Request) bool { return true }), visitorsTitle},
		{"a bad token passes", opens(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer doctor" }), visitorsTitle},
		{"an empty cookie passes", opens(func(r *http.Request) bool { return r.Header.Get("Cookie") == "session=" }), visitorsTitle},
		{"a forged identity passes", opens(func(r *http.Request) bool { return r.Header.Get("X-Authgear-Session-Valid") != "" && path("^/app$")(r) }), visitorsTitle},
		{"HEAD passes", opens(func(r *http.Request) bool { return r.Method == "HEAD" }), methodTitle},
		{"preflights pass", opens(func(r *http.Request) bool { return r.Method == "OPTIONS" }), methodTitle},
		{"TRACE passes", opens(func(r *http.Request) bool { return r.Method == "TRACE" }), methodTitle},
		{"a GET with the fields of a preflight passes", opens(func(r *http.Request) bool { return asksForDelete(r) && r.Method == "GET" }), methodTitle},
		{"an unknown method with the fields of a preflight passes", opens(func(r *http.Request) bool { return asksForDelete(r) && r.Method == "DOCTOR" }), methodTitle},
		{"a preflight passes with another method", opens(isPreflight), methodTitle},
		{"a preflight passes with another method in X-HTTP-Method", opens(func(r *http.Request) bool {
			return isPreflight(r) && r.Header.Get("X-Http-Method-Override") == "" && r.Header.Get("X-Method-Override") == ""
		}), methodTitle},
		{"unknown methods pass", opens(func(r *http.Request) bool { return r.Method == "DOCTOR" }), methodTitle},
		{"// evades", opens(path("^//")), pathTitle},
		{"a URL of another scheme evades", opens(func(r *http.Request) bool { return r.URL.Opaque != "" }), pathTitle},
		{"/./ evades", opens(path(`^/\./`)), pathTitle},
		{"%2e%2e evades", opens(path("%2e%2e")), pathTitle},
		{"%2f evades", opens(path("%2f")), pathTitle},
		{"a letter in hexadecimal evades", opens(path("%61")), pathTitle},
		{"; evades", opens(path("/app;")), pathTitle},
		{"a / at the end evades", opens(path(`/app/$`)), pathTitle},
		{"a tail evades", opens(path(`\.json$`)), pathTitle},
		{"case evades", opens(path("APP")), pathTitle},
		{"X-Original-Method is believed", opens(func(r *http.Request) bool { return r.Header.Get("X-Original-Method") == "OPTIONS" }), claimTitle},
		{"X-Forwarded-Uri is believed", opens(func(r *http.Request) bool { return r.Header.Get("X-Forwarded-Uri") != "" }), claimTitle},
		{"X-Forwarded-For is believed", opens(func(r *http.Request) bool { return r.Header.Get("X-Forwarded-For") == "127.0.0.1" }), claimTitle},
		{"X-Forwarded-Host is believed", isUser(func(r *http.Request) bool { return hasToken(r) && r.Header.Get("X-Forwarded-Host") == "" }), claimTitle},
		{"the query is the policy", opens(func(r *http.Request) bool { return strings.HasSuffix(r.URL.RawQuery, "&optional") }), queryTitle},
		{"the query asks for roles", isUser(func(r *http.Request) bool { return hasToken(r) && !strings.Contains(r.URL.RawQuery, "role=") }), queryTitle},

		{"roles pass", ours(func(name string) bool { return alike.MatchString(name) && name != "X-Authgear-User-Roles" }), forgedTitle},
		{"the old acr passes", ours(func(name string) bool { return alike.MatchString(name) && name != "X-Authgear-Session-Acr" }), forgedTitle},
		{"_ passes", ours(func(name string) bool { return alike.MatchString(name) && strings.Count(name, "_") < 3 }), aliasTitle},
		{". passes", ours(func(name string) bool { return alike.MatchString(name) && strings.Count(name, ".") < 3 }), aliasTitle},
		{"one _ passes", ours(func(name string) bool { return alike.MatchString(name) && strings.Count(name, "_") != 1 }), aliasTitle},
		{"one . passes", ours(func(name string) bool { return alike.MatchString(name) && strings.Count(name, ".") != 1 }), aliasTitle},
		{"the second of two passes", change(func(p *httputil.ProxyRequest) {
			if roles := p.In.Header.Values("X-Authgear-User-Roles"); len(roles) > 1 {
				p.Out.Header.Set("X-Authgear-User-Roles", roles[1])
			}
		}), forgedTitle},
		{"trailers become fields", change(func(p *httputil.ProxyRequest) {
			if body, _ := io.ReadAll(p.In.Body); string(body) == "doctor" {
				p.Out.Header.Set("X-Authgear-User-Id", p.In.Trailer.Get("X-Authgear-User-Id"))
				p.Out.Body = io.NopCloser(strings.NewReader("doctor"))
			} else {
				p.Out.Body = io.NopCloser(strings.NewReader(string(body)))
			}
		}), forgedTitle},
		{"Connection takes fields", func(f *front) {
			f.tell = func(in *http.Request, out http.Header) {
				if !strings.Contains(in.Header.Get("Connection"), "X-Authgear-User-Id") {
					out.Set("X-Authgear-User-Id", "ada")
				}
			}
		}, takenTitle},
		{"h2c passes", change(upgrade("h2c")), tunnelTitle},
		{"a list with h2c passes", change(upgrade("websocket, h2c")), tunnelTitle},
		{"of two Authorization lines the first counts", isUser(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+token }), twoTitle},
		{"of two Authorization lines the last counts", isUser(func(r *http.Request) bool {
			lines := r.Header.Values("Authorization")
			return len(lines) > 0 && lines[len(lines)-1] == "Bearer "+token
		}), twoTitle},

		{"bodies are lost", change(func(p *httputil.ProxyRequest) { p.Out.Body, p.Out.ContentLength = nil, 0 }), bodyTitle},
		{"bodies end early", change(func(p *httputil.ProxyRequest) {
			if p.In.ContentLength > 1000 {
				p.Out.Body, p.Out.ContentLength = io.NopCloser(io.LimitReader(p.In.Body, 1000)), 1000
			}
		}), bodyTitle},
		{"a POST fails", func(f *front) { f.around = failsPosts }, bodyTitle},

		{"the key lacks the cookie", keeps(func(r *http.Request) string { return r.Header.Get("Authorization") + "|" + cookie(r, "session") }), verdictTitle},
		{"the key lacks Authorization", keeps(func(r *http.Request) string { return r.Header.Get("Cookie") }), verdictTitle},
		{"the key is cut short", keeps(func(r *http.Request) string {
			return r.Header.Get("Authorization")[:min(14, len(r.Header.Get("Authorization")))] + r.Header.Get("Cookie")
		}), verdictTitle},

		{"pages are kept by their URL", func(f *front) { f.around = keepsPages(func(r *http.Request) string { return r.RequestURI }) }, pageTitle},
		{"denials are kept", func(f *front) { f.around = keepsDenials }, denialTitle},
		{"denials may be kept", func(f *front) {
			f.denied = func(w http.ResponseWriter) {
				w.Header().Set("WWW-Authenticate", "Bearer")
				w.Header().Set("Cache-Control", "max-age=60")
				w.WriteHeader(401)
			}
		}, denialTitle},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			f := newFront()
			tt.make(f)
			echo, at := f.serve(t)
			expectFindings(t, examine(t, echo, doctor.Options{Token: token}, at+"/app?x=y"), tt.want)
		})
	}
}

// Remarks are no findings.
func TestRemarks(t *testing.T) {
	for _, tt := range []struct {
		fault string
		make  func(*front)
		want  string
	}{
		{"no identity", func(f *front) { f.tell = func(*http.Request, http.Header) {} }, "The application does not learn who sent a request"},
		{"unknown fields", ours(func(name string) bool { return alike.MatchString(name) && name != "X-Authgear-Doctor" }), "An X-Authgear field that nobody knows passes"},
		{"trailers", change(func(p *httputil.ProxyRequest) { p.Out.Trailer = p.In.Trailer }), "A trailer with an identity passes"},
		{"other protocols", change(upgrade("doctor/1")), "A client can ask the application for another protocol than WebSocket"},
		{"bodies are limited", func(f *front) { f.around = limitsBodies }, "A POST of 1 MB is too long for the proxy"},
		{"preflights", opens(func(r *http.Request) bool {
			return isPreflight(r) && r.Header.Get("X-Http-Method-Override")+r.Header.Get("X-Http-Method")+r.Header.Get("X-Method-Override") == ""
		}), "A CORS preflight passes"},
		{"preflights without the other method", func(f *front) {
			f.opens = isPreflight
			f.change = func(p *httputil.ProxyRequest) {
				for _, name := range forwardauth.Overrides {
					p.Out.Header.Del(name)
				}
			}
		}, "A CORS preflight passes"},
		{"another path", change(func(p *httputil.ProxyRequest) {
			p.Out.Header["X-Rewrite-Url"] = p.In.Header["X-Rewrite-Url"]
		}), "A client can tell the application another path"},
		{"a redirect", denied(302, "Bearer"), "A program cannot tell that it must sign in"},
		{"403", denied(403, "Bearer"), "A program cannot tell that it must sign in"},
		{"no challenge", denied(401), "A 401 must have one WWW-Authenticate"},
		{"two challenges", denied(401, "Bearer", "Bearer"), "A 401 must have one WWW-Authenticate"},
		{"pages are kept for each user", func(f *front) {
			f.around = keepsPages(func(r *http.Request) string {
				return r.RequestURI + r.Header.Get("Authorization") + r.Header.Get("Cookie")
			})
		}, "The proxy keeps pages of a protected route"},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			f := newFront()
			tt.make(f)
			echo, at := f.serve(t)
			report := examine(t, echo, doctor.Options{Token: token}, at+"/app")
			expectFindings(t, report)
			if len(report.Remarks) != 1 || report.Remarks[0].Title != tt.want {
				t.Errorf("remarks: %+v, want %q", report.Remarks, tt.want)
			}
		})
	}
}

// The parts of which faults are made.

func isPreflight(r *http.Request) bool { return r.Method == "OPTIONS" && asksForDelete(r) }

func asksForDelete(r *http.Request) bool {
	return r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") == "DELETE"
}

func isUser(is func(*http.Request) bool) func(*front) { return func(f *front) { f.isUser = is } }
func opens(to func(*http.Request) bool) func(*front)  { return func(f *front) { f.opens = to } }
func ours(is func(string) bool) func(*front)          { return func(f *front) { f.ours = is } }
func change(what func(*httputil.ProxyRequest)) func(f *front) {
	return func(f *front) { f.change = what }
}

func path(pattern string) func(*http.Request) bool {
	re := regexp.MustCompile(pattern)
	return func(r *http.Request) bool {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return re.MatchString(path)
	}
}

func upgrade(to string) func(*httputil.ProxyRequest) {
	return func(p *httputil.ProxyRequest) {
		if p.In.Header.Get("Upgrade") == to {
			p.Out.Header.Set("Connection", "Upgrade")
			p.Out.Header.Set("Upgrade", to)
		}
	}
}

func denied(status int, challenges ...string) func(*front) {
	return func(f *front) {
		f.denied = func(w http.ResponseWriter) {
			w.Header()["Www-Authenticate"] = challenges
			w.WriteHeader(status)
		}
	}
}

func failsPosts(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1000 {
			w.WriteHeader(500)
			return
		}
		h(w, r)
	})
}

func limitsBodies(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1000 {
			w.WriteHeader(413)
			return
		}
		h(w, r)
	})
}

// keeps remembers who is a user. The doctor asks one question at a time.
func keeps(key func(*http.Request) string) func(*front) {
	known := map[string]bool{}
	return isUser(func(r *http.Request) bool {
		k := key(r)
		if len(r.Header.Values("Authorization")) < 2 {
			known[k] = known[k] || hasToken(r)
			return known[k]
		}
		return false
	})
}

// keepsPages remembers what may be kept.
func keepsPages(key func(*http.Request) string) func(http.HandlerFunc) http.Handler {
	pages := map[string]*httptest.ResponseRecorder{}
	return func(h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page := pages[key(r)]
			if page == nil {
				page = httptest.NewRecorder()
				h(page, r)
				if page.Code == 200 && page.Header().Get("Cache-Control") == "" {
					pages[key(r)] = page
				}
			}
			for name, values := range page.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(page.Code)
			w.Write(page.Body.Bytes())
		})
	}
}

// keepsDenials remembers where somebody was denied, but for the URL as it is given.
func keepsDenials(h http.HandlerFunc) http.Handler {
	denied := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if denied[r.RequestURI] {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(401)
			return
		}
		denied[r.RequestURI] = strings.Contains(r.RequestURI, "doctor") && !hasToken(r)
		h(w, r)
	})
}
