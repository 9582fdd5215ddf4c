package authgeartest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// app is one of the two recorded projects.
type app struct {
	origin, prefix, domain string
}

var (
	lab  = app{origin: "http://localhost:23000"}
	lab2 = app{origin: "https://auth.lab2.test", prefix: "lab2_", domain: "lab2.test"}
)

func appOf(e Recorded) app {
	if e.Section == "db_config_source" && e.RequestHeader("Host") == "auth.lab2.test" {
		return lab2
	}
	if strings.HasPrefix(e.Name, "https_app") {
		return lab2
	}
	return lab
}

// skipped are the entries that this package does not claim to answer.
func skipped(e Recorded) string {
	switch {
	case strings.HasPrefix(e.Name, "main_port"):
		return "main's own port, which here shares one with the resolver"
	case strings.Contains(e.Path, "/oauth2/") || strings.Contains(e.Path, "/api/"):
		return "not the resolver"
	case e.Method == "":
		return "no request"
	}
	return ""
}

// stateChanges begin the names of entries recorded after a change of state.
var stateChanges = []string{
	"disabled_", "reenabled_", "deleted_", "after_", "account_valid_", "temporarily_",
	"deletion_", "sso_after", "expired_",
}

// byStatus are those where the grant lived and the account status said no.
var byStatus = []string{
	"temporarily_disabled_during",
	"account_valid_until_passed_by_itself",
	"account_valid_until_passed_by_itself_cookie",
}

func isStateChange(e Recorded) bool {
	return slices.ContainsFunc(stateChanges, func(p string) bool { return strings.HasPrefix(e.Name, p) })
}

// credential is the only credential of a request.
type credential struct {
	app   app
	kind  Kind
	value string
}

func soleCredential(e Recorded) (c credential, ok bool) {
	var found []credential
	a := appOf(e)
	for _, f := range e.Header {
		switch {
		case strings.EqualFold(f[0], "Authorization"):
			if scheme, token, _ := strings.Cut(strings.TrimSpace(f[1]), " "); strings.EqualFold(scheme, "bearer") {
				found = append(found, tokenCredential(a, token))
			}
		case strings.EqualFold(f[0], "Cookie"):
			found = append(found, cookieCredentials(a, f[1])...)
		}
	}
	if len(found) != 1 {
		return c, false
	}
	return found[0], true
}

func tokenCredential(a app, token string) credential {
	if jti := jtiOf(token); jti != "" {
		return credential{a, JTI, jti}
	}
	return credential{a, Bearer, strings.TrimSpace(token)}
}

func cookieCredentials(a app, line string) (out []credential) {
	for pair := range strings.SplitSeq(line, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		value = strings.Trim(value, `"`)
		switch strings.TrimPrefix(name, a.prefix) {
		case "session":
			out = append(out, credential{a, Session, value})
		case "app_session":
			out = append(out, credential{a, AppSession, value})
		case "app_access_token":
			out = append(out, tokenCredential(a, value))
		}
	}
	return out
}

// seeds are the entries in which a credential alone answered true.
func seeds() map[credential][]Recorded {
	out := map[credential][]Recorded{}
	for _, e := range Recordings() {
		if e.Status != 200 || e.AnswerHeader("X-Authgear-Session-Valid") != "true" {
			continue
		}
		if c, ok := soleCredential(e); ok {
			out[c] = append(out[c], e)
		}
		if e.Name == "prec_app_session_bob_and_session_alice" { // bob's was never sent alone
			c := cookieCredentials(lab, e.RequestHeader("Cookie"))
			i := slices.IndexFunc(c, func(c credential) bool { return c.kind == AppSession })
			out[c[i]] = append(out[c[i]], e)
		}
	}
	return out
}

// factsFor is the answer that tells what was known of a credential's user when
// e was recorded: the nearest in time of its other answers, so that an entry
// proves itself only if it is the only one or of dave, whose roles change.
func factsFor(e Recorded, answers []Recorded) Recorded {
	distance := func(a Recorded) int64 {
		if a.Section != e.Section || a.Name != e.Name {
			return max(a.At-e.At, e.At-a.At)
		}
		if strings.HasPrefix(e.Name, "dave_") {
			return -1
		}
		return 1 << 40
	}
	return slices.MinFunc(answers, func(a, b Recorded) int { return int(distance(a) - distance(b)) })
}

