package resolver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// requestOf returns the recorded request as net/http reads it.
func requestOf(r authgeartest.Recorded) *http.Request {
	req := httptest.NewRequest("GET", "/", nil)
	for _, f := range r.Header {
		req.Header.Add(f[0], strings.TrimSpace(f[1]))
	}
	return req
}

func credentialsOf(r authgeartest.Recorded) Credentials {
	h := requestOf(r).Header
	return NewReader(prefixOf(r), nil).Read(nil, lines(h["Authorization"]...), lines(h["Cookie"]...))
}

func prefixOf(r authgeartest.Recorded) string {
	if r.Name == "lab2_cookie_at_lab_host" {
		return ""
	}
	if strings.Contains(r.Name, "https_app") || slices.ContainsFunc(r.Header, func(f [2]string) bool { return strings.Contains(f[1], "lab2_session") }) {
		return "lab2_"
	}
	return ""
}

// A script is a resolver that gives the same answer to every question.
type script struct {
	status int
	header [][2]string
	body   string
	asked  chan *http.Request // the questions
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked <- r.Clone(context.Background())
	for _, f := range s.header {
		w.Header().Add(f[0], f[1])
	}
	w.WriteHeader(s.status)
	w.Write([]byte(s.body))
}

// remote returns a Remote that asks the script in the name of
// https://auth.example.com, until t ends.
func (s *script) remote(t *testing.T, prefix string) *Remote {
	t.Helper()
	s.asked = make(chan *http.Request, 8)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	endpoint, err := url.Parse("https://auth.example.com")
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(server.URL + "/_resolver/resolve")
	if err != nil {
		t.Fatal(err)
	}
	return NewRemote(RemoteOptions{Endpoint: endpoint, URL: to, CookiePrefix: prefix, Timeout: 5 * time.Second})
}

// question returns the only question that was asked.
func (s *script) question(t *testing.T) *http.Request {
	t.Helper()
	if n := len(s.asked); n != 1 {
		t.Fatalf("%d questions were asked, want 1", n)
	}
	return <-s.asked
}

// The recorded server's answer goes in, our verdict and fields come out.
func TestRemoteReadsRecordedAnswers(t *testing.T) {
	counts := map[string]int{}
	replayed := 0
	for _, r := range authgeartest.Recordings() {
		if !strings.HasSuffix(strings.TrimSuffix(r.Path, "/"), "/resolve") && r.Name != "path_other" && r.Name != "main_port_has_no_resolver" {
			continue
		}
		c := credentialsOf(r)
		if len(askable(c.List)) == 0 {
			counts["no question is asked"]++
			if c.Malformed != errAuthorization && r.AnswerHeader("X-Authgear-Session-Valid") == "true" {
				t.Errorf("%s: no question is asked, and Authgear knows a session", r.Name)
			}
			continue
		}
		replayed++
		t.Run(r.Section+"/"+r.Name, func(t *testing.T) {
			authgear := &script{status: r.Status, header: r.ResponseHeader, body: r.Body}
			s, err := authgear.remote(t, prefixOf(r)).Resolve(context.Background(), c)
			counts[checkOutcome(t, r, s, err)]++
			checkQuestion(t, requestOf(r), prefixOf(r), c.Malformed != nil, authgear.question(t))
		})
	}
	t.Logf("replayed %d: %v", replayed, counts)
	if replayed < 338 || counts["no question is asked"] < 41 {
		t.Errorf("%d answers replayed and %d without a question, want 338 and 41: are recordings missing?", replayed, counts["no question is asked"])
	}
}

func checkOutcome(t *testing.T, r authgeartest.Recorded, s *Session, err error) string {
	var out *UnavailableError
	var inv *InvalidError
	valid := r.AnswerHeader("X-Authgear-Session-Valid")
	switch {
	case r.Status != 200:
		if !errors.As(err, &out) {
			t.Errorf("status %d: %v, %v, want that nothing was found out", r.Status, s, err)
		}
		return "could not find out"
	case valid == "true":
		if err != nil {
			t.Errorf("Resolve: %v", err)
			return "who"
		}
		for name, have := range s.asFields() {
			if want := r.AnswerHeader(name); have != want {
				t.Errorf("%s = %q, want %q", name, have, want)
			}
		}
		return "who"
	case valid == "false":
		if !errors.As(err, &inv) || inv.Reason != SessionInvalid || inv.ClearCookie != r.AnswerHeader("Set-Cookie") {
			t.Errorf("Resolve = %v, %#v, want session_invalid with the cookie %q", s, err, r.AnswerHeader("Set-Cookie"))
		}
		return "worthless (false)"
	}
	if !errors.As(err, &inv) || inv.Reason != UnknownToken {
		t.Errorf("Resolve = %v, %v, want unknown_token", s, err)
	}
	return "worthless (absent)"
}

func (s *Session) asFields() map[string]string {
	at := ""
	if s.AuthenticatedAt != 0 {
		at = strconv.FormatInt(s.AuthenticatedAt, 10)
	}
	return map[string]string{
		"X-Authgear-User-Id": s.UserID, "X-Authgear-User-Roles": s.Roles, "X-Authgear-Session-Amr": s.AMR,
		"X-Authgear-User-Anonymous": s.Anonymous.String(), "X-Authgear-User-Verified": s.Verified.String(),
		"X-Authgear-User-Can-Reauthenticate": s.CanReauthenticate.String(), "X-Authgear-Session-Authenticated-At": at,
	}
}

