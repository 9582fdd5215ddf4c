package proxytest

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/forwardauth"
)

// Preflight checks what becomes of CORS preflights with a stand whose policy for
// /admin/ is "role=admin&preflight".
func Preflight(t *testing.T, st *Stand) {
	const path = "/admin/orders"
	asks := []string{"Origin", "https://other.example", "Access-Control-Request-Method", "DELETE"}
	with := func(more ...string) []string { return slices.Concat(more, asks) }

	// A visitor's, whatever it carries, and also while Authgear is away.
	st.Authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
	for _, more := range [][]string{
		nil, Bearer("unseen"), {"Cookie", "session=dead.cookie"}, st.ada(), {"X-Authgear-User-Id", "mallory", "X-Authgear-Session-Valid", "true"},
	} {
		_, s := st.Expect(t, 200, "OPTIONS", path, with(more...)...)
		expectIdentity(t, s)
		if s.Method != "OPTIONS" {
			t.Errorf("%q: the application is asked by %s", more, s.Method)
		}
		if log := st.Service.Log(); !strings.Contains(log[strings.LastIndex(strings.TrimSpace(log), "\n")+1:], `"reason":"visitor"`) {
			t.Errorf("%q: the log says otherwise", more)
		}
	}
	st.Authgear.Fail("resolver", nil)

	// All else is judged as ever.
	for _, fields := range [][]string{nil, asks[:2], asks[2:], {"Origin", "", asks[2], asks[3]}, {asks[0], asks[1], asks[2], ""}} {
		st.Expect(t, 401, "OPTIONS", path, fields...)
		st.Expect(t, 403, "OPTIONS", path, slices.Concat(fields, st.bob())...)
	}
	st.Expect(t, 401, "OPTIONS", "/", asks...)

	// What the application may act on is no preflight.
	for _, name := range []string{"X-Original-Method", "X-Forwarded-Method", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X_Original_Method", "X_Forwarded_Method"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			st.Expect(t, 401, method, path, with(name, "OPTIONS")...)
			st.Expect(t, 403, method, path, with(slices.Concat(st.bob(), []string{name, "OPTIONS"})...)...)
		}
	}
	for _, name := range forwardauth.Overrides {
		for _, spelling := range append(spellings(name), odd(name)...) {
			resp, s := st.Do(t, "OPTIONS", path, nil, with(spelling, "DELETE")...)
			if passes := resp.StatusCode == 200 && len(alike(s.Header, name)) == 0; resp.StatusCode != 401 && !passes {
				t.Errorf("%s: status %d, and the application is told %v", spelling, resp.StatusCode, alike(s.Header, name))
			}
		}
	}
	Found(t, preflights, "ok")
}

// SignInPath is where the application signs users in.
const SignInPath = "/account/sign-in"

