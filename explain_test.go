package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/explain"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/resolver"
)

// A faulty is a request that is broken in one way.
type faulty struct {
	name     string
	settings []string
	fresh    bool // the service has not met a good JWT before
	policy   string
	lines    func(w *planted) []string

	step   string // the first that fails
	reason resolver.Reason
}

// planted is an Authgear that the fault may be in, and who asks.
type planted struct {
	*authgeartest.Server
	ada *authgeartest.User
}

func (w *planted) jwt(edit func(header, claims map[string]any)) []string {
	return []string{"Authorization: Bearer " + w.JWT(w.ada, edit)}
}

func claim(name string, value any) func(*planted) []string {
	return func(w *planted) []string { return w.jwt(func(_, c map[string]any) { c[name] = value }) }
}

func without(name string) func(*planted) []string {
	return func(w *planted) []string { return w.jwt(func(_, c map[string]any) { delete(c, name) }) }
}

func member(name string, value any) func(*planted) []string {
	return func(w *planted) []string { return w.jwt(func(h, _ map[string]any) { h[name] = value }) }
}

func lines(text ...string) func(*planted) []string { return func(*planted) []string { return text } }

func good(w *planted) []string { return w.jwt(func(_, _ map[string]any) {}) }

// fails is a good JWT while the resolver or the keys answer so.
func fails(kind string, status int, body string) func(*planted) []string {
	return func(w *planted) []string {
		w.Fail(kind, func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			rw.Write([]byte(body))
		})
		return good(w)
	}
}

// segment is a part of a JWT.
func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

const userClaim = "https://authgear.com/claims/user/"

