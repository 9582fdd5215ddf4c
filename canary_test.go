package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// canaries are secrets that nothing of the service may tell.
type canaries struct {
	jwt, expired, opaque, cookie, appSession, unknown string

	hook, query, email string
}

func plant(a *authgeartest.Server) canaries {
	ada := a.AddUser(authgeartest.User{ID: "ada"})
	c := canaries{
		opaque: a.OpaqueToken(ada), cookie: a.SessionCookie(ada), appSession: a.AppSession(ada), unknown: "canaryUnknownToken0123456789abcd",
		hook: "canary-webhook-secret-0123456789", query: "canary-reset-password-0123456789", email: "canary.lovelace@private.example.com",
	}
	c.jwt = a.JWT(ada, func(_, claims map[string]any) { claims["email"] = c.email })
	c.expired = a.JWT(ada, func(_, claims map[string]any) { claims["email"], claims["exp"] = c.email, 1 })
	return c
}

// secrets are all that must not be told. The segments of a JWT are secret each, but for
// the header, which all tokens of a key have.
func (c canaries) secrets() []string {
	list := []string{c.opaque, c.cookie, c.appSession, c.unknown, c.hook, c.query, c.email}
	for _, jwt := range []string{c.jwt, c.expired} {
		list = append(list, strings.Split(jwt, ".")[1:]...)
	}
	return list
}

// requests are those that hold the canaries, in each place where one may come.
func (c canaries) requests() (list [][]string) {
	original := "X-Original-URL: https://user:" + c.query + "@app.example.com/reset?token=" + c.query + "#" + c.query
	for _, field := range []string{
		"Authorization: Bearer " + c.jwt, "Authorization: Bearer " + c.expired, "Authorization: Bearer " + c.opaque, "Authorization: Bearer " + c.unknown,
		"Authorization: Bearer " + c.jwt + ", Bearer " + c.opaque, "Authorization: Bearer " + c.jwt + "\r\nAuthorization: Bearer " + c.opaque,
		"Authorization: Bearer " + c.jwt[:len(c.jwt)-40], "Authorization: Bearer " + strings.ToLower(c.jwt), "Authorization: Bearer \"" + c.opaque + "\"",
		"Authorization: Bearer " + c.jwt + "." + c.opaque, "Authorization: Basic " + c.opaque, "Authorization: " + c.jwt,
		"Cookie: session=" + c.cookie, "Cookie: app_session=" + c.appSession, "Cookie: app_access_token=" + c.jwt, "Cookie: session=" + c.unknown + "; app_session=" + c.unknown,
		"Cookie: session=\"" + c.cookie + "\x01", "Cookie: " + c.cookie,
		"Cookie: session=" + c.cookie + "\r\nAuthorization: Bearer " + c.expired,
	} {
		list = append(list, []string{original, "X-Original-Method: GET", field, "X-Forwarded-For: 203.0.113.7"})
	}
	return list
}

// A told is all that the service says, by where.
type told map[string]string

func (s told) add(where string, resp *http.Response, body string) {
	var fields strings.Builder
	resp.Header.Write(&fields)
	s[where] += fields.String() + body + "\n"
}

func TestNothingTellsACredential(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			authgear := authgeartest.Start(t, authgeartest.Options{})
			c := plant(authgear)
			s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_LOG_LEVEL=trace", "AUTHGEAR_LOG_DECISIONS=all",
				"AUTHGEAR_LOG_FORMAT="+format, "AUTHGEAR_WEBHOOK_SECRET="+c.hook)
			s.Start()
			all := make(told)
			for _, policy := range []string{"", "?optional", "?role=admin", "?sign_in=/login", "?max_staleness=0s", "?roles=admin"} {
				for _, fields := range c.requests() {
					resp, body := send(t, s.Addr, "GET /nginx"+policy, fields, "")
					all.add("answers", resp, body)
				}
			}
			c.elsewhere(t, s, all)
			c.away(t, s, authgear, all)
			for _, path := range []string{"/metrics", "/status", "/readyz", "/healthz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline"} {
				resp, body := proxytest.Raw(t, s.Admin, "GET "+path+" HTTP/1.1\r\nHost: admin\r\n\r\n")
				if resp.StatusCode != 200 || body == "" {
					t.Errorf("%s: status %d", path, resp.StatusCode)
				}
				all.add(path, resp, body)
			}
			s.Stop()
			all["the log"] = s.Log()
			if n := strings.Count(all["the log"], "decided"); n < 100 {
				t.Errorf("the log has %d decisions; is all of it there?", n)
			}
			for where, text := range all {
				if part := leak(text, c.secrets()...); part != "" {
					at := strings.Index(text, part)
					t.Errorf("%s: %q is told: … %s …", where, part, text[max(0, at-200):min(len(text), at+200)])
				}
			}
		})
	}
}

// send sends what the fields and a body say to one of the listeners.
func send(t *testing.T, addr, line string, fields []string, body string) (*http.Response, string) {
	t.Helper()
	fields = append([]string{line + " HTTP/1.1", "Host: auth", "Connection: close", fmt.Sprint("Content-Length: ", len(body))}, fields...)
	return proxytest.Raw(t, addr, strings.Join(fields, "\r\n")+"\r\n\r\n"+body)
}

