package forwardauth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// people resolves the token of the same name.
type people map[string]*resolver.Session

func (p people) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	switch token := c.List[0].Value; {
	case token == "outage":
		return nil, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New("refused")}
	case p[token] != nil:
		return p[token], nil
	}
	return nil, &resolver.InvalidError{Reason: resolver.UnknownToken, ClearCookie: "session=; Path=/"}
}

var population = people{
	"ada":   {UserID: "ada", Anonymous: resolver.False, Verified: resolver.True, CanReauthenticate: resolver.True, Roles: "admin,editor", AMR: "pwd mfa", AuthenticatedAt: 1795186069, ClientID: "spa", Scope: "openid"},
	"bob":   {UserID: "bob", Anonymous: resolver.False, Verified: resolver.False, CanReauthenticate: resolver.False},
	"robot": {Machine: true, ClientID: "robot", Scope: "orders"},
}

// serve starts a gate on loopback and returns its address. Its log goes to log.
func serve(t *testing.T, d Dialect, log io.Writer) string {
	gate := &Gate{
		Resolver: func(rule policy.Rule) (resolver.Resolver, error) {
			return &resolver.InTurn{Next: population, Machine: rule.Machine}, nil
		},
		Reader:  resolver.NewReader("", nil),
		Trusted: Trusted{netip.MustParsePrefix("127.0.0.0/8")},
		Log:     zerolog.New(log),
		Decided: All,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(gate.Handler(d), Body{})
	go server.Serve(l)
	t.Cleanup(func() { server.Shutdown() })
	return l.Addr().String()
}

var plain = Dialect{Name: "plain", Original: func(h *fasthttp.RequestHeader) Original {
	return Original{Method: "GET", Host: "app", Path: "/x"}
}}

// send writes the text as it is and reads one answer.
func send(t *testing.T, addr, text string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	go io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(query string, fields ...string) string {
	lines := append([]string{"GET /auth" + query + " HTTP/1.1", "Host: auth"}, fields...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestEveryFieldIsThereOnceOnEvery200(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for _, tt := range []struct {
		name, query, authorization string
		want                       [10]string
	}{
		{"all is known", "", "Bearer ada", [10]string{"true", "ada", "false", "true", "admin,editor", "pwd mfa", "1795186069", "true", "spa", "openid"}},
		{"little is known", "", "Bearer bob", [10]string{"true", "bob", "false", "false", "", "", "", "false", "", ""}},
		{"a visitor", "?optional", "Basic x", [10]string{}},
		{"a bad credential", "?optional", "Bearer bad", [10]string{"false"}},
		{"a machine", "?machine", "Bearer robot", [10]string{"true", "", "", "", "", "", "", "", "robot", "orders"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := send(t, addr, request(tt.query, "Authorization: "+tt.authorization))
			if resp.StatusCode != 200 || body != "" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("status %d, body %q, %v", resp.StatusCode, body, resp.Header)
			}
			for i, name := range [][]byte{sessionValid, userID, userAnonymous, userVerified, userRoles, sessionAMR, authenticatedAt, canReauthenticate, clientID, scope} {
				if got := resp.Header.Values(string(name)); len(got) != 1 || got[0] != tt.want[i] {
					t.Errorf("%s: %q, want %q once", name, got, tt.want[i])
				}
			}
		})
	}
}

func TestDenials(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for _, tt := range []struct {
		name, query string
		fields      []string
		status      int
		challenge   string
		code        string
	}{
		{"no credential", "", nil, 401, `Bearer realm="authgear"`, "unauthenticated"},
		{"a bad token", "", []string{"Authorization: Bearer bad"}, 401, `Bearer realm="authgear", error="invalid_token"`, "invalid_token"},
		{"two Authorization lines", "", []string{"Authorization: Bearer ada", "Authorization: Bearer ada"}, 401, `Bearer realm="authgear", error="invalid_request"`, "invalid_request"},
		{"a list in Authorization", "", []string{"Authorization: Bearer ada, Bearer bob"}, 401, `Bearer realm="authgear", error="invalid_request"`, "invalid_request"},
		{"a missing role", "?role=owner", []string{"Authorization: Bearer ada"}, 403, `Bearer realm="authgear", error="insufficient_scope"`, "insufficient_scope"},
		{"a missing scope", "?scope=a&scope=b", []string{"Authorization: Bearer ada"}, 403, `Bearer realm="authgear", error="insufficient_scope", scope="a b"`, "insufficient_scope"},
		{"an old sign-in", "?signed_in_within=10m", []string{"Authorization: Bearer bob"}, 403, `Bearer realm="authgear", error="insufficient_user_authentication", max_age="600"`, "insufficient_user_authentication"},
		{"not verified", "?verified", []string{"Authorization: Bearer bob"}, 403, "", "access_denied"},
		{"an outage", "?optional", []string{"Authorization: Bearer outage"}, 503, "", "temporarily_unavailable"},
		{"a slip in the policy", "?optionall", []string{"Authorization: Bearer ada"}, 500, "", "server_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := send(t, addr, request(tt.query, tt.fields...))
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.status || got != tt.challenge {
				t.Errorf("status %d, WWW-Authenticate %q; want %d, %q", resp.StatusCode, got, tt.status, tt.challenge)
			}
			if !strings.HasPrefix(body, `{"error":"`+tt.code+`",`) {
				t.Errorf("body %s, want the error %s", body, tt.code)
			}
			if (resp.Header.Get("Retry-After") != "") != (tt.status == 503) {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "X-Authgear-") {
					t.Errorf("a denial has the field %s", name)
				}
			}
		})
	}
}

// asked is a subrequest for a request to /orders with the policy.
func asked(policy, method string, fields ...string) string {
	return request("?"+policy, append([]string{"X-Forwarded-Method: " + method, "X-Forwarded-Uri: /orders?a=b&c=/d"}, fields...)...)
}

var forwarded = Dialect{Name: "forwarded", Original: XForwarded}

func TestAPreflightPassesAsAVisitorWhereThePolicySaysSo(t *testing.T) {
	log := make(events, 1)
	addr := serve(t, forwarded, log)
	asks := []string{"Origin: https://other.example", "Access-Control-Request-Method: PUT"}
	for _, tt := range []struct {
		name, policy, method string
		fields               []string
		status               int
		reason               string
	}{
		{"a preflight", "preflight&role=admin", "OPTIONS", asks, 200, "visitor"},
		{"with a good credential", "preflight", "OPTIONS", append(asks[:2:2], "Authorization: Bearer ada"), 200, "visitor"},
		{"with a bad credential, for which nobody is asked", "preflight", "OPTIONS", append(asks[:2:2], "Cookie: session=dead"), 200, "visitor"},
		{"in an outage", "preflight", "OPTIONS", append(asks[:2:2], "Authorization: Bearer outage"), 200, "visitor"},
		{"where the policy says nothing of it", "role=admin", "OPTIONS", asks, 401, "no_credential"},
		{"another method", "preflight", "POST", asks, 401, "no_credential"},
		{"a method in small letters", "preflight", "options", asks, 401, "no_credential"},
		{"no method", "preflight", "", asks, 401, "no_credential"},
		{"no Origin", "preflight", "OPTIONS", asks[1:], 401, "no_credential"},
		{"no Access-Control-Request-Method", "preflight", "OPTIONS", asks[:1], 401, "no_credential"},
		{"OPTIONS of a user", "preflight", "OPTIONS", []string{"Authorization: Bearer ada"}, 200, "ok"},
		{"what may be taken for another method", "preflight", "OPTIONS", append(asks[:2:2], "X-HTTP-Method-Override: DELETE"), 401, "no_credential"},
		{"what some take for that, written otherwise", "preflight", "OPTIONS", append(asks[:2:2], "X_Http.Method-Override: DELETE"), 401, "no_credential"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, _ := send(t, addr, asked(tt.policy, tt.method, tt.fields...))
			if got := <-log; resp.StatusCode != tt.status || !strings.Contains(got, `"reason":"`+tt.reason+`"`) {
				t.Errorf("status %d, want %d and %s; the log says %s", resp.StatusCode, tt.status, tt.reason, got)
			}
			if tt.reason == "visitor" && (resp.Header.Get(string(sessionValid)) != "" || resp.Header.Get(string(userID)) != "" || resp.Header.Get("Set-Cookie") != "") {
				t.Errorf("it passes as somebody: %v", resp.Header)
			}
		})
	}
}

