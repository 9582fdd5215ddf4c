package proxytest

import (
	"compress/gzip"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

func noCredential(t *testing.T, st *Stand) {
	resp, _ := st.Expect(t, 401, "GET", "/")
	if got := resp.Header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Bearer realm="authgear"` {
		t.Errorf("WWW-Authenticate: %q", got)
	}
}

func aJWT(t *testing.T, st *Stand) {
	_, s := st.Expect(t, 200, "GET", "/", st.ada()...)
	if got := s.Header.Get("X-Authgear-User-Id"); got != "ada" {
		t.Errorf("the application learns of user %q, want ada", got)
	}
}

func anOpaqueToken(t *testing.T, st *Stand) {
	bob := st.Authgear.AddUser(authgeartest.User{ID: "bob"})
	_, s := st.Expect(t, 200, "GET", "/", Bearer(st.Authgear.OpaqueToken(bob))...)
	if got := s.Header.Get("X-Authgear-User-Id"); got != "bob" {
		t.Errorf("the application learns of user %q, want bob", got)
	}
}

func aSessionCookie(t *testing.T, st *Stand) {
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada"})
	_, s := st.Expect(t, 200, "GET", "/", "Cookie", "session=\xc3\xa4; =x;\tsession="+st.Authgear.SessionCookie(ada)+"; session=other")
	if got := s.Header.Get("X-Authgear-User-Id"); got != "ada" {
		t.Errorf("the application learns of user %q, want ada", got)
	}
}

func cookieLines(t *testing.T, st *Stand) {
	ada := "session=" + st.Authgear.SessionCookie(st.Authgear.AddUser(authgeartest.User{ID: "ada"}))
	bob := "session=" + st.Authgear.SessionCookie(st.Authgear.AddUser(authgeartest.User{ID: "bob"}))
	for _, tt := range []struct{ first, second, who string }{
		{"a=1", ada, "ada"},
		{ada, "a=1", "ada"},
		{ada, bob, "ada"}, // as Authgear reads them
		{bob, ada, "bob"},
	} {
		_, s := st.Expect(t, 200, "GET", "/", "Cookie", tt.first, "Cookie", tt.second)
		if got := s.Header.Get("X-Authgear-User-Id"); got != tt.who {
			t.Errorf("%s and %s: user %q, want %s", tt.first, tt.second, got, tt.who)
		}
	}
}

func anExpiredToken(t *testing.T, st *Stand) {
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada"})
	old := st.Authgear.JWT(ada, func(_, c map[string]any) { c["exp"] = time.Now().Unix() - 60 })
	resp, _ := st.Expect(t, 401, "GET", "/", Bearer(old)...)
	if got := resp.Header.Values("WWW-Authenticate"); len(got) != 1 || !strings.Contains(got[0], `error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: %q", got)
	}
}

func twoAuthorizationLines(t *testing.T, st *Stand) {
	if resp, _ := st.Do(t, "GET", "/", nil, append(st.bob(), st.ada()...)...); resp.StatusCode == 200 {
		t.Error("they pass")
	}
}

func aRole(t *testing.T, st *Stand) {
	ada, bob := st.ada(), st.bob()
	// An application may read these all as /admin/.
	paths := []string{
		"/admin", "/admin?x", "/admin/", "//admin/", "/a/../admin/", "/a/%2e%2e/admin/", "/%61dmin/", "/./admin//x", "/a%2f..%2Fadmin/", "/admin%2fx",
		"/admin;x/", "/admin%3bx/", "/;x/admin/", "/x/..;/admin/", "/public/..;/admin/", "/public/..%3b/admin/", "/public/%2e%2e;x/admin/",
		`/admin\x`, `/public/..\admin/`, "/%5cadmin/", "/public/..%5Cadmin/", `/public/\../admin/`,
		"/public/..%20/admin/", "/public/..%09/admin", "/public/.../admin/", "/public/%2e%2e%20/admin/",
	}
	if !st.CleansPaths {
		paths = append(paths, "/public/;/../admin/", "/public/a%2fb/../../admin/", "/admin//../public/", "/admin/../public/x", `/admin/x\y/../../public/`,
			"//public/admin/", "//x/admin/", "//public%2fadmin/", "//public:80/admin/x", "//u@public/admin/") // a reference to another host: new URL(req.url, base), parse_url, urlsplit
	}
	for _, path := range paths {
		for _, who := range []struct {
			fields []string
			status int
		}{{ada, 200}, {bob, 403}, {nil, 401}} {
			if resp, _ := st.Raw(t, path, who.fields...); resp.StatusCode != st.unlessRefused(path, who.status) {
				t.Errorf("%s: status %d, want %d", path, resp.StatusCode, st.unlessRefused(path, who.status))
			}
		}
	}
}

