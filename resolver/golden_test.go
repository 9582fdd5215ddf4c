package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
)

// A goldenCase is one case of golden.json: a request to Authgear, in which the
// credentials are symbols such as <jwt:user-1>, and Authgear's answer.
type goldenCase struct {
	ID, Title string
	Request   struct {
		Prefix         string `json:"cookie_prefix"`
		Authorization  string
		Authorizations []string `json:"authorization_headers"`
		Cookies        map[string]string
		Cookie         string `json:"cookie_header"`
	}
	Expect struct {
		Outcome   string // true, false, absent or error
		Status    int
		Fields    map[string]string `json:"x_authgear_headers"`
		Others    map[string]string `json:"other_headers"`
		SetCookie []string          `json:"set_cookie"`
		Body      string
	}
}

const (
	goldenTime = "1795186069" // what stands for <unix seconds>
	goldenSize = 93           // cases
	goldenAsk  = 77           // of them make us ask
)

// goldenCases returns the cases, with a credential of the right shape for each
// symbol, the same one for the same symbol.
func goldenCases(t *testing.T) []goldenCase {
	t.Helper()
	text := strings.ReplaceAll(string(authgeartest.Golden()), "<unix seconds>", goldenTime)
	server := authgeartest.New(authgeartest.Options{Origin: "https://auth.example.test"})
	minted := map[string]string{}
	text = regexp.MustCompile("<[^<>/]+>").ReplaceAllStringFunc(text, func(symbol string) string {
		if minted[symbol] == "" {
			minted[symbol] = mint(server, symbol)
		}
		return minted[symbol]
	})
	var doc struct{ Cases []goldenCase }
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Cases) < goldenSize {
		t.Fatalf("%d cases, want %d or more", len(doc.Cases), goldenSize)
	}
	return doc.Cases
}

func mint(server *authgeartest.Server, symbol string) string {
	ada := server.AddUser(authgeartest.User{ID: "ada"})
	switch {
	case strings.HasPrefix(symbol, "<id of "):
		id, _, _ := strings.Cut(server.SessionCookie(ada), ".")
		return id
	case strings.HasPrefix(symbol, "<idp:"), strings.HasPrefix(symbol, "<refresh_token:"):
		return server.SessionCookie(ada)
	case strings.HasPrefix(symbol, "<app_session:"):
		return server.AppSession(ada)
	case strings.HasPrefix(symbol, "<id_token:"):
		return server.IDToken(ada)
	case strings.Contains(symbol, "jwt"):
		return server.JWT(ada)
	}
	return server.OpaqueToken(ada)
}

// request returns the request as net/http reads it.
func (c *goldenCase) request() *http.Request {
	req := httptest.NewRequest("GET", "/", nil)
	authorization := c.Request.Authorizations
	if c.Request.Authorization != "" {
		authorization = []string{c.Request.Authorization}
	}
	for _, line := range authorization {
		req.Header.Add("Authorization", strings.TrimSpace(line))
	}
	cookie := c.Request.Cookie
	for _, name := range slices.Sorted(maps.Keys(c.Request.Cookies)) {
		cookie += name + "=" + c.Request.Cookies[name] + "; "
	}
	if cookie != "" {
		req.Header.Add("Cookie", strings.TrimSuffix(cookie, "; "))
	}
	return req
}

func (c *goldenCase) credentials() Credentials {
	h := c.request().Header
	return NewReader(c.Request.Prefix, nil).Read(nil, lines(h["Authorization"]...), lines(h["Cookie"]...))
}

// script gives the answer of the case.
func (c *goldenCase) script() *script {
	s := &script{status: c.Expect.Status, body: c.Expect.Body}
	for _, fields := range []map[string]string{c.Expect.Fields, c.Expect.Others} {
		for name, value := range fields {
			s.header = append(s.header, [2]string{name, value})
		}
	}
	for _, line := range c.Expect.SetCookie {
		s.header = append(s.header, [2]string{"Set-Cookie", line})
	}
	return s
}

// outcomeOf is the answer that Authgear must have given for this one of ours.
func outcomeOf(s *Session, err error) string {
	var inv *InvalidError
	var out *UnavailableError
	switch {
	case errors.As(err, &out):
		return "error"
	case errors.As(err, &inv) && inv.Reason == SessionInvalid:
		return "false"
	case errors.As(err, &inv) && inv.Reason == UnknownToken:
		return "absent"
	case errors.As(err, &inv) && inv.Reason == MalformedCredential:
		return "malformed"
	case err == nil && *s == Session{}:
		return "visitor"
	case err == nil:
		return "true"
	}
	return "another error: " + err.Error()
}

