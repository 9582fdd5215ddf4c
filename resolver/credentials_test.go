package resolver

import (
	"context"
	"crypto/cipher"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func lines(s ...string) (l [][]byte) {
	for _, one := range s {
		l = append(l, []byte(one))
	}
	return l
}

func TestCredentialsAreReadInAuthgearsOrder(t *testing.T) {
	r := NewReader("my_", []string{"spa_token"})
	got := r.Read(nil, lines("bearer t0"), lines("my_session=t4; spa_token=t3; my_app_access_token=t2; session=other", "my_app_session=t1"))
	want := []Credential{{Bearer, "t0"}, {AppSession, "t1"}, {AppAccessToken, "t2"}, {AppAccessToken, "t3"}, {IDPSession, "t4"}}
	if !slices.Equal(got.List, want) || got.Malformed != nil {
		t.Errorf("Read = %+v, want %+v", got, want)
	}
}

func TestAuthorizationIsReadAsAuthgearDoes(t *testing.T) {
	for _, tt := range []struct {
		name          string
		authorization []string
		token         string
		malformed     bool
	}{
		{"none", nil, "", false},
		{"any letter case", []string{"bEARER abc"}, "abc", false},
		{"another scheme", []string{"Basic YTpi"}, "", false},
		{"DPoP is not Bearer", []string{"DPoP abc"}, "", false},
		{"scheme alone", []string{"Bearer"}, "", false},
		{"scheme and space", []string{"Bearer "}, "", false},
		{"tab for a space", []string{"Bearer\tabc"}, "", false},
		{"two spaces", []string{"Bearer  abc"}, " abc", false},
		{"space around", []string{" Bearer abc "}, "abc", false},
		{"quoted", []string{`Bearer "abc"`}, `"abc"`, false},
		{"a list", []string{"Bearer abc, Bearer def"}, "", true},
		{"two lines", []string{"Bearer abc", "Bearer abc"}, "", true},
		{"Basic and Bearer", []string{"Basic YTpi", "Bearer abc"}, "", true},
		{"not ASCII", []string{"Bearer ä"}, "ä", false},
		{"padding alone", []string{"Bearer ="}, "=", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewReader("", nil).Read(nil, lines(tt.authorization...), nil)
			token := ""
			if len(c.List) > 0 {
				token = c.List[0].Value
			}
			if token != tt.token || (c.Malformed != nil) != tt.malformed {
				t.Errorf("Read(%q) = %q, malformed %v; want %q, %v", tt.authorization, token, c.Malformed, tt.token, tt.malformed)
			}
		})
	}
}

// Authgear reads cookies by net/http; whoever reads them otherwise files one
// user's answer under another's cookie.
func FuzzCookiesAreReadAsNetHTTPDoes(f *testing.F) {
	for _, seed := range []string{
		"session=a", "session=a; session=b", "session=\xc3\xa4; session=b", "a=1;\tsession=b", "=x; session=b", "session", "session=",
		`session="a"`, `session="a`, `session=a"b; session=c`, "session =a", " session=a ; b", "session=a b", "session=a,b", "Session=a",
		"sess\x00ion=a; session=b", "session=\"\"", "session=a\\b; session=d", ";;session=x", "session==y",
	} {
		f.Add(seed, "")
		f.Add("other=1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		req := http.Request{Header: http.Header{"Cookie": {first, second}}}
		want, wantErr := req.Cookie("session")
		cookie := lines(first, second)
		got, ok := findCookie(cookie, "session")
		ok = ok && !tooManyCookies(cookie)
		if ok != (wantErr == nil) || ok && got != want.Value {
			t.Errorf("of %q and %q: got %q, %v; net/http reads %v, %v", first, second, got, ok, want, wantErr)
		}
	})
}

func TestNoTwoCredentialListsShareAText(t *testing.T) {
	seen := map[Key][]Credential{}
	for _, list := range [][]Credential{
		{{Bearer, "ab"}}, {{Bearer, "a"}, {AppSession, "b"}}, {{AppSession, "ab"}}, {{AppAccessToken, "ab"}}, {{IDPSession, "ab"}},
		{{Bearer, "a"}}, {{IDPSession, ""}}, {{AppSession, ""}}, {{Bearer, "a\x02\x00\x00\x00\x01b"}}, {},
	} {
		key := Credentials{List: list}.Key()
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have one key", list, other)
		}
		seen[key] = list
	}
}

// times notes when the credentials are said to have come, and knows nobody.
type times []time.Time

func (t *times) Resolve(_ context.Context, c Credentials) (*Session, error) {
	*t = append(*t, c.Asked)
	return nil, &InvalidError{Reason: UnknownToken}
}

// The first question may take seconds: by then an answer may be too old that was
// fresh when the request came.
func TestTheSecondQuestionIsAskedLater(t *testing.T) {
	var seen times
	turn := InTurn{Next: &seen}
	came := time.Now()
	turn.Resolve(context.Background(), Credentials{Asked: came, List: []Credential{{Bearer, "eyJ.a.b"}, {IDPSession, "x"}}})
	if len(seen) != 2 || seen[0] != came || !seen[1].IsZero() {
		t.Errorf("asked at %v, want at %v and then anew", seen, came)
	}
}