// openAsSent checks that nobody passes as a visitor who asks the application for another path
// than one that begins with /public/: not all read an escape, `//` and `.` as the proxy does.
func openAsSent(t *testing.T, st *Stand) {
	for _, path := range []string{
		"/%70ublic/x", "/publi%63/", "/public%2fx", "/.//public/x", "/./public/x", "/%2e/public/x", "/x/../public/x", "/PUBLIC/x", "/public", "/x?/public/",
	} {
		resp, body := st.Raw(t, path)
		if resp.StatusCode != 200 {
			continue
		}
		if seen := readSeen(t, []byte(body)).URI; !strings.HasPrefix(seen, "/public/") {
			t.Errorf("%s: a visitor passes, and the application is asked for %s", path, seen)
		}
	}
	for _, path := range []string{"/public/", "/public/%70?x", "/public/a//b"} {
		if resp, _ := st.Raw(t, path); resp.StatusCode != 200 {
			t.Errorf("%s: status %d, want 200", path, resp.StatusCode)
		}
	}
}

// unlessRefused returns the status, or 400 if the proxy refuses such a path, or 301 if
// it sends the client to /admin/.
func (st *Stand) unlessRefused(path string, status int) int {
	lower, _, _ := strings.Cut(strings.ToLower(path), "?")
	switch {
	case st.RefusesEncodedSlash && encodedSlash.MatchString(lower):
		return 400
	case st.AddsSlash && lower == "/admin":
		return 301
	}
	return status
}

var encodedSlash = regexp.MustCompile(`%2f|%5c|\\`)

// noPath checks that a target whose path some read, and others do not, passes nowhere. A proxy
// might take it for none of the locations, and so for all the rest.
func noPath(t *testing.T, st *Stand) {
	for _, target := range []string{"x:http://h/admin/x", "http:admin/x", "x:admin", "x:*", "admin/x", "?x=/admin/"} {
		if resp, body := st.Raw(t, target, st.ada()...); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400: %s", target, resp.StatusCode, body)
		}
	}
	for _, target := range []string{"/admin%00", "/admin%00/x", "http:/admin/x", "x:/admin/x"} {
		if resp, _ := st.Raw(t, target, st.bob()...); resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d, want 400 or 403", target, resp.StatusCode)
		}
	}
}

// PathNames are the fields by which a client asks some applications for another path than the
// proxy was asked for.
var PathNames = []string{"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Script-Name"}

// onePath checks that the path which was asked about is the only one that the
// application is told.
func onePath(t *testing.T, st *Stand) {
	for _, name := range PathNames {
		odd := odd(name)
		if name == "X-Script-Name" {
			odd = []string{odd[0], "X-Script~Name"} // Caddy removes fields by one end of the name, or by a part of it: *script* is Subscription, too
		}
		for _, spelling := range append(spellings(name), odd...) {
			_, body := st.Raw(t, "/public/", spelling, "/admin/")
			if told := alike(readSeen(t, []byte(body)).Header, name); len(told) > 0 {
				t.Errorf("%s: the application is told %v", spelling, told)
			}
		}
	}
}

// The policy of a route is the operator's.
func queries(t *testing.T, st *Stand) {
	bob := st.bob()
	for _, query := range []string{"?optional", "?role=admin&role=", "?", "??optional", "?max_staleness=x"} {
		st.Expect(t, 401, "GET", "/"+query)
		st.Expect(t, 200, "GET", "/"+query, bob...)
		st.Expect(t, 200, "GET", "/public/"+query)
		st.Expect(t, 403, "GET", "/admin/"+query, bob...)
	}
}

func aDeadSession(t *testing.T, st *Stand) {
	resp, _ := st.Expect(t, 401, "GET", "/", "Cookie", "session=dead.cookie")
	if got := resp.Header.Values("Set-Cookie"); len(got) != 1 || !strings.HasPrefix(got[0], "session=; Path=/; Expires=Thu, 01 Jan 1970") {
		t.Errorf("Set-Cookie: %q", got)
	}
	resp, _ = st.Expect(t, 200, "GET", "/public/", "Cookie", "session=dead.cookie")
	if got := resp.Header.Values("Set-Cookie"); len(got) != 1 || !strings.HasPrefix(got[0], "session=; Path=/; Expires=Thu, 01 Jan 1970") {
		t.Errorf("of a visitor, Set-Cookie: %q", got)
	}
}