// elsewhere sends the canaries to all other paths.
func (c canaries) elsewhere(t *testing.T, s *proxytest.Service, all told) {
	for _, fields := range c.requests() {
		for _, line := range []string{"POST /forget", "GET /traefik", "GET /caddy", "GET /haproxy", "GET /envoy/reset?token=" + c.query, "GET /" + c.query, c.unknown + " /nginx"} {
			resp, body := send(t, s.Addr, line, fields, "")
			all.add("answers", resp, body)
		}
		resp, body := send(t, s.Admin, "POST /explain", []string{"Accept: application/json"}, strings.Join(fields[2:3], "\n"))
		all.add("/explain", resp, body)
		resp, body = send(t, s.Admin, "POST /explain", nil, strings.Join(fields, "\n"))
		all.add("/explain", resp, body)
	}
	for _, signature := range []string{c.hook, c.unknown} {
		resp, body := send(t, s.Addr, "POST /hooks/authgear", []string{"x-authgear-body-signature: " + signature}, `{"id":"1","type":"user.disabled","payload":{"user":{"id":"ada","standard_attributes":{"email":"`+c.email+`"}}}}`)
		if resp.StatusCode != 401 {
			t.Errorf("an event with a bad signature: status %d, want 401", resp.StatusCode)
		}
		all.add("answers", resp, body)
	}
}

// away sends the canaries while something else answers in Authgear's place, and sends
// back what it was sent.
func (c canaries) away(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server, all told) {
	for _, answer := range []func(conn io.Writer, request string){
		func(w io.Writer, request string) { io.WriteString(w, request) },
		func(w io.Writer, request string) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nX-Authgear-%s: 1\r\n\r\n", request)
		},
		func(w io.Writer, request string) {
			fmt.Fprintf(w, "HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s", len(request), request)
		},
	} {
		authgear.Fail("resolver", func(rw http.ResponseWriter, r *http.Request) {
			conn, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			var text strings.Builder
			r.Write(&text)
			answer(conn, text.String())
		})
		for _, fields := range c.requests() {
			resp, body := send(t, s.Addr, "GET /nginx?max_staleness=0s", fields, "")
			all.add("answers", resp, body)
			resp, body = send(t, s.Admin, "POST /explain", nil, fields[2])
			all.add("/explain", resp, body)
		}
		authgear.Fail("resolver", nil) // else it is asked only now and then
		proxytest.Eventually(t, "Authgear is asked again", func() bool {
			resp, _ := send(t, s.Addr, "GET /nginx?max_staleness=0s", []string{"Cookie: session=" + c.cookie}, "")
			return resp.StatusCode == 200
		})
	}
}

func TestABadSettingTellsNoSecret(t *testing.T) {
	const secret = "canary-webhook-secret-0123456789"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(strings.Repeat(secret+",", 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{
		"AUTHGEAR_WEBHOOK_SECRET=" + secret + ",short", "AUTHGEAR_WEBHOOK_SECRET=" + strings.Repeat(secret+",", 3), "AUTHGEAR_WEBHOOK_SECRET_FILE=" + secret,
		"AUTHGEAR_WEBHOOK_SECRET_FILE=" + file, "AUTHGEAR_ENDPOINT=https://ada:" + secret + "@myapp.authgear.cloud", "AUTHGEAR_ENDPOINT=https://myapp.authgear.cloud/?" + secret,
		"AUTHGEAR_RESOLVER_URL=https://ada:" + secret + "@resolver", "AUTHGEAR_RESOLVER_URL=:" + secret, "AUTHGEAR_WEBHOOK_SECRETS=" + secret,
	} {
		for _, command := range []string{"serve", "explain"} {
			cmd := proxytest.Command(t, []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN=4180", setting}, command)
			status, stdout, stderr := result(t, cmd)
			name, _, _ := strings.Cut(setting, "=")
			name = strings.TrimSuffix(name, "_FILE")
			if status != 1 || !strings.Contains(stderr, name) {
				t.Errorf("%s with %s: exit status %d: %s", command, name, status, stderr)
			}
			if part := leak(stdout+stderr, secret); part != "" {
				t.Errorf("%s with %s tells %q: %s", command, name, part, stdout+stderr)
			}
		}
	}
}

func TestTheFieldsOfADecisionAreDocumented(t *testing.T) {
	page := read(t, "docs/logs.md")
	for _, trusted := range []string{"127.0.0.0/8", "10.0.0.0/8"} {
		s, authgear := start(t, "AUTHGEAR_LOG_DECISIONS=all", "AUTHGEAR_TRUSTED_PROXIES="+trusted)
		cookie := "Cookie: session=" + authgear.SessionCookie(authgear.AddUser(authgeartest.User{ID: "ada"}))
		proxytest.Eventually(t, "the session is remembered", func() bool {
			send(t, s.Addr, "GET /nginx", []string{cookie, "X-Original-URL: https://app/orders", "X-Original-Method: GET"}, "")
			return strings.Contains(s.Log(), `"cache":"hit"`)
		})
		send(t, s.Addr, "GET /nginx", []string{"Authorization: Bearer unknown"}, "")
		s.Stop()
		for line := range strings.Lines(s.Log()) {
			var event map[string]any
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			for name := range event {
				if event["message"] == "decided" && name != "level" && name != "time" && name != "message" && !strings.Contains(page, "`"+name+"`") {
					t.Errorf("docs/logs.md does not tell of the field %s", name)
				}
			}
		}
	}
}