// check compares our answer with that of the case.
func (c *goldenCase) check(t *testing.T, s *Session, err error) {
	t.Helper()
	if got := outcomeOf(s, err); got != c.Expect.Outcome {
		t.Fatalf("Resolve = %+v, %v, which is %s, want %s", s, err, got, c.Expect.Outcome)
	}
	switch c.Expect.Outcome {
	case "true":
		for name, have := range s.asFields() {
			if want := c.Expect.Fields[strings.ToLower(name)]; have != want {
				t.Errorf("%s = %q, want %q", name, have, want)
			}
		}
		if s.Confirmed.IsZero() || s.Machine {
			t.Errorf("Confirmed = %v, Machine = %v, want a person's session that Authgear vouched for", s.Confirmed, s.Machine)
		}
	case "false", "absent":
		var inv *InvalidError
		errors.As(err, &inv)
		if want := strings.Join(c.Expect.SetCookie, "\n"); inv.ClearCookie != want {
			t.Errorf("ClearCookie = %q, want %q", inv.ClearCookie, want)
		}
	}
}

// Each answer, to a question about some credential.
func TestGoldenAnswers(t *testing.T) {
	counts := map[string]int{}
	for _, c := range goldenCases(t) {
		t.Run(c.ID, func(t *testing.T) {
			creds := Credentials{List: []Credential{{Bearer, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"}}}
			s, err := c.script().remote(t, c.Request.Prefix).Resolve(context.Background(), creds)
			c.check(t, s, err)
			counts[outcomeOf(s, err)]++
		})
	}
	t.Logf("answers: %v", counts)
}

// unasked are the cases that Authgear is not asked about, and what they get.
var unasked = map[string]string{
	"G01": "visitor",   // no credential
	"G23": "visitor",   // DPoP
	"G24": "visitor",   // Basic
	"G25": "malformed", // two spaces: in the token there is none
	"G26": "visitor",   // Bearer and nothing behind it
	"G39": "malformed", // two Authorization lines
	"G41": "visitor",   // no credential from here on, whatever the method,
	"G44": "visitor",   // path,
	"G45": "visitor",
	"G46": "visitor",
	"G56": "visitor", // the cookie of another project
	"G76": "visitor", // scheme,
	"G77": "visitor", // host,
	"G78": "visitor", // or the state of Authgear's databases
	"G81": "visitor",
	"G85": "visitor",
}

// sameQuestion are the cases whose request differs from our question, and the
// case whose request it equals: we ask by GET, in the endpoint's name, and
// hand on no X-Forwarded-* and no X-Original-* of the client's.
var sameQuestion = map[string]string{
	"G40": "G02", // POST
	"G47": "G09", // no X-Forwarded-Proto
	"G49": "G09", // X-Forwarded-Host of the application
	"G52": "G09", // X-Forwarded-Proto is a list
	"G86": "G84", // X-Forwarded-Host of the application, several tenants
	"G88": "G84", // Host in capitals
	"G89": "G90", // X-Forwarded-Host of another tenant
	"G91": "G90", // X-Original-Host of another tenant
}

// ask resolves the credentials of c with the help of authgear.
func (c *goldenCase) ask(t *testing.T, authgear *script) (*Session, error) {
	t.Helper()
	turn := &InTurn{Next: authgear.remote(t, c.Request.Prefix), TogetherWithJWT: true}
	return turn.Resolve(context.Background(), c.credentials())
}

// Each request that Authgear is asked about: the question, and what comes of
// the answer.
func TestGoldenRequests(t *testing.T) {
	all := map[string]goldenCase{}
	for _, c := range goldenCases(t) {
		all[c.ID] = c
	}
	counts, asked := map[string]int{}, 0
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if unasked[id] != "" {
			continue
		}
		asked++
		t.Run(id, func(t *testing.T) {
			c, answer := all[id], all[id]
			if same, ok := sameQuestion[id]; ok {
				answer = all[same]
				if !slices.Equal(answer.credentials().List, c.credentials().List) {
					t.Fatalf("%s and %s have other credentials", id, same)
				}
			}
			authgear := answer.script()
			s, err := c.ask(t, authgear)
			checkQuestion(t, c.request(), c.Request.Prefix, c.credentials().Malformed != nil, authgear.question(t))
			answer.check(t, s, err)
			counts[outcomeOf(s, err)]++
		})
	}
	t.Logf("requests that are asked about: %d: %v", asked, counts)
	if asked < goldenAsk {
		t.Errorf("%d cases are asked about, want %d or more", asked, goldenAsk)
	}
}

// Each request that Authgear need not be asked about, whatever it would answer.
func TestGoldenRequestsWithoutAQuestion(t *testing.T) {
	counts := map[string]int{}
	for _, c := range goldenCases(t) {
		want := unasked[c.ID]
		if want == "" {
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			authgear := c.script()
			s, err := c.ask(t, authgear)
			got := outcomeOf(s, err)
			if got != want || len(authgear.asked) > 0 {
				t.Errorf("%s: Resolve = %+v, %v, which is %s after %d questions, want %s after none", c.Title, s, err, got, len(authgear.asked), want)
			}
			counts[got]++
		})
	}
	t.Logf("requests without a question: %v", counts)
}