// What the service says is for the proxy; what the application says is for the client.
func onlyTheApplicationsFields(t *testing.T, st *Stand) {
	expect := func(resp *http.Response, name string, want ...string) {
		t.Helper()
		if got := resp.Header.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for path, who := range map[string][]string{"/": st.ada(), "/admin/": st.ada(), "/public/": nil} {
		resp, _ := st.Expect(t, 200, "GET", path, who...)
		for _, name := range []string{"Set-Cookie", "Cache-Control", "Www-Authenticate", "Location", "Retry-After"} {
			expect(resp, name)
		}
		if ours := identity(resp.Header); len(ours) > 0 {
			t.Errorf("%s: the client is told %v", path, ours)
		}
	}
	resp, _ := st.Expect(t, 200, "GET", "/own", st.bob()...)
	expect(resp, "Set-Cookie", "a=1; Path=/", "b=2; Path=/")
	expect(resp, "Cache-Control", "max-age=60")
	resp, _ = st.Expect(t, 200, "GET", "/public/own", "Cookie", "session=dead.cookie")
	if got := strings.Join(resp.Header.Values("Set-Cookie"), " "); strings.Count(got, "a=1; Path=/") != 1 || strings.Count(got, "b=2; Path=/") != 1 || strings.Count(got, "session=;") != 1 {
		t.Errorf("beside the application's own, Set-Cookie: %q", got)
	}
}

func longCookies(t *testing.T, st *Stand) {
	st.Expect(t, 200, "GET", "/", append([]string{"Cookie", "a=" + strings.Repeat("x", 16<<10)}, st.bob()...)...)
}

func headAndOptions(t *testing.T, st *Stand) {
	bob := st.bob()
	for _, method := range []string{"HEAD", "OPTIONS"} {
		st.Expect(t, 200, method, "/", bob...)
		st.Expect(t, 401, method, "/")
	}
}

// The subrequest asks for compression as the client does.
func compressed(t *testing.T, st *Stand) {
	resp, body := st.Raw(t, "/gzip", append(st.bob(), "Accept-Encoding", "gzip")...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("status %d, Content-Encoding %q", resp.StatusCode, resp.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var s Seen
	if err := json.NewDecoder(z).Decode(&s); err != nil || s.Header.Get("X-Authgear-User-Id") != "bob" {
		t.Errorf("the application's answer: %v, %v", s, err)
	}
	if resp, _ := st.Raw(t, "/gzip", "Accept-Encoding", "gzip"); resp.StatusCode != 401 {
		t.Errorf("without a credential: status %d, want 401", resp.StatusCode)
	}
}

func oddPaths(t *testing.T, st *Stand) {
	cleaned := false
	for _, path := range []string{
		"//odd", "/odd//a", "/odd/%2e%2e/a", "/odd/%2E./a", "/odd/../a", "/odd/./a", "/odd;a=b/c;d", "/odd%2f%2Fa", "/odd%3Fa", "/odd%25a",
		"/odd%20a", "/odd+a", "/odd:a@b", "/odd%C3%A4", "/odd/http://other/", "/odd//",
	} {
		resp, body := st.Raw(t, path+"?x=%2f&y=//", st.ada()...) // each time anew, so that the service is asked
		if want := st.unlessRefused(path, 200); resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
		if resp.StatusCode != 200 {
			continue
		}
		seen, query, _ := strings.Cut(readSeen(t, []byte(body)).URI, "?")
		cleaned = cleaned || seen != path
		if !st.CleansPaths && (seen != path || query != "x=%2f&y=//") {
			t.Errorf("%s: the application saw %s?%s", path, seen, query)
		}
		if logged := st.lastDecision(t).Path; logged != seen {
			t.Errorf("%s: the application saw %s, the log says %s", path, seen, logged)
		}
	}
	if cleaned != st.CleansPaths {
		t.Errorf("some path is cleaned: %v, want %v", cleaned, st.CleansPaths)
	}
}

// A proxy may refuse a Host that cannot be read, but a stranger must not make
// the service look broken, or hide from its log.
func strangeHosts(t *testing.T, st *Stand) {
	for _, host := range []string{"app:xyz", "[::1", "%zz", "app%41", "app?x", "app#x", "a@b"} {
		resp, _ := Raw(t, strings.TrimPrefix(st.URL, "http://"), "GET /strange HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		switch resp.StatusCode {
		case 400:
		case 401:
			told := host[strings.LastIndex(host, "@")+1:] // before that there may be a password
			if got, want := st.lastDecision(t), (decision{"decided", "GET", told, "/strange"}); got != want {
				t.Errorf("%s: the log says %+v, want %+v", host, got, want)
			}
		default:
			t.Errorf("%s: status %d, want 400 or 401", host, resp.StatusCode)
		}
	}
}

// What a client sends may be no HTTP to the proxy, or to the service alone. Waiting helps nobody
// then, and a stranger must not make the service look broken.
func malformedRequests(t *testing.T, st *Stand) {
	for _, who := range [][]string{nil, st.bob()} {
		for _, c := range []string{"\x01", "\x1f", "\x7f"} {
			for _, name := range []string{"X-Any", "Accept", "Cookie", "User-Agent"} {
				resp, _ := st.Raw(t, "/", append([]string{name, "a" + c + "b"}, who...)...)
				expectOfTheClient(t, resp, name+" with "+strconv.Quote(c), 400, 200, 401)
			}
		}
	}
	resp, _ := st.Raw(t, "*", st.ada()...)
	expectOfTheClient(t, resp, "GET *", 400, 404)
	long := "a=" + strings.Repeat("x", 20<<10)
	resp, _ = st.Raw(t, "/", "Cookie", long, "Cookie", long)
	expectOfTheClient(t, resp, "40 KiB of cookies", 400, 431)
}

// expectOfTheClient checks that an answer has one of these statuses, and does not say that a
// moment later it may be another.
func expectOfTheClient(t *testing.T, resp *http.Response, request string, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, resp.StatusCode) {
		t.Errorf("%s: status %d, want one of %v", request, resp.StatusCode, statuses)
	}
	if got := resp.Header.Get("Retry-After"); got != "" {
		t.Errorf("%s: status %d, Retry-After %s", request, resp.StatusCode, got)
	}
}

func claims(t *testing.T, st *Stand) {
	bob := st.Authgear.OpaqueToken(st.Authgear.AddUser(authgeartest.User{ID: "bob"}))
	st.Expect(t, 200, "GET", "/true", append(Bearer(bob),
		"X-Original-Url", "http://other/false", "X-Original-Uri", "/false", "X-Original-Method", "PUT", "X-Forwarded-Uri", "/false",
		"X-Forwarded-Method", "PUT", "X-Forwarded-Host", "other", "X-Forwarded-For", "6.6.6.6", "X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6;host=other")...)
	if got, want := st.lastDecision(t), (decision{"decided", "GET", strings.TrimPrefix(st.URL, "http://"), "/true"}); got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
	if ip := st.Authgear.LastResolve().Header.Get("X-Forwarded-For"); ip != "127.0.0.1" {
		t.Errorf("Authgear is told that the client is %s", ip)
	}
}

type decision struct{ Message, Method, Host, Path string }

// lastDecision returns what the service logged last.
func (st *Stand) lastDecision(t *testing.T) (d decision) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(st.Service.Log()), "\n")
	last := lines[len(lines)-1]
	if err := json.Unmarshal([]byte(last), &d); err != nil || d.Message != "decided" {
		t.Fatalf("the log ends with %s", last)
	}
	return d
}

func ownErrors(t *testing.T, st *Stand) {
	st.Expect(t, 500, "GET", "/broken", st.bob()...)
	resp, _ := st.Expect(t, 401, "GET", "/basic", append(st.bob(), "Sec-Fetch-Mode", "navigate")...)
	if got := resp.Header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Basic realm="app"` {
		t.Errorf("WWW-Authenticate: %q", got)
	}
}

func authgearIsDown(t *testing.T, st *Stand) {
	bob := st.Authgear.AddUser(authgeartest.User{ID: "bob"})
	known := Bearer(st.Authgear.OpaqueToken(bob))
	st.Expect(t, 200, "GET", "/", known...)
	st.Authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
	defer st.Authgear.Fail("resolver", nil)
	st.Expect(t, 200, "GET", "/", known...)
	resp, _ := st.Expect(t, 503, "GET", "/", Bearer(st.Authgear.OpaqueToken(bob))...)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	st.Expect(t, 503, "GET", "/public/", Bearer("unseen")...)
}
