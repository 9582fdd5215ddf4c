package resolver

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// authgearReads returns the credentials that Authgear reads in a request: contract §1.2, in
// Authgear's own words.
func authgearReads(h http.Header, prefix string) (list []Credential) {
	parts := strings.SplitN(h.Get("Authorization"), " ", 2)
	if len(parts) == 2 && strings.EqualFold(parts[0], "bearer") && parts[1] != "" {
		list = append(list, Credential{Bearer, parts[1]})
	}
	r := http.Request{Header: h}
	for slot, name := range map[Slot]string{AppSession: "app_session", AppAccessToken: "app_access_token", IDPSession: "session"} {
		if c, err := r.Cookie(prefix + name); err == nil {
			list = append(list, Credential{slot, c.Value})
		}
	}
	slices.SortFunc(list, func(a, b Credential) int { return int(a.Slot) - int(b.Slot) })
	return list
}

// mayBeField tells whether the texts can be values of fields: of another the server answers
// 400 itself. RFC 9110 §5.5.
func mayBeField(texts ...string) bool {
	for _, text := range texts {
		for _, c := range []byte(text) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
	}
	return true
}

// What is not malformed is read as Authgear reads it.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer abc", "bearer abc", "BEARER abc", "bEaReR abc", "Bearer  abc", "Bearer\tabc", " Bearer abc ", "Bearer abc def", "Basic YTpi", "DPoP abc",
		"Bearer abc, Bearer def", "Bearer abc,", ",Bearer abc", "Bearer \"abc\"", "Bearer ä", "Bearer a\x00b", "Bearer =", "Bearer:abc", "Token abc", "Bearer abc\t", "\tBearer abc", "Bearer \tabc", "Ｂearer abc",
	} {
		f.Add(seed, "", false)
		f.Add(seed, "Bearer other", true)
	}
	f.Fuzz(func(t *testing.T, first, second string, two bool) {
		if !mayBeField(first, second) {
			return
		}
		all := []string{first}
		if two {
			all = append(all, second)
		}
		h := http.Header{}
		for _, line := range all {
			h.Add("Authorization", strings.Trim(line, " \t")) // as net/http does when it reads
		}
		got := NewReader("", nil).Read(nil, lines(all...), nil)
		want := authgearReads(h, "")
		tooLong := len(first) > maxToken || len(first) > maxOpaque && (len(want) == 0 || !want[0].IsJWT())
		ambiguous := two || strings.Contains(first, ",") || tooLong
		switch {
		case got.Malformed != nil && (!ambiguous || len(got.List) > 0):
			t.Errorf("%q is malformed, and has %q; Authgear reads %q", all, got.List, want)
		case got.Malformed == nil && !slices.Equal(got.List, want):
			t.Errorf("of %q: got %q, Authgear reads %q", all, got.List, want)
		}
	})
}

// Whatever a client sends, Authgear is asked about exactly the credentials under which
// the answer is remembered, and is told nothing else of it but address and user agent.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{
		"session=a", "session=a; app_session=b", "my_session=a; my_app_session=b; my_app_access_token=c; spa=d", `my_session="a b "`, "my_session=a,b", `my_session="a`, "my_session=\xc3\xa4",
		"my_session=", `my_session=""`, "my_app_access_token=eyJ.a.b; my_session=x", "my_session= a", "my_session=a=b", "my_session=;my_session=b", `my_session=" "`, "my_session=a\tb",
	} {
		f.Add("Bearer t", seed, "", "Mozilla/5.0")
		f.Add("Bearer eyJ.x.y", "a=b", seed, "x\ty ä")
	}
	const prefix = "my_"
	endpoint, _ := url.Parse("https://auth.example.com")
	remote := NewRemote(RemoteOptions{Endpoint: endpoint, URL: endpoint.JoinPath("/_resolver/resolve"), CookiePrefix: prefix})
	reader := NewReader(prefix, []string{"spa"})
	f.Fuzz(func(t *testing.T, authorization, cookie, more, userAgent string) {
		if !mayBeField(authorization, cookie, more, userAgent) {
			return
		}
		c := reader.Read(nil, lines(authorization), lines(cookie, more))
		c.Client = func() Client { return Client{netip.MustParseAddr("203.0.113.9"), userAgent} }
		(&InTurn{}).Each(c, func(one Credentials) {
			if one.List = askable(one.List); len(one.List) == 0 {
				return
			}
			asked := asAuthgearSees(t, remote, one)
			if got := authgearReads(asked.Header, prefix); !slices.Equal(got, one.List) {
				t.Errorf("of %q and %q, %q: asked about %q, filed under %q", authorization, cookie, more, got, one.List)
			}
			for name, values := range asked.Header {
				if len(values) != 1 || !slices.Contains([]string{"Authorization", "Cookie", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto"}, name) {
					t.Errorf("the question has the field %s: %q", name, values)
				}
			}
			if asked.Host != "auth.example.com" || asked.Method != "GET" || asked.URL.Path != "/_resolver/resolve" || asked.Header.Get("X-Forwarded-Proto") != "https" {
				t.Errorf("asked %s %s of %s", asked.Method, asked.URL, asked.Host)
			}
		})
	})
}

// asAuthgearSees returns the question as net/http reads it from the wire.
func asAuthgearSees(t *testing.T, r *Remote, c Credentials) *http.Request {
	t.Helper()
	var q fasthttp.Request
	r.write(&q, c)
	var wire bytes.Buffer
	w := bufio.NewWriter(&wire)
	if err := q.Write(w); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	asked, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("%q: %v", wire.String(), err)
	}
	return asked
}
