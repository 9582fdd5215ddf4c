package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/resolver"
)

// policies, and what each asks of a session, in other words than the service has.
var policies = []struct {
	query             string
	machine, optional bool
	preflight, broken bool
	passes            func(*resolver.Session) bool
}{
	{query: "", passes: anybody},
	{query: "?optional", optional: true, passes: anybody},
	{query: "?role=admin", passes: func(s *resolver.Session) bool { return slices.Contains(strings.Split(s.Roles, ","), "admin") }},
	{query: "?verified", passes: func(s *resolver.Session) bool { return s.Verified.String() == "true" }},
	{query: "?deny_anonymous", passes: func(s *resolver.Session) bool { return s.Anonymous.String() == "false" }},
	{query: "?machine", machine: true, passes: anybody},
	{query: "?sign_in=/login", passes: anybody},
	{query: "?preflight&role=admin", preflight: true, passes: func(s *resolver.Session) bool { return slices.Contains(strings.Split(s.Roles, ","), "admin") }},
	{query: "?max_staleness=0s", passes: anybody},
	{query: "?machine&scope=read:orders", machine: true, passes: func(s *resolver.Session) bool { return slices.Contains(strings.Split(s.Scope, " "), "read:orders") }},
	{query: "?scope=%22%5C", passes: func(*resolver.Session) bool { return false }},
	{query: "?rolle=admin", broken: true},
	{query: "?optional&optional=yes", broken: true},
}

func anybody(*resolver.Session) bool { return true }

// subrequest is what a proxy asks about a client's request, without the client's fields.
func subrequest(proxy int, query, method, path string) string {
	if proxy == 0 {
		return method + " /envoy" + path + " HTTP/1.1\r\nHost: app.example\r\n"
	}
	name := []string{"nginx", "traefik", "caddy", "haproxy"}[proxy-1]
	line := "GET /" + name + query + " HTTP/1.1\r\nHost: service\r\n"
	if name == "nginx" {
		return line + "X-Original-URL: https://app.example" + path + "\r\nX-Original-Method: " + method + "\r\nX-Original-Time: 1800000000.123\r\n"
	}
	return line + "X-Forwarded-Method: " + method + "\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: app.example\r\nX-Forwarded-Uri: " + path + "\r\n"
}

// Whatever a client sends through a proxy, whole bytes of it, to the whole service: nobody
// passes whom a plain reading of the request refuses, nobody passes as somebody else, and
// what the service answers and logs is well-formed.
func FuzzGate(f *testing.F) {
	people := newTown(f)
	log := new(logged)
	server := people.service(f, log)
	credentials := []string{
		"", "Authorization: Bearer opaque-ada", "authorization:bearer opaque-ada", "Cookie: session=idp-eve", "Cookie: a=b; app_session=app-bob; session=idp-eve", "Cookie: session=bad; session=idp-eve",
		"Cookie: app_access_token=opaque-ada", "Cookie: spa=opaque-ada", "Authorization: Bearer bad\r\nCookie: session=idp-eve", "Authorization: Bearer opaque-ada, Bearer x", "Authorization: Bearer x\r\nAuthorization: Bearer opaque-ada",
		"Authorization: Bearer opaque-ada\r\nAuthorization: Bearer x", "Authorization : Bearer opaque-ada", "Authorization: Bearer\r\n opaque-ada", "X: y\r\n\r\nGET /nginx?optional HTTP/1.1\r\nHost: x\r\nCookie: session=idp-eve",
		"Origin: https://x\r\nAccess-Control-Request-Method: PUT", "Sec-Fetch-Mode: navigate", "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"X-Authgear-User-Id: root\r\nX-Authgear-Session-Valid: true", "X-Original-Method: OPTIONS\r\nX-Forwarded-Method: OPTIONS\r\nOrigin: x\r\nAccess-Control-Request-Method: y", "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Uri: /nginx?optional",
		"Cookie: session=\"idp-eve\"", "Cookie: session=idp-eve;", "Cookie: session=idp-eve\r\nCookie: session=x", "Cookie: session=x\r\nCookie: session=idp-eve", "Cookie: session=a\\b; session=idp-eve", "Cookie: session=idp-eve\x00",
		"Host: other\r\nHost: third", "Connection: close", "Connection: Authorization\r\nAuthorization: Bearer opaque-ada", ": x", "A: b\nAuthorization: Bearer opaque-ada", "Cookie: Session=idp-eve; session=x",
		"Authorization: Bearer " + people.jwts[0], "Authorization: Bearer " + people.jwts[1] + "=", "Authorization: Basic x\r\nCookie: app_access_token=" + people.jwts[2] + "; session=x", "Cookie: spa=" + people.jwts[3],
	}
	for i, fields := range credentials {
		for proxy := range byte(5) {
			f.Add(proxy, byte(i), byte(i), "orders?optional", []byte(fields), i%5 > 0)
		}
		f.Add(byte(i), byte(i+1), byte(0), "/nginx?optional#", []byte(fields), true)
	}
	for i, token := range people.jwts {
		f.Add(byte(1), byte(i), byte(0), "orders", []byte("Authorization: Bearer "+token), true)
		f.Add(byte(1), byte(5), byte(0), "orders", []byte("Authorization: Bearer "+token), true) // machines pass
	}
	for _, path := range []string{"/../nginx?optional", "/%2e%2e/nginx", "\r\nX-Original-Method: OPTIONS", "/?role=admin", "/\xff\xfe", "http://x/nginx", "*", "/" + strings.Repeat("a", 9000), "/login", "/a?b\"c\\d"} {
		for i := range byte(8) {
			f.Add(i, i, i, path, []byte("Sec-Fetch-Mode: navigate"), true)
		}
	}
	f.Fuzz(func(t *testing.T, proxy, policy, how byte, path string, fields []byte, trusted bool) {
		rule := policies[int(policy)%len(policies)]
		which := int(proxy % 5)
		if which == 0 { // whatever the client's query is, it is no policy
			rule = policies[0]
		}
		method := []string{"GET", "OPTIONS", "POST"}[how%3]
		text := subrequest(which, rule.query, method, "/"+inTarget(path)) + "Via: proxy\r\n" + string(fields) + "\r\n\r\n"
		w := &wire{in: strings.NewReader(text), peer: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1}}
		if trusted {
			w.peer = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 1}
		}
		log.reset()
		server.ServeConn(w)
		answers := readAnswers(t, text, w.out.Bytes())
		log.check(t)
		if len(answers) == 0 {
			return
		}
		got := answers[0]
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil { // net/http is stricter; so it takes a credential to be somebody, at least
			if id := got.Header.Get("X-Authgear-User-Id"); id != "" && !strings.Contains(text, id) && !strings.Contains(text, "eyJ") {
				t.Errorf("%q: passes as %q", text, id)
			}
			return
		}
		who := people.reads(req, rule.machine)
		preflight := rule.preflight && trusted && method == "OPTIONS" && req.Header.Get("Origin") != "" && req.Header.Get("Access-Control-Request-Method") != "" &&
			!slices.ContainsFunc(forwardauth.Overrides, func(name string) bool { return req.Header[http.CanonicalHeaderKey(name)] != nil })
		switch {
		case rule.broken || slices.Contains([]int{400, 404, 413, 431}, got.StatusCode): // not read at all
			if got.StatusCode == 200 {
				t.Errorf("%q passes, but nobody can read the policy", text)
			}
		case got.StatusCode != 200:
			if who != nil && rule.passes(who) || rule.optional || preflight {
				t.Errorf("%q is answered %d, but may pass as %+v", text, got.StatusCode, who)
			}
		case preflight:
			wantIdentity(t, text, got, nil)
		case who != nil && rule.passes(who):
			wantIdentity(t, text, got, who)
		case who == nil && rule.optional:
			wantIdentity(t, text, got, nil)
		default:
			t.Errorf("%q passes as %q under %q, but is %+v", text, got.Header.Get("X-Authgear-User-Id"), rule.query, who)
		}
		if location := got.Header.Get("Location"); location != "" && location != "/login" && !strings.HasPrefix(location, "/login?return_to=%2F") {
			t.Errorf("%q leads to %q", text, location)
		}
	})
}