func userOf(facts Recorded, disabled bool) User {
	is := func(name string) bool { return facts.AnswerHeader(name) == "true" }
	u := User{
		ID:                facts.AnswerHeader("X-Authgear-User-Id"),
		Verified:          is("X-Authgear-User-Verified"),
		Anonymous:         is("X-Authgear-User-Anonymous"),
		CanReauthenticate: is("X-Authgear-User-Can-Reauthenticate"),
		Disabled:          disabled,
	}
	if roles := facts.AnswerHeader("X-Authgear-User-Roles"); roles != "" {
		u.Roles = strings.Split(roles, ",")
	}
	return u
}

// serverFor is a fake in the state that e was recorded in.
func serverFor(e Recorded, seeds map[credential][]Recorded) *Server {
	a := appOf(e)
	s := New(Options{
		Origin: a.origin, CookiePrefix: a.prefix, CookieDomain: a.domain,
		NoTrustProxy: strings.Contains(e.Name, "no_trust"),
		MultiTenant:  e.Section == "db_config_source" || strings.HasPrefix(e.Name, "https_app"),
	})
	s.Now = func() time.Time { return time.Unix(e.At, 0) }
	labKeys, lab2Keys := RecordedKeys()
	s.SetKeys(labKeys)
	if a == lab2 {
		s.SetKeys(lab2Keys)
	}
	disabled := slices.Contains(byStatus, e.Name)
	own, alone := soleCredential(e)
	gone := isStateChange(e) && e.AnswerHeader("X-Authgear-Session-Valid") != "true" && !disabled
	for c, answers := range seeds {
		if c.app == a && !(gone && alone && c == own) {
			seed(s, c, factsFor(e, answers), disabled)
		}
	}
	return s
}

func seed(s *Server, c credential, facts Recorded, disabled bool) {
	var at time.Time
	if sec, err := strconv.ParseInt(facts.AnswerHeader("X-Authgear-Session-Authenticated-At"), 10, 64); err == nil {
		at = time.Unix(sec, 0)
	}
	s.GrantAt(c.kind, c.value, s.AddUser(userOf(facts, disabled)), at)
}

// send replays e byte for byte over a connection, as no client would.
func send(t *testing.T, addr string, e Recorded) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", e.Method, e.Path)
	for _, f := range e.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	b.WriteString("Connection: close\r\n\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: e.Method})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

// outcome is what is compared: status, X-Authgear fields, session cookies.
func outcome(status int, fields [][2]string) string {
	lines := []string{strconv.Itoa(status)}
	for _, f := range fields {
		name := http.CanonicalHeaderKey(f[0])
		clearing := name == "Set-Cookie" && strings.Contains(f[1], "session=")
		if clearing || name == "Location" || strings.HasPrefix(name, "X-Authgear-") {
			lines = append(lines, name+": "+f[1])
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func answerOf(resp *http.Response) string {
	var fields [][2]string
	for name, values := range resp.Header {
		for _, v := range values {
			fields = append(fields, [2]string{name, v})
		}
	}
	return outcome(resp.StatusCode, fields)
}

func TestRecordedAnswers(t *testing.T) {
	known := seeds()
	replayed, changes, self := map[string]int{}, 0, 0
	for _, e := range Recordings() {
		if e.Section == "backend_outage" || e.Section == "extra" {
			continue
		}
		if why := skipped(e); why != "" && e.Section != "metadata" {
			t.Logf("not replayed: %s/%s: %s", e.Section, e.Name, why)
			continue
		}
		if e.Section == "metadata" && !served(e) {
			t.Logf("not replayed: %s/%s", e.Section, e.Name)
			continue
		}
		replayed[e.Section]++
		if isStateChange(e) {
			changes++
		}
		if c, ok := soleCredential(e); ok && len(known[c]) == 1 {
			self++
		}
		replay(t, e, known)
	}
	t.Logf("replayed %v, of which %d after a change of state and %d whose user facts only they tell", replayed, changes, self)
}

func served(e Recorded) bool {
	return e.Path == jwksPath || e.Path == "/healthz" || strings.HasPrefix(e.Path, "/.well-known/")
}

func replay(t *testing.T, e Recorded, known map[credential][]Recorded) {
	t.Run(e.Section+"/"+e.Name, func(t *testing.T) {
		hs := httptest.NewServer(serverFor(e, known))
		defer hs.Close()
		got := answerOf(send(t, hs.Listener.Addr().String(), e))
		if want := outcome(e.Status, e.ResponseHeader); got != want {
			t.Errorf("%s\ngot\n%s\nwant\n%s", e.How, got, want)
		}
	})
}