var faults = []faulty{
	{name: "no credential", lines: lines(), step: "credentials", reason: resolver.NoCredential},
	{name: "a cookie of the application alone", lines: lines("Cookie: theme=dark; my_session=1"), step: "credentials", reason: resolver.NoCredential},
	{name: "another scheme", lines: lines("Authorization: Basic YWRhOmxvdmVsYWNl"), step: "credentials", reason: resolver.NoCredential},
	{name: "the cookies have a prefix that is not set", lines: func(w *planted) []string {
		return []string{"Cookie: my_app_session=" + w.AppSession(w.ada)}
	}, step: "credentials", reason: resolver.NoCredential},
	{name: "two Authorization lines", lines: func(w *planted) []string { return append(good(w), good(w)...) }, step: "credentials", reason: resolver.MalformedCredential},
	{name: "a list of tokens", lines: func(w *planted) []string { return []string{good(w)[0] + ", Bearer " + w.OpaqueToken(w.ada)} }, step: "credentials", reason: resolver.MalformedCredential},
	{name: "a token that is too long", lines: lines("Authorization: Bearer " + strings.Repeat("a", 17<<10)), step: "credentials", reason: resolver.MalformedCredential},
	{name: "a cookie that is too long", lines: lines("Cookie: session=" + strings.Repeat("a", 5<<10)), step: "credentials", reason: resolver.MalformedCredential},

	{name: "a JWT of two parts", lines: func(w *planted) []string { l := good(w)[0]; return []string{l[:strings.LastIndex(l, ".")]} }, step: "form", reason: resolver.MalformedCredential},
	{name: "a JWT of four parts", lines: func(w *planted) []string { return []string{good(w)[0] + ".x"} }, step: "form", reason: resolver.MalformedCredential},
	{name: "a header that is no base64url", lines: lines("Authorization: Bearer eyJ+/+.e30.e30"), step: "header", reason: resolver.MalformedCredential},
	{name: "a header with a member twice", lines: lines("Authorization: Bearer " + segment(`{"alg":"RS256","alg":"none","typ":"at+jwt"}`) + ".e30.e30"), step: "header", reason: resolver.MalformedCredential},
	{name: "a header that brings its key", lines: member("jwk", map[string]any{"kty": "RSA"}), step: "header members", reason: resolver.MalformedCredential},
	{name: "HMAC", lines: member("alg", "HS256"), step: "algorithm", reason: resolver.WrongAlgorithm},
	{name: "no algorithm", lines: member("alg", "none"), step: "algorithm", reason: resolver.WrongAlgorithm},
	{name: "an ID token", lines: func(w *planted) []string { return []string{"Authorization: Bearer " + w.IDToken(w.ada)} }, step: "type", reason: resolver.WrongType},
	{name: "no key id", lines: member("kid", ""), step: "key id", reason: resolver.MalformedCredential},
	{name: "claims that are no JSON", lines: func(w *planted) []string {
		p := strings.Split(good(w)[0], ".")
		return []string{p[0] + "." + segment("{iss}") + "." + p[2]}
	}, step: "claims", reason: resolver.MalformedCredential},
	{name: "a claim of the wrong type", lines: claim("exp", "soon"), step: "claims", reason: resolver.MalformedCredential},
	{name: "another issuer", lines: claim("iss", "https://other.example.com"), step: "issuer", reason: resolver.WrongIssuer},
	{name: "the issuer with a slash", lines: func(w *planted) []string { return claim("iss", w.Origin()+"/")(w) }, step: "issuer", reason: resolver.WrongIssuer},
	{name: "another audience", lines: claim("aud", "https://api.example.com"), step: "audience", reason: resolver.WrongAudience},
	{name: "no jti", lines: without("jti"), step: "required claims", reason: resolver.MalformedCredential},
	{name: "no end", lines: without("exp"), step: "required claims", reason: resolver.MalformedCredential},
	{name: "a client that is not accepted", settings: []string{"AUTHGEAR_CLIENT_IDS=portal"}, fresh: true, lines: good, step: "client", reason: resolver.WrongClient},
	{name: "bound to a key", lines: claim("cnf", map[string]any{"jkt": "x"}), step: "whose", reason: resolver.WrongType},
	{name: "not of a user", lines: without(userClaim + "is_anonymous"), step: "whose", reason: resolver.WrongType},
	{name: "a line break in a role", lines: claim(userClaim+"roles", []string{"a\nb"}), step: "characters", reason: resolver.MalformedCredential},
	{name: "expired", lines: claim("exp", time.Now().Add(-time.Hour).Unix()), step: "times", reason: resolver.Expired},
	{name: "issued in the future", lines: claim("iat", time.Now().Add(time.Hour).Unix()), step: "times", reason: resolver.NotYetValid},
	{name: "not valid before", lines: claim("nbf", time.Now().Add(time.Hour).Unix()), step: "times", reason: resolver.NotYetValid},
	{name: "an end that is no time", lines: claim("exp", -1), step: "times", reason: resolver.MalformedCredential},
	{name: "a key that is unknown", lines: member("kid", "nobody's"), step: "signature", reason: resolver.UnknownKey},
	{name: "changed on its way", lines: func(w *planted) []string {
		p, other := strings.Split(good(w)[0], "."), strings.Split(claim("sub", "eve")(w)[0], ".")
		return []string{p[0] + "." + other[1] + "." + p[2]}
	}, step: "signature", reason: resolver.BadSignature},
	{name: "cut", lines: func(w *planted) []string { l := good(w)[0]; return []string{l[:len(l)-2]} }, step: "signature", reason: resolver.BadSignature},
	{name: "a signature that is no base64url", lines: func(w *planted) []string { return []string{good(w)[0] + "=="} }, step: "signature", reason: resolver.MalformedCredential},

	{name: "a JWT of a session that was revoked", lines: func(w *planted) []string {
		l := good(w)
		w.Revoke(strings.TrimPrefix(l[0], "Authorization: Bearer "))
		return l
	}, step: "Authgear", reason: resolver.Revoked},
	{name: "a JWT that ended within the leeway", lines: func(w *planted) []string {
		return claim("exp", time.Now().Add(-5*time.Second).Unix())(w)
	}, step: "Authgear", reason: resolver.Expired},
	{name: "a JWT of a user who is disabled", lines: func(w *planted) []string {
		w.Edit(w.ada, func(u *authgeartest.User) { u.Disabled = true })
		return good(w)
	}, step: "Authgear", reason: resolver.SessionInvalid},
	{name: "a session cookie of a user who is disabled", lines: func(w *planted) []string {
		cookie := w.SessionCookie(w.ada)
		w.Edit(w.ada, func(u *authgeartest.User) { u.Disabled = true })
		return []string{"Cookie: session=" + cookie}
	}, step: "Authgear", reason: resolver.SessionInvalid},
	{name: "a session cookie that is dead", lines: lines("Cookie: session=4098a1a2-805e-4235-9698-8708fb27df95.0123456789abcdefghijklmnopqrstuv"), step: "Authgear", reason: resolver.SessionInvalid},
	{name: "the cookie app_session, dead", lines: lines("Cookie: app_session=4098a1a2-805e-4235-9698-8708fb27df95.0123456789abcdefghijklmnopqrstuv"), step: "Authgear", reason: resolver.UnknownToken},
	{name: "an opaque token that is unknown", lines: lines("Authorization: Bearer 0123456789abcdefghijklmnopqrstuv"), step: "Authgear", reason: resolver.UnknownToken},
	{name: "an opaque token in quotes", lines: lines(`Authorization: Bearer "0123456789abcdefghijklmnopqrstuv"`), step: "Authgear", reason: resolver.MalformedCredential},
	{name: "an expired JWT in a cookie of the application", settings: []string{"AUTHGEAR_ACCESS_TOKEN_COOKIES=my_token"}, lines: func(w *planted) []string {
		return []string{"Cookie: my_token=" + w.JWT(w.ada, func(_, c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() })}
	}, step: "times", reason: resolver.Expired},
	{name: "an opaque token where only JWTs pass", settings: []string{"AUTHGEAR_MODE=jwt"}, lines: lines("Authorization: Bearer 0123456789abcdefghijklmnopqrstuv"), step: "form", reason: resolver.UnknownToken},
	{name: "a JWT of which Authgear knows nothing, where it alone is asked", settings: []string{"AUTHGEAR_MODE=resolver"}, lines: claim("aud", "https://api.example.com"), step: "Authgear", reason: resolver.UnknownToken},

	{name: "a machine's token", settings: []string{"AUTHGEAR_AUDIENCES=https://api.example.com"}, fresh: true, lines: func(w *planted) []string {
		return []string{"Authorization: Bearer " + w.M2M("robot", "https://api.example.com")}
	}, step: "policy", reason: resolver.MachineToken},
	{name: "lacks a role", policy: "role=owner&role=admin", lines: good, step: "policy", reason: resolver.MissingRole},
	{name: "lacks a scope", policy: "scope=orders", lines: good, step: "policy", reason: resolver.MissingScope},
	{name: "a client that the route does not take", policy: "client_id=portal", lines: good, step: "policy", reason: resolver.WrongClient},
	{name: "not verified", policy: "verified", lines: good, step: "policy", reason: resolver.NotVerified},
	{name: "an anonymous user", policy: "deny_anonymous", lines: func(w *planted) []string {
		w.Edit(w.ada, func(u *authgeartest.User) { u.Anonymous = true })
		return good(w)
	}, step: "policy", reason: resolver.AnonymousUser},
	{name: "signed in long ago", policy: "signed_in_within=10m", lines: func(w *planted) []string {
		w.GrantAt(authgeartest.Session, "4098a1a2.long-ago", w.ada, time.Now().Add(-time.Hour))
		return []string{"Cookie: session=4098a1a2.long-ago"}
	}, step: "policy", reason: resolver.SignInTooOld},
	{name: "a slip in the policy", policy: "roles=admin", lines: good, step: "policy", reason: resolver.BadPolicy},
	{name: "a policy that nobody can meet in this mode", settings: []string{"AUTHGEAR_MODE=jwt"}, policy: "max_staleness=1s", lines: good, step: "policy", reason: resolver.BadPolicy},

	{name: "Authgear's database is down", lines: fails("resolver", 500, "internal error"), step: "Authgear", reason: resolver.ResolverUnavailable},
	{name: "Authgear does not know the host", lines: fails("resolver", 404, "app not found\n"), step: "Authgear", reason: resolver.ResolverUnavailable},
	{name: "something else answers", lines: fails("resolver", 200, "<!DOCTYPE html>"), step: "Authgear", reason: resolver.ResolverUnavailable},
	{name: "nobody answers", settings: []string{"AUTHGEAR_RESOLVER_URL=http://127.0.0.1:1/resolve"}, fresh: true, lines: good, step: "Authgear", reason: resolver.ResolverUnavailable},
	{name: "a resolver that knows no JWT", fresh: true, lines: fails("resolver", 200, ""), step: "Authgear", reason: resolver.ResolverUnavailable},
	{name: "no keys", fresh: true, lines: fails("keys", 404, ""), step: "signature", reason: resolver.KeysUnavailable},
	{name: "keys elsewhere", fresh: true, lines: func(w *planted) []string {
		w.Fail("keys", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://myapp.authgear.cloud/", http.StatusFound)
		})
		return good(w)
	}, step: "signature", reason: resolver.KeysUnavailable},
}