func TestTheKeyIsOfAllTheText(t *testing.T) {
	for _, gmac := range []cipher.AEAD{gmac, nil} {
		keys := map[Key]string{}
		for _, text := range []string{"", "a", "b", "ab", strings.Repeat("a", 900), strings.Repeat("a", 899) + "b", "b" + strings.Repeat("a", 899)} {
			w, again := keyWork{text: []byte(text)}, keyWork{text: []byte(text)}
			w.sum(gmac)
			again.sum(gmac)
			if other, ok := keys[w.key]; ok || w.key != again.key {
				t.Errorf("%q has the key of %q, or two of its own", text, other)
			}
			keys[w.key] = text
		}
	}
}

// Nobody is asked about what is longer than any credential of Authgear's.
func TestTooLongACredentialIsMalformed(t *testing.T) {
	opaque, jwt := strings.Repeat("a", maxOpaque), "eyJ."+strings.Repeat("a", maxToken-4)
	for name, tt := range map[string]struct {
		authorization, cookie string
		malformed             bool
		want                  []Credential
	}{
		"the longest":                      {"Bearer " + opaque, "app_session=" + opaque + "; session=" + opaque, false, []Credential{{Bearer, opaque}, {AppSession, opaque}, {IDPSession, opaque}}},
		"the longest JWTs":                 {"Bearer " + jwt, "app_access_token=" + jwt, false, []Credential{{Bearer, jwt}, {AppAccessToken, jwt}}},
		"a token":                          {"Bearer a" + opaque, "", true, nil},
		"a JWT":                            {"Bearer " + jwt + "a", "", true, nil},
		"a cookie":                         {"", "session=a" + opaque, true, nil},
		"a cookie that looks like a JWT":   {"", "session=" + jwt, true, nil},
		"a JWT in a cookie":                {"", "app_access_token=" + jwt + "a", true, nil},
		"a token, and a cookie that is ok": {"Bearer a" + opaque, "session=b", true, []Credential{{IDPSession, "b"}}},
		"a cookie, and a token that is ok": {"Bearer b", "session=a" + opaque, false, []Credential{{Bearer, "b"}}},
		"a cookie of the application":      {"", "theme=a" + opaque + "; session=b", false, []Credential{{IDPSession, "b"}}},
	} {
		c := NewReader("", nil).Read(nil, lines(tt.authorization), lines(tt.cookie))
		if !slices.Equal(c.List, tt.want) || (c.Malformed != nil) != tt.malformed {
			t.Errorf("%s: %d credentials, %v", name, len(c.List), c.Malformed)
		}
		if tt.malformed && ReasonOf(c.Malformed) != MalformedCredential {
			t.Errorf("%s: %v", name, c.Malformed)
		}
	}
}

func TestTheFirstMalformedCredentialIsToldOf(t *testing.T) {
	c := NewReader("", nil).Read(nil, lines("Bearer a, Bearer b"), lines("session="+strings.Repeat("a", maxOpaque+1)))
	if c.Malformed != errAuthorization || c.None() {
		t.Errorf("Malformed is %v, want %v", c.Malformed, errAuthorization)
	}
}

// Of more cookies than net/http reads, none counts.
func TestTooManyCookiesAreNone(t *testing.T) {
	for n, want := range map[int]int{maxCookies - 1: 1, maxCookies: 0} {
		c := NewReader("", nil).Read(nil, nil, lines("a=b", strings.Repeat("a=b; ", n-1)+"session=x"))
		if len(c.List) != want {
			t.Errorf("beside %d others: %d credentials, want %d", n, len(c.List), want)
		}
	}
}

// answers are given to one question after the other.
type answers []error

func (a *answers) Resolve(context.Context, Credentials) (*Session, error) {
	if len(*a) == 0 {
		return nil, errors.New("one question too many")
	}
	err := (*a)[0]
	*a = (*a)[1:]
	return nil, err
}

func TestWhatIsToldOfSeveralBadCredentials(t *testing.T) {
	const line = "session=; Path=/"
	expired, unknown, gone := invalid(Expired, ""), invalid(UnknownToken, ""), &InvalidError{Reason: SessionInvalid, ClearCookie: line}
	for _, tt := range []struct {
		name    string
		answers answers
		reason  Reason
		line    string
	}{
		{"the first is the one that was meant", answers{expired, unknown}, Expired, ""},
		{"the second clears the cookie", answers{expired, gone}, Expired, line},
		{"Authgear itself would look no further", answers{gone}, SessionInvalid, line},
		{"nobody judges them", answers{ErrNotMine, ErrNotMine}, UnknownToken, ""},
		{"the second cannot be judged now", answers{expired, unavailable("down")}, ResolverUnavailable, ""},
	} {
		turn := InTurn{Next: &tt.answers}
		_, err := turn.Resolve(t.Context(), Credentials{List: []Credential{{Bearer, "eyJ.a.b"}, {IDPSession, "x"}}})
		var inv *InvalidError
		if !errors.As(err, &inv) {
			inv = new(InvalidError)
		}
		if ReasonOf(err) != tt.reason || inv.ClearCookie != tt.line || len(tt.answers) > 0 {
			t.Errorf("%s: %v (%+v), %d answers not asked for", tt.name, err, inv, len(tt.answers))
		}
	}
}