// checkQuestion compares the credentials that Authgear was asked about with
// those it reads in the original request, and finds nothing else of the client's.
func checkQuestion(t *testing.T, original *http.Request, prefix string, malformed bool, asked *http.Request) {
	t.Helper()
	for _, name := range []string{"session", "app_session", "app_access_token"} {
		want, wantErr := original.Cookie(prefix + name)
		have, err := asked.Cookie(prefix + name)
		if (err == nil) != (wantErr == nil) || err == nil && have.Value != want.Value {
			t.Errorf("asked about cookie %s = %v, want %v", name, have, want)
		}
	}
	want := ""
	if scheme, token, _ := strings.Cut(original.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") && token != "" && !malformed {
		want = "Bearer " + token
	}
	if have := asked.Header.Get("Authorization"); have != want {
		t.Errorf("asked about Authorization %q, want %q", have, want)
	}
	checkFieldsOfQuestion(t, asked)
}

func checkFieldsOfQuestion(t *testing.T, asked *http.Request) {
	t.Helper()
	want := map[string]bool{"Authorization": true, "Cookie": true, "X-Forwarded-Proto": true}
	for name, values := range asked.Header {
		if !want[name] || len(values) != 1 {
			t.Errorf("the question has the field %s: %q", name, values)
		}
	}
	if asked.Host != "auth.example.com" || asked.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("asked in the name of %s://%s", asked.Header.Get("X-Forwarded-Proto"), asked.Host)
	}
	if asked.Method != "GET" || asked.URL.Path != "/_resolver/resolve" {
		t.Errorf("asked by %s %s", asked.Method, asked.URL.Path)
	}
}

// refused are the recorded JWTs that are refused here, and why. Where Authgear
// itself accepts one, docs/jwt-and-resolver.md says why we do not.
var refused = map[string]Reason{
	"jwt_tampered_signature":           BadSignature,
	"jwt_alg_none":                     WrongAlgorithm,
	"jwt_signed_by_other_key_same_kid": BadSignature,
	"jwt_no_signature_part":            MalformedCredential,
	"jwt_right_key_expired_exp":        Expired,
	"jwt_right_key_wrong_iss":          WrongIssuer,
	"jwt_right_key_wrong_aud":          WrongAudience,
	"jwt_right_key_typ_JWT":            WrongType,
	"jwt_right_key_nbf_future":         NotYetValid,
	"id_token_as_bearer":               WrongType,
	"m2m_bearer":                       WrongAudience,
	"expired_bearer_jwt":               Expired,
}

// Real tokens are verified with the real key set at the recorded time.
func TestRecordedJWTs(t *testing.T) {
	lab, lab2 := authgeartest.RecordedKeys()
	seen := map[string]bool{}
	accepted, turnedDown := 0, 0
	for _, r := range authgeartest.Recordings() {
		for _, one := range credentialsOf(r).List {
			if !one.IsJWT() || seen[one.Value] {
				continue
			}
			seen[one.Value] = true
			issuer, keys := "http://localhost:23000", lab
			if strings.Contains(r.Name, "https_app") {
				issuer, keys = "https://auth.lab2.test", lab2
			}
			t.Run(r.Name, func(t *testing.T) {
				s, err := verifyAt(t, issuer, keys, one, r.At)
				var inv *InvalidError
				if want, ok := refused[r.Name]; ok {
					turnedDown++
					if !errors.As(err, &inv) || inv.Reason != want {
						t.Errorf("Resolve = %v, %v, want %s", s, err, want)
					}
					return
				}
				accepted++
				if err != nil {
					t.Fatalf("Resolve: %v", err)
				}
				if r.AnswerHeader("X-Authgear-Session-Valid") == "true" {
					checkAgainstResolver(t, r, s)
				}
			})
		}
	}
	t.Logf("%d accepted, %d refused", accepted, turnedDown)
	if turnedDown != len(refused) || accepted < 26 {
		t.Errorf("%d accepted and %d refused, want 26 or more and %d", accepted, turnedDown, len(refused))
	}
}

func verifyAt(t *testing.T, issuer string, jwks []byte, c Credential, at int64) (s *Session, err error) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(at, 0)))
		set, setErr := parseKeys(jwks)
		if setErr != nil {
			t.Fatal(setErr)
		}
		j := &JWT{Issuer: issuer, Audiences: []string{issuer}, Skew: 30 * time.Second, Keys: knownKeys(set)}
		s, err = j.Resolve(context.Background(), Credentials{List: []Credential{c}})
	})
	return s, err
}

// checkAgainstResolver compares the two answers for one token. They may differ in
// what docs/jwt-and-resolver.md lists.
func checkAgainstResolver(t *testing.T, r authgeartest.Recorded, s *Session) {
	for name, have := range s.asFields() {
		want := r.AnswerHeader(name)
		switch {
		case name == "X-Authgear-Session-Amr" && want == "":
		case name == "X-Authgear-User-Id" && r.Name == "jwt_right_key_other_sub":
		case strings.HasPrefix(name, "X-Authgear-User-") && (r.Name == "jwt_right_key_other_sub" || r.Name == "dave_after_role_removed"):
		case have != want:
			t.Errorf("%s = %q, Authgear's resolver says %q", name, have, want)
		}
	}
}