// Each fault is planted for two services alike: one whose gate is asked, and one that
// explains. Neither knows what the other remembers.
func TestExplainNamesTheFaultAsTheGateDoes(t *testing.T) {
	if len(faults) < 40 {
		t.Fatalf("%d faults, want 40 at least", len(faults))
	}
	page := read(t, "docs/explain.md")
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			ada := func(a *authgeartest.Server) *planted {
				return &planted{a, a.AddUser(authgeartest.User{ID: "ada", Roles: []string{"editor"}})}
			}
			authgear := authgeartest.Start(t, authgeartest.Options{})
			gate, explaining := assembled(t, authgear, tt.settings...), assembled(t, authgear, tt.settings...)
			if !tt.fresh {
				for _, s := range []*service{gate, explaining} {
					if r := s.explained(t, good(ada(authgear)), ""); r.Reason != resolver.OK {
						t.Fatalf("a good JWT: %+v", r)
					}
				}
			}
			text := tt.lines(ada(authgear))
			verdict, reason, status := gate.answers(t, text, tt.policy)
			if reason != string(tt.reason) {
				t.Errorf("the gate's reason is %s, want %s", reason, tt.reason)
			}
			r := explaining.explained(t, text, tt.policy)
			if r.Verdict != verdict || string(r.Reason) != reason || r.Status != status {
				t.Errorf("explained as %d %s %s, but the gate answers %d %s %s", r.Status, r.Verdict, r.Reason, status, verdict, reason)
			}
			if step := failed(r); step != tt.step {
				t.Errorf("the step %q fails first, want %q: %+v", step, tt.step, r.Steps)
			}
			if !slices.ContainsFunc(r.Steps, func(s resolver.Step) bool { return s.Result == resolver.Failed && s.Reason == tt.reason }) {
				t.Errorf("no step fails with %s: %+v", tt.reason, r.Steps)
			}
			for _, step := range r.Steps {
				if !strings.Contains(page, "`"+step.Name+"`") {
					t.Errorf("docs/explain.md does not tell of the step %q", step.Name)
				}
			}
			if r.Next == "" {
				t.Error("it is not told what to do next")
			}
			var told bytes.Buffer
			r.Print(&told)
			json.NewEncoder(&told).Encode(r)
			for _, line := range text {
				if part := leak(told.String(), credentialsOf(line)...); part != "" {
					t.Errorf("it tells %q of the credential:\n%s", part, told.String())
				}
			}
		})
	}
}