// SignIn checks where browsers are sent to sign in, with a stand that is told to
// send them to [SignInPath].
func SignIn(t *testing.T, st *Stand) {
	for _, path := range []string{
		"/", "/orders", "/x?a=b&c=d", "/x?return_to=//evil.example&return_to=/y", "//evil.example/x", "/\\evil.example", "/admin/?a=%26b%3d&&c",
		"/odd%20a;b=c/%C3%A4+d?x=%2f&y=//&z=a+b", "/x%0d%0aSet-Cookie:%20a=b", "/x?%0d%0aa:%20b", "/x?a=%zz", "/x?'\"<>", "http://evil.example/x?a=b&c=d", "/login", SignInPath + "/",
	} {
		st.expectSignIn(t, path)
	}
	// A way back that is too long for a proxy is left out.
	long := "/" + strings.Repeat("x", 4096-len(SignInPath+"?return_to=%2F"))
	st.expectSignIn(t, long)
	for _, path := range []string{long + "x", "/" + strings.Repeat("%20", 1000), "/x?" + strings.Repeat("a", 20<<10)} {
		resp, _ := st.Expect(t, 302, "GET", path, "Sec-Fetch-Mode", "navigate")
		if got := resp.Header.Get("Location"); got != SignInPath {
			t.Errorf("%.20s… of %d bytes: Location: %.60s", path, len(path), got)
		}
	}
	browser := []string{"Sec-Fetch-Mode", "navigate", "Accept", "text/html,*/*;q=0.8"}
	for _, fields := range [][]string{browser, browser[:2], browser[2:]} {
		st.Expect(t, 302, "GET", "/", fields...)
		st.Expect(t, 302, "GET", "/", slices.Concat(fields, Bearer("bad"))...)
	}
	st.Expect(t, 302, "POST", "/", browser...)
	resp, _ := st.Expect(t, 302, "GET", "/", append(slices.Clip(browser), "Cookie", "session=dead.cookie")...)
	if got := resp.Header.Values("Set-Cookie"); len(got) != 1 || !strings.HasPrefix(got[0], "session=;") {
		t.Errorf("a dead session: Set-Cookie: %q", got)
	}

	// Scripts and APIs.
	for _, fields := range [][]string{
		nil, {"Accept", "*/*"}, {"Accept", "application/json"}, {"Sec-Fetch-Mode", "cors", "Accept", "text/html"}, {"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
		{"X-Requested-With", "XMLHttpRequest"}, {"Sec-Fetch-Mode", "websocket"},
	} {
		resp, _ := st.Expect(t, 401, "GET", "/x", fields...)
		if got := resp.Header.Values("WWW-Authenticate"); len(got) != 1 || resp.Header.Get("Location") != "" {
			t.Errorf("%q: WWW-Authenticate: %q, Location: %q", fields, got, resp.Header.Get("Location"))
		}
	}
	st.Expect(t, 401, "POST", "/x", "Accept", "text/html")

	// Only who is not signed in, and not the sign-in itself.
	bob := slices.Concat(st.bob(), browser)
	st.Expect(t, 200, "GET", "/", bob...)
	st.Expect(t, 403, "GET", "/admin/", bob...)
	st.Expect(t, 401, "GET", "/basic", bob...)
	for _, path := range []string{SignInPath, SignInPath + "?return_to=%2Fx", "/public/"} {
		_, s := st.Expect(t, 200, "GET", path, append(slices.Clip(browser), "X-Authgear-User-Id", "mallory")...)
		expectIdentity(t, s)
	}
	for _, path := range []string{"/%" + hex.EncodeToString([]byte(SignInPath[1:2])) + SignInPath[2:], "/." + SignInPath, "/%2e" + SignInPath} {
		if resp, body := st.Raw(t, path); resp.StatusCode == 200 && readSeen(t, []byte(body)).URI != SignInPath {
			t.Errorf("%s: a visitor passes, and the application is asked for %s", path, body)
		}
	}
	_, s := st.Expect(t, 200, "GET", SignInPath, bob...)
	if got := s.Header.Get("X-Authgear-User-Id"); got != "bob" {
		t.Errorf("the sign-in learns of user %q, want bob", got)
	}

	// An outage is no sign-out.
	st.Authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) })
	st.Expect(t, 503, "GET", "/", slices.Concat(browser, Bearer("unseen"))...)
	st.Authgear.Fail("resolver", nil)
	st.Service.Stop()
	st.Expect(t, st.Away, "GET", "/", browser...)
	st.Service.Start()
	Found(t, signIn, "ok")
}

// expectSignIn checks that a browser is sent to sign in, and that the way back is
// what a user's application would have seen.
func (st *Stand) expectSignIn(t *testing.T, path string) {
	t.Helper()
	resp, _ := st.Raw(t, path, "Sec-Fetch-Mode", "navigate")
	if resp.StatusCode == 400 { // a proxy may refuse such a path
		return
	}
	location := resp.Header.Get("Location")
	escaped, ok := strings.CutPrefix(location, SignInPath+"?return_to=")
	back, err := url.QueryUnescape(escaped)
	if resp.StatusCode != 302 || !ok || err != nil || strings.ContainsAny(escaped, "&;# \r\n/?\\\"") {
		t.Errorf("%s: status %d, Location: %s", path, resp.StatusCode, location)
	}
	if got := resp.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		t.Errorf("%s: Cache-Control: %q", path, got)
	}
	_, body := st.Raw(t, path, st.ada()...)
	if want := readSeen(t, []byte(body)).URI; back != want {
		t.Errorf("%s: the way back is %s, want %s", path, back, want)
	}
}