func TestAPageIsSentToTheSignIn(t *testing.T) {
	addr := serve(t, forwarded, io.Discard)
	navigates := "Sec-Fetch-Mode: navigate"
	const there = "/login?return_to=%2Forders%3Fa%3Db%26c%3D%2Fd"
	for _, tt := range []struct {
		name, policy, method string
		fields               []string
		status               int
		location             string
	}{
		{"a page", "sign_in=/login", "GET", []string{navigates}, 302, there},
		{"a page, for an old browser", "sign_in=/login", "GET", []string{"Accept: text/html,*/*"}, 302, there},
		{"a form", "sign_in=/login", "POST", []string{navigates}, 302, there},
		{"a form, for an old browser", "sign_in=/login", "POST", []string{"Accept: text/html"}, 401, ""},
		{"a dead session", "sign_in=/login", "GET", []string{navigates, "Cookie: session=dead"}, 302, there},
		{"a script", "sign_in=/login", "GET", []string{"Sec-Fetch-Mode: cors", "Accept: text/html"}, 401, ""},
		{"an image", "sign_in=/login", "GET", []string{"Sec-Fetch-Mode: no-cors", "Accept: text/html"}, 401, ""},
		{"an API", "sign_in=/login", "GET", []string{"Accept: */*"}, 401, ""},
		{"the sign-in itself, not open to visitors by mistake", "sign_in=/orders", "GET", []string{navigates}, 401, ""},
		{"where the policy says nothing of it", "role=admin", "GET", []string{navigates}, 401, ""},
		{"a user", "sign_in=/login", "GET", []string{navigates, "Authorization: Bearer ada"}, 200, ""},
		{"a user without the role", "role=owner&sign_in=/login", "GET", []string{navigates, "Authorization: Bearer ada"}, 403, ""},
		{"an outage", "sign_in=/login", "GET", []string{navigates, "Authorization: Bearer outage"}, 503, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := send(t, addr, asked(tt.policy, tt.method, tt.fields...))
			if got := resp.Header.Get("Location"); resp.StatusCode != tt.status || got != tt.location {
				t.Errorf("status %d, Location %q; want %d, %q", resp.StatusCode, got, tt.status, tt.location)
			}
			if resp.StatusCode != 302 {
				return
			}
			if body != "" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%v, body %q", resp.Header, body)
			}
			if dead := strings.Contains(tt.name, "dead"); (resp.Header.Get("Set-Cookie") != "") != dead {
				t.Errorf("Set-Cookie: %q", resp.Header.Get("Set-Cookie"))
			}
		})
	}
}