// failed returns the first step that fails.
func failed(r explain.Report) string {
	i := slices.IndexFunc(r.Steps, func(s resolver.Step) bool { return s.Result == resolver.Failed })
	if i < 0 {
		return ""
	}
	return r.Steps[i].Name
}

// assembled returns a service as main makes it, which waits for confirmations.
func assembled(t *testing.T, authgear *authgeartest.Server, more ...string) *service {
	t.Helper()
	for _, line := range append([]string{
		"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_CONFIRM=before", "AUTHGEAR_CACHE_BYTES=1MiB", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_LOG_DECISIONS=all",
	}, more...) {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	set, err := load()
	if err != nil {
		t.Fatal(err)
	}
	service, err := assemble(set, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.sessions.Close)
	return service
}

func (s *service) explained(t *testing.T, lines []string, policy string) explain.Report {
	t.Helper()
	fields, err := explain.Read([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s.explainer().Explain(context.Background(), fields, policy)
}

// answers sends a request with the lines to the gate, as nginx does.
func (s *service) answers(t *testing.T, lines []string, policy string) (verdict, reason string, status int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s.gate.Log = zerolog.New(&log)
	server := forwardauth.NewServer(s.gate.Handler(nginx.Dialect), forwardauth.Body{})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	target := "/nginx"
	if policy != "" {
		target += "?" + policy
	}
	text := "GET " + target + " HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
	resp, _ := proxytest.Raw(t, l.Addr().String(), text)
	server.Shutdown() // the event is written then
	<-ended
	var event struct{ Verdict, Reason string }
	if err := json.Unmarshal(log.Bytes(), &event); err != nil {
		t.Fatalf("the log: %v: %s", err, log.String())
	}
	return event.Verdict, event.Reason, resp.StatusCode
}

// A second credential passes where the first one does not, and an explanation tells of
// no more than the gate looks at.
func TestExplainTriesWhatTheGateTries(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	w := &planted{authgear, authgear.AddUser(authgeartest.User{ID: "ada"})}
	expired := claim("exp", time.Now().Add(-time.Hour).Unix())(w)[0]
	cookie := "Cookie: session=" + w.SessionCookie(w.ada)
	for _, tt := range []struct {
		name, policy string
		lines        []string
		steps        []string
		reason       resolver.Reason
	}{
		{"the second is good", "", []string{expired, cookie}, []string{"tried", "times", "Authgear", "tried", "Authgear", "policy"}, resolver.OK},
		{"the first is good", "", []string{good(w)[0], cookie}, []string{"tried", "times", "signature", "Authgear", "policy"}, resolver.OK},
		{"a bad one where visitors pass", "optional", []string{expired}, []string{"times", "Authgear", "policy"}, resolver.Expired},
		{"none where visitors pass", "optional", nil, []string{"policy"}, resolver.Visitor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := assembled(t, authgear).explained(t, tt.lines, tt.policy)
			verdict, reason, _ := assembled(t, authgear).answers(t, tt.lines, tt.policy)
			if r.Verdict != verdict || string(r.Reason) != reason || r.Reason != tt.reason {
				t.Errorf("explained as %s %s, the gate answers %s %s; want %s", r.Verdict, r.Reason, verdict, reason, tt.reason)
			}
			var steps []string
			for _, s := range r.Steps {
				if slices.Contains(tt.steps, s.Name) {
					steps = append(steps, s.Name)
				}
			}
			if !slices.Equal(steps, tt.steps) {
				t.Errorf("the steps are %q, want %q", steps, tt.steps)
			}
			if last := r.Steps[len(r.Steps)-1]; last.Name != "policy" || last.Result != resolver.Passed {
				t.Errorf("the last step is %+v, want the policy, passed", last)
			}
		})
	}
}

func TestTheExplainCommand(t *testing.T) {
	s, authgear := start(t)
	w := &planted{authgear, authgear.AddUser(authgeartest.User{ID: "ada", Roles: []string{"editor"}})}
	token := strings.TrimPrefix(good(w)[0], "Authorization: Bearer ")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(good(w)[0]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		stdin  string
		status int
		want   string // in the output
	}{
		{"a token alone", nil, token + "\n", 0, "\n200 ok (ok)\n"},
		{"with its scheme", nil, "bearer " + token, 0, "\n200 ok (ok)\n"},
		{"lines of a request", nil, "cookie: theme=dark\nAuthorization: Bearer " + token + "\n\n", 0, "pass  signature"},
		{"a file", []string{file}, "", 0, "\n200 ok (ok)\n"},
		{"a policy", []string{"-policy", "role=admin", file}, "", 1, "\n403 missing role (missing_role)\n"},
		{"JSON", []string{"-json", "-policy", "role=admin"}, token, 1, `"reason":"missing_role"`},
		{"nothing", nil, "", 1, "(no_credential)"},
		{"a token that is changed", nil, token[:len(token)-2], 1, "(bad_signature)"},
		{"two tokens", nil, token + "\n" + token, 1, "more than one line"},
		{"a token in the place of the file", []string{token}, "", 1, "FILE: "},
		{"one that begins as flags do", []string{"-" + token}, "", 1, "a flag that there is not"},
		{"too many files", []string{file, token}, "", 1, "one FILE at most"},
		{"help", []string{"-h"}, "", 0, "the policy of the route"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := s.Command(append([]string{"explain"}, tt.args...)...)
			cmd.Stdin = strings.NewReader(tt.stdin)
			status, stdout, stderr := result(t, cmd)
			if status != tt.status || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("exit status %d, want %d, with %q in:\n%s%s", status, tt.status, tt.want, stdout, stderr)
			}
			if part := leak(stdout+stderr, token); part != "" {
				t.Errorf("it tells %q of the token:\n%s%s", part, stdout, stderr)
			}
			if slices.Contains(tt.args, "-json") && !json.Valid([]byte(stdout)) {
				t.Errorf("no JSON: %s", stdout)
			}
		})
	}
}

