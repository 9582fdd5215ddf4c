package resolver

import (
	"context"
	_ "embed"
	"encoding/json"
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
)

// What a real Authgear answered, with the credentials and keys it issued.
//
//go:embed testdata/recorded.json
var recordedJSON []byte

type recording struct {
	Section, Name, Method, Path string
	Header                      [][2]string // of the request
	Status                      int
	Answer                      [][2]string // the fields of the answer
	Body                        string
	At                          int64 // Unix seconds
}

func recorded(t *testing.T) (entries []recording, keys map[string]json.RawMessage) {
	var doc struct {
		Keys    map[string]json.RawMessage
		Entries []recording
	}
	if err := json.Unmarshal(recordedJSON, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Entries, doc.Keys
}

func (r *recording) answer(name string) string {
	for _, f := range r.Answer {
		if f[0] == name {
			return f[1]
		}
	}
	return ""
}

// request returns the recorded request as net/http reads it.
func (r *recording) request() *http.Request {
	req := httptest.NewRequest(r.Method, "/", nil)
	for _, f := range r.Header {
		req.Header.Add(f[0], strings.TrimSpace(f[1]))
	}
	return req
}

func (r *recording) credentials(prefix string) Credentials {
	h := r.request().Header
	return NewReader(prefix, nil).Read(nil, lines(h["Authorization"]...), lines(h["Cookie"]...))
}

func (r *recording) prefix() string {
	if r.Name == "lab2_cookie_at_lab_host" {
		return ""
	}
	if strings.Contains(r.Name, "https_app") || slices.ContainsFunc(r.Header, func(f [2]string) bool { return strings.Contains(f[1], "lab2_session") }) {
		return "lab2_"
	}
	return ""
}

// The recorded server's answer goes in, our verdict and fields come out.
func TestRemoteReadsRecordedAnswers(t *testing.T) {
	entries, _ := recorded(t)
	counts := map[string]int{}
	for _, r := range entries {
		if !strings.HasSuffix(strings.TrimSuffix(r.Path, "/"), "/resolve") && r.Name != "path_other" && r.Name != "main_port_has_no_resolver" {
			continue
		}
		c := r.credentials(r.prefix())
		if len(c.List) == 0 {
			counts["no question is asked"]++
			continue
		}
		t.Run(r.Section+"/"+r.Name, func(t *testing.T) {
			var asked *http.Request
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				asked = req.Clone(context.Background())
				for _, f := range r.Answer {
					if f[0] != "Transfer-Encoding" {
						w.Header().Add(f[0], f[1])
					}
				}
				w.WriteHeader(r.Status)
				w.Write([]byte(r.Body))
			}))
			defer server.Close()
			endpoint, _ := url.Parse("https://auth.example.com")
			to, _ := url.Parse(server.URL + "/_resolver/resolve")
			remote := NewRemote(RemoteOptions{Endpoint: endpoint, URL: to, CookiePrefix: r.prefix(), Timeout: 5 * time.Second})
			s, err := remote.Resolve(context.Background(), c)
			counts[checkOutcome(t, &r, s, err)]++
			checkQuestion(t, &r, asked)
		})
	}
	t.Logf("replayed: %v", counts)
}

func checkOutcome(t *testing.T, r *recording, s *Session, err error) string {
	var out *UnavailableError
	var inv *InvalidError
	valid := r.answer("X-Authgear-Session-Valid")
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
			if want := r.answer(name); have != want {
				t.Errorf("%s = %q, want %q", name, have, want)
			}
		}
		return "who"
	case valid == "false":
		if !errors.As(err, &inv) || inv.Reason != SessionInvalid || inv.ClearCookie != r.answer("Set-Cookie") {
			t.Errorf("Resolve = %v, %#v, want session_invalid with the cookie %q", s, err, r.answer("Set-Cookie"))
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
// those it read in the recorded request, and finds nothing else of the client's.
func checkQuestion(t *testing.T, r *recording, asked *http.Request) {
	if asked == nil {
		t.Fatal("nothing was asked")
	}
	original := r.request()
	for _, name := range []string{"session", "app_session", "app_access_token"} {
		want, wantErr := original.Cookie(r.prefix() + name)
		have, err := asked.Cookie(r.prefix() + name)
		if (err == nil) != (wantErr == nil) || err == nil && have.Value != want.Value {
			t.Errorf("asked about cookie %s = %v, want %v", name, have, want)
		}
	}
	want := map[string]bool{"Authorization": true, "Cookie": true, "X-Forwarded-Proto": true}
	for name := range asked.Header {
		if !want[name] {
			t.Errorf("the question has the field %s", name)
		}
	}
	if asked.Host != "auth.example.com" || asked.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("asked in the name of %s://%s", asked.Header.Get("X-Forwarded-Proto"), asked.Host)
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
	entries, keySets := recorded(t)
	seen := map[string]bool{}
	accepted, turnedDown := 0, 0
	for _, r := range entries {
		for _, one := range r.credentials(r.prefix()).List {
			if !one.IsJWT() || seen[one.Value] {
				continue
			}
			seen[one.Value] = true
			issuer := "http://localhost:23000"
			if strings.Contains(r.Name, "https_app") {
				issuer = "https://auth.lab2.test"
			}
			t.Run(r.Name, func(t *testing.T) {
				s, err := verifyAt(t, issuer, keySets[issuer], one, r.At)
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
				if r.answer("X-Authgear-Session-Valid") == "true" {
					checkAgainstResolver(t, &r, s)
				}
			})
		}
	}
	t.Logf("%d accepted, %d refused", accepted, turnedDown)
	if turnedDown != len(refused) {
		t.Errorf("%d refused, want %d", turnedDown, len(refused))
	}
}

func verifyAt(t *testing.T, issuer string, jwks []byte, c Credential, at int64) (s *Session, err error) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(at, 0)))
		keys := &Keys{}
		set, setErr := parseKeys(jwks)
		if setErr != nil {
			t.Fatal(setErr)
		}
		keys.set.Store(set)
		keys.last.Store(&attempt{at: time.Now()}) // fetched just now
		j := &JWT{Issuer: issuer, Audiences: []string{issuer}, Skew: 30 * time.Second, Keys: keys}
		s, err = j.Resolve(context.Background(), Credentials{List: []Credential{c}})
	})
	return s, err
}

// checkAgainstResolver compares the two answers for one token. They may differ in
// what docs/jwt-and-resolver.md lists.
func checkAgainstResolver(t *testing.T, r *recording, s *Session) {
	for name, have := range s.asFields() {
		want := r.answer(name)
		switch {
		case name == "X-Authgear-Session-Amr" && want == "":
		case name == "X-Authgear-User-Id" && r.Name == "jwt_right_key_other_sub":
		case strings.HasPrefix(name, "X-Authgear-User-") && (r.Name == "jwt_right_key_other_sub" || r.Name == "dave_after_role_removed"):
		case have != want:
			t.Errorf("%s = %q, Authgear's resolver says %q", name, have, want)
		}
	}
}