// A proxy with small buffers would take a longer answer for an outage.
func TestALongWayBackIsLeftOut(t *testing.T) {
	addr := serve(t, forwarded, io.Discard)
	for length, want := range map[int]string{maxLocation - 100: "/login?return_to=", maxLocation: "/login"} {
		resp, _ := send(t, addr, request("?sign_in=/login", "Sec-Fetch-Mode: navigate", "X-Forwarded-Method: GET", "X-Forwarded-Uri: /"+strings.Repeat("x", length)))
		if got := resp.Header.Get("Location"); resp.StatusCode != 302 || !strings.HasPrefix(got, want) || len(got) > maxLocation {
			t.Errorf("%d bytes: status %d, Location %.40q of %d bytes, want %s", length, resp.StatusCode, got, len(got), want)
		}
	}
}

func TestAProxyMayWantTheLocationBesideThe401(t *testing.T) {
	d := forwarded
	d.LocationWith401 = true
	resp, _ := send(t, serve(t, d, io.Discard), asked("sign_in=/login", "GET", "Sec-Fetch-Mode: navigate"))
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("Location"), "/login?") || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestNothingIsDecidedByWhatAnUntrustedPeerSays(t *testing.T) {
	gate := &Gate{Trusted: Trusted{netip.MustParsePrefix("10.0.0.0/8")}, Reader: resolver.NewReader("", nil), Log: zerolog.Nop(),
		Resolver: func(policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: population}, nil }}
	addr := listen(t, gate.Handler(forwarded), Body{})
	for _, text := range []string{
		asked("preflight", "OPTIONS", "Origin: https://other.example", "Access-Control-Request-Method: PUT"),
		asked("sign_in=/login", "GET", "Sec-Fetch-Mode: navigate"),
	} {
		if resp, _ := send(t, addr, text); resp.StatusCode != 401 || resp.Header.Get("Location") != "" {
			t.Errorf("%q: status %d, %v; want 401", text, resp.StatusCode, resp.Header)
		}
	}
}