func TestARunningServiceExplains(t *testing.T) {
	s, authgear := start(t)
	cookie := "Cookie: session=" + authgear.SessionCookie(authgear.AddUser(authgeartest.User{ID: "ada"}))
	post := func(query, accept, body string) (*http.Response, string) {
		return proxytest.Raw(t, s.Admin, fmt.Sprintf("POST /explain%s HTTP/1.1\r\nHost: admin\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s", query, accept, len(body), body))
	}
	if resp := ask(t, s, cookie); resp.StatusCode != 200 {
		t.Fatalf("the cookie: status %d, want 200", resp.StatusCode)
	}
	resp, text := post("", "*/*", cookie)
	if resp.StatusCode != 200 || !strings.Contains(text, "\n200 ok (ok)\n") || !strings.Contains(text, "the session, confirmed by Authgear ") {
		t.Errorf("status %d, want 200 and what is remembered: %s", resp.StatusCode, text)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", resp.Header.Get("Cache-Control"))
	}
	var r explain.Report
	_, text = post("?verified", "application/json", cookie)
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Reason != resolver.NotVerified || r.Status != 403 || r.Next == "" {
		t.Errorf("%v: %+v", err, r)
	}
	for what, tt := range map[string]struct {
		resp *http.Response
		want int
	}{
		"two tokens": {first(post("", "*/*", "a\nb")), 400},
		"too long":   {first(post("", "*/*", strings.Repeat("a", 65<<10))), 413},
		"GET":        {first(proxytest.Raw(t, s.Admin, "GET /explain HTTP/1.1\r\nHost: admin\r\n\r\n")), 405},
	} {
		if tt.resp.StatusCode != tt.want {
			t.Errorf("%s: status %d, want %d", what, tt.resp.StatusCode, tt.want)
		}
	}
}

func first(resp *http.Response, _ string) *http.Response { return resp }