// inTarget returns the text as a proxy lets it stand in a request target.
func inTarget(path string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, path)
}

// wantIdentity tests whom the fields tell. A machine has no user id.
func wantIdentity(t *testing.T, text string, got *http.Response, who *resolver.Session) {
	t.Helper()
	valid := got.Header.Get("X-Authgear-Session-Valid")
	if who == nil {
		who = &resolver.Session{}
		if valid == "true" {
			t.Errorf("%q passes as somebody", text)
		}
	} else if valid != "true" {
		t.Errorf("%q passes with Session-Valid %q", text, valid)
	}
	for name, want := range map[string]string{"User-Id": who.UserID, "User-Roles": who.Roles, "User-Anonymous": who.Anonymous.String(), "User-Verified": who.Verified.String(), "Client-Id": who.ClientID, "Scope": who.Scope} {
		if have := got.Header.Values("X-Authgear-" + name); len(have) != 1 || have[0] != want {
			t.Errorf("%q: X-Authgear-%s is %q, want %q once", text, name, have, want)
		}
	}
}

// readAnswers reads what was answered, and tests that it is well-formed HTTP of visible
// characters, with identities on a 200 alone.
func readAnswers(t *testing.T, text string, out []byte) (list []*http.Response) {
	t.Helper()
	for i, c := range out {
		if c == '\n' && (i == 0 || out[i-1] != '\r') || c == '\r' && (i+1 == len(out) || out[i+1] != '\n') || c != '\r' && c != '\n' && (c < ' ' || c >= 0x7f) {
			t.Fatalf("%q is answered %q, with a byte %#x", text, out, c)
		}
	}
	for r := bufio.NewReader(bytes.NewReader(out)); ; {
		if _, err := r.Peek(1); err != nil {
			return list
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q is answered %q: %v", text, out, err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Fatalf("%q is answered %q: %v", text, out, err)
		}
		n := 0
		for name := range answer.Header {
			if strings.HasPrefix(name, "X-Authgear-") {
				n++
			}
		}
		if answer.StatusCode == 200 && (n != 10 || answer.Header.Get("Cache-Control") != "no-store") || answer.StatusCode != 200 && n > 0 {
			t.Fatalf("%q is answered %q", text, out)
		}
		if answer.StatusCode >= 200 { // 100 Continue is followed by the answer
			list = append(list, answer)
		}
	}
}