func TestABadCredentialDoesNotStopTheNext(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for _, fields := range [][]string{
		{"Authorization: Bearer a, Bearer b", "Cookie: session=ada"},
		{"Authorization: Bearer eyJ.bad", "Cookie: session=ada"},
	} {
		resp, _ := send(t, addr, request("", fields...))
		if resp.StatusCode != 200 || resp.Header.Get(string(userID)) != "ada" {
			t.Errorf("%q: status %d, user %q", fields, resp.StatusCode, resp.Header.Get(string(userID)))
		}
	}
}

func TestNoBodyIsWaitedFor(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for _, announced := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue", "Expect: 100-continue"} {
		resp, _ := send(t, addr, "POST /auth HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer ada\r\n"+announced+"\r\n\r\n")
		if resp.StatusCode != 200 || !resp.Close {
			t.Errorf("%q: status %d, connection closed: %v; want 200 and closed", announced, resp.StatusCode, resp.Close)
		}
	}
}

// A request with Expect is judged by the time when it came, not by that of the one before.
func TestTheTimeOfARequestIsItsOwn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var at time.Time
	s := NewServer(func(ctx *fasthttp.RequestCtx) { at = began(ctx) }, Body{})
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	defer func() { l.Close(); <-served }()
	for _, before := range []string{"", "GET / HTTP/1.1\r\nHost: auth\r\n\r\n"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers := bufio.NewReader(c)
		ask := func(request string) {
			io.WriteString(c, request)
			if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v, %v", resp, err)
			}
		}
		if before != "" {
			ask(before)
		}
		time.Sleep(10 * time.Millisecond)
		begin := time.Now()
		ask("GET / HTTP/1.1\r\nHost: auth\r\nExpect: 100-continue\r\n\r\n")
		if at.Before(begin) || at.After(time.Now()) {
			t.Errorf("after %q: it is judged by %s, and came after %s", before, at, begin)
		}
	}
}

func TestABodyIsNotTakenForTheNextRequest(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	smuggled := "GET /auth HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer bob\r\n\r\n"
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "POST /auth HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer ada\r\nContent-Length: %d\r\n\r\n%s", len(smuggled), smuggled)
	all, _ := io.ReadAll(c)
	if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 || strings.Contains(string(all), "bob") {
		t.Errorf("%d answers, want 1:\n%s", n, all)
	}
}

func TestFieldsOf32KiBPassAndLongerOnesAre431(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for size, want := range map[int]int{32 << 10: 200, 40 << 10: 431, 200 << 10: 431} {
		resp, _ := send(t, addr, request("", "Authorization: Bearer ada", "Cookie: "+strings.Repeat("x", size-200)))
		if resp.StatusCode != want {
			t.Errorf("%d bytes: status %d, want %d", size, resp.StatusCode, want)
		}
	}
}

func TestADialectMayWantNoBodies(t *testing.T) {
	d := plain
	d.EmptyBodies = true
	addr := serve(t, d, io.Discard)
	for _, query := range []string{"", "?bad", "?role=x"} {
		resp, body := send(t, addr, request(query, "Authorization: Bearer bob"))
		if body != "" || resp.ContentLength != 0 {
			t.Errorf("%s: body %q", query, body)
		}
	}
}

func TestTheClearingCookieIsPassedOn(t *testing.T) {
	addr := serve(t, plain, io.Discard)
	for _, query := range []string{"", "?optional"} {
		resp, _ := send(t, addr, request(query, "Cookie: session=dead"))
		if got := resp.Header.Get("Set-Cookie"); got != "session=; Path=/" {
			t.Errorf("%s: Set-Cookie %q", query, got)
		}
	}
}

// events is a log that is read one event after another.
type events chan string

func (e events) Write(b []byte) (int, error) {
	e <- string(b)
	return len(b), nil
}

func TestTheLogTellsWhyAndNoSecret(t *testing.T) {
	log := make(events, 1)
	addr := serve(t, plain, log)
	send(t, addr, request("", "Authorization: Bearer canary-token-7", "Cookie: session=canary-cookie-7"))
	var got string
	select {
	case got = <-log:
	default:
		t.Fatal("the answer is here before the log")
	}
	for _, want := range []string{`"reason":"unknown_token"`, `"verdict":"challenge"`, `"proxy":"plain"`, `"path":"/x"`, `"credential":"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s: %s", want, got)
		}
	}
	if strings.Contains(got, "canary") {
		t.Errorf("the log tells the credential: %s", got)
	}
}

// What stands before Authgear may refuse a long User-Agent.
func TestTheBeginningOfTheUserAgentGoesAlong(t *testing.T) {
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.Header.SetUserAgent(strings.Repeat("x", 30<<10))
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, nil)
	s := (&Gate{Reader: resolver.NewReader("", nil)}).read(&ctx)
	defer s.release()
	if n := len(s.credentials.Client().UserAgent); n != 1024 {
		t.Errorf("%d bytes of it", n)
	}
}

// A preflight has no error, whatever the request had whose memory it uses.
func TestNothingIsLeftOfTheRequestBefore(t *testing.T) {
	log := make(events, 1)
	addr := serve(t, forwarded, log)
	for range 20 {
		send(t, addr, asked("preflight", "GET", "Authorization: Bearer bad"))
		if got := <-log; !strings.Contains(got, `"error":`) {
			t.Fatalf("the log says %s", got)
		}
		send(t, addr, asked("preflight", "OPTIONS", "Origin: https://other.example", "Access-Control-Request-Method: PUT"))
		if got := <-log; strings.Contains(got, `"error":`) {
			t.Fatalf("the log says %s", got)
		}
	}
}

func TestAPeerThatIsNotBelievedIsWarnedOf(t *testing.T) {
	log := make(events, 9)
	gate := &Gate{Trusted: Trusted{netip.MustParsePrefix("10.0.0.0/8")}, Reader: resolver.NewReader("", nil), Log: zerolog.New(log), Decided: None,
		Resolver: func(policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: population}, nil }}
	addr := listen(t, gate.Handler(plain), Body{})
	send(t, addr, request("", "Authorization: Bearer ada"))
	for range 2 {
		send(t, addr, request("", "Authorization: Bearer ada", "X-Forwarded-For: 203.0.113.9"))
	}
	if len(log) != 1 {
		t.Fatalf("%d events, want 1", len(log))
	}
	if got := <-log; !strings.Contains(got, `"peer":"127.0.0.1"`) || !strings.Contains(got, "AUTHGEAR_TRUSTED_PROXIES") {
		t.Errorf("the log says %s", got)
	}
}

// Of a peer that is not believed the log tells who it is, and nothing that it says.
func TestTheLogDoesNotTellWhatAnUntrustedPeerSays(t *testing.T) {
	log := make(events, 1)
	gate := &Gate{Trusted: Trusted{netip.MustParsePrefix("10.0.0.0/8")}, Reader: resolver.NewReader("", nil), Log: zerolog.New(log), Decided: All,
		Resolver: func(policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: population}, nil }}
	send(t, listen(t, gate.Handler(forwarded), Body{}), asked("optional", "GET", "X-Forwarded-Host: app"))
	if got := <-log; !strings.Contains(got, `"untrusted_peer":"127.0.0.1:`) || strings.Contains(got, "/orders") || strings.Contains(got, `"host"`) || strings.Contains(got, `"method"`) {
		t.Errorf("the log says %s", got)
	}
}

func TestTheClientIsTheLastWhomATrustedProxySaw(t *testing.T) {
	trusted := Trusted{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"nobody told", "127.0.0.1", nil, "127.0.0.1"},
		{"one proxy", "127.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"what the client itself claims is not believed", "127.0.0.1", []string{"6.6.6.6, 203.0.113.9"}, "203.0.113.9"},
		{"a chain of proxies", "127.0.0.1", []string{"203.0.113.9, 10.1.1.1", "10.2.2.2"}, "203.0.113.9"},
		{"an untrusted peer", "198.51.100.1", []string{"203.0.113.9"}, "198.51.100.1"},
		{"garbage", "127.0.0.1", []string{"203.0.113.9, evil<script>"}, "127.0.0.1"},
		{"a proxy on the same link", "fe80::1%eth0", []string{"203.0.113.9"}, "203.0.113.9"},
		{"IPv4 in IPv6", "::ffff:127.0.0.1", []string{"2001:db8::1"}, "2001:db8::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ctx fasthttp.RequestCtx
			var req fasthttp.Request
			for _, line := range tt.forwarded {
				req.Header.Add("X-Forwarded-For", line)
			}
			ctx.Init(&req, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(tt.peer), 1)), nil)
			if got := text(trusted.clientIP(&ctx)); got != tt.want {
				t.Errorf("clientIP = %q, want %q", got, tt.want)
			}
		})
	}
}
