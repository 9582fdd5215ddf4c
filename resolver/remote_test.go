package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

func TestAnOpaqueTokenMayBeginAsAJWTDoes(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	token := "eyJ" + strings.Repeat("x", 29)
	s.Grant(authgeartest.Bearer, token, s.AddUser(authgeartest.User{ID: "ada"}))
	if _, err := resolve(verifier(t, s), token); err != resolver.ErrNotMine {
		t.Errorf("without Authgear: %v, want ErrNotMine", err)
	}
	if got, err := resolve(remoteOf(s), token); err != nil || got.UserID != "ada" {
		t.Errorf("Resolve = %+v, %v, want ada's session", got, err)
	}
}

func TestASpaceAtTheEndOfACookieIsAskedAbout(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	cookie := s.SessionCookie(s.AddUser(authgeartest.User{ID: "ada"}))
	c := resolver.NewReader("", nil).Read(nil, nil, [][]byte{[]byte(`session="` + cookie + ` "`)})
	if got, err := remoteOf(s).Resolve(context.Background(), c); err == nil {
		t.Errorf("asked about %q, which is nobody's: got %+v", c.List[0].Value, got)
	}
}

func unavailable(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", 500) }

func remoteOf(s *authgeartest.Server) *resolver.Remote {
	endpoint, _ := url.Parse(s.Origin())
	return resolver.NewRemote(resolver.RemoteOptions{Endpoint: endpoint, URL: endpoint.JoinPath("/_resolver/resolve"), Timeout: 500 * time.Millisecond})
}

func TestOnlyTheParsedCredentialsGoAlong(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	c := resolver.Credentials{
		List: []resolver.Credential{
			{Slot: resolver.Bearer, Value: "t"}, {Slot: resolver.AppSession, Value: "a b"}, {Slot: resolver.AppAccessToken, Value: ""}, {Slot: resolver.IDPSession, Value: "x=,y"},
		},
		Client: func() resolver.Client {
			return resolver.Client{IP: netip.MustParseAddr("203.0.113.9"), UserAgent: "Mozilla/5.0"}
		},
	}
	remoteOf(s).Resolve(context.Background(), c)
	got := s.LastResolve()
	want := map[string]string{
		"Authorization": "Bearer t", "Cookie": "app_session=a b; app_access_token=; session=x=,y",
		"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "User-Agent": "Mozilla/5.0",
	}
	for name, values := range got.Header {
		if len(values) != 1 || values[0] != want[name] {
			t.Errorf("Authgear was sent %s: %q, want %q", name, values, want[name])
		}
	}
	if len(got.Header) != len(want) || "http://"+got.Host != s.Origin() {
		t.Errorf("Authgear was asked as %s with %v", got.Host, got.Header)
	}
}

// What is no answer of Authgear's says nothing about the credentials.
func TestWhatIsNoAnswerIsAnOutage(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	token := s.OpaqueToken(s.AddUser(authgeartest.User{ID: "ada"}))
	r := remoteOf(s)
	field := func(name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(name, value) }
	}
	valid := map[string]string{"Session-Valid": "true", "User-Id": "ada", "User-Anonymous": "false", "User-Verified": "true", "User-Can-Reauthenticate": "true"}
	but := func(name string, values ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for n, v := range valid {
				w.Header().Set("X-Authgear-"+n, v)
			}
			w.Header()["X-Authgear-"+name] = values
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		cure   string
	}{
		{"500", unavailable, "PostgreSQL and Redis"},
		{"404 app not found", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "app not found", 404) }, "AUTHGEAR_ENDPOINT"},
		{"404 of something else", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "AUTHGEAR_RESOLVER_URL"},
		{"403 without a body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "403"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere/", http.StatusFound)
		}, "AUTHGEAR_RESOLVER_URL"},
		{"a login page", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>Sign in")) }, "login page"},
		{"an empty page", field("Content-Type", "text/html"), "text/html"},
		{"neither true nor false", field("X-Authgear-Session-Valid", "yes"), "neither true nor false"},
		{"fields without the verdict", field("X-Authgear-User-Id", "ada"), "Session-Valid"},
		{"a field twice", but("User-Id", "ada", "bob"), "twice"},
		{"no user", but("User-Id"), "id"},
		{"half an answer", but("User-Verified"), "User-Verified"},
		{"a time that is none", but("Session-Authenticated-At", "yesterday"), "Authenticated-At"},
		{"a time before all time", but("Session-Authenticated-At", "-1"), "Authenticated-At"},
		{"roles that no field may hold", but("User-Roles", "a\x80b"), "roles"},
		{"an amr that no field may hold", but("Session-Amr", "pwd\tmfa"), "amr"},
		{"a user id that no field may hold", but("User-Id", "a\x80da"), "id"},
		{"too slow", func(_ http.ResponseWriter, r *http.Request) { time.Sleep(time.Second) }, "timeout"},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Fail("resolver", tt.answer)
			got, err := resolve(r, token)
			if reasonOf(err) != resolver.ResolverUnavailable || !strings.Contains(err.Error(), tt.cure) {
				t.Errorf("Resolve = %v, %v, want resolver_unavailable that names %q", got, err, tt.cure)
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
	s.Fail("resolver", nil)
	if _, err := resolve(r, token); err != nil {
		t.Errorf("Authgear's own answer: %v", err)
	}
}

// What stands before Authgear may take shorter fields than we do, not the client's
// User-Agent, or so many questions about one client. That says nothing of Authgear.
func TestAQuestionThatIsRefusedIsNoOutage(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	good := s.OpaqueToken(s.AddUser(authgeartest.User{ID: "ada"}))
	refuses := 400
	s.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("Authorization")) > 8<<10 {
			http.Error(w, "not this one", refuses)
			return
		}
		w.Header()["X-Authgear-Session-Valid"] = []string{"true"}
		for name, value := range map[string]string{"User-Id": "ada", "User-Anonymous": "false", "User-Verified": "false", "User-Can-Reauthenticate": "false", "Session-Amr": ""} {
			w.Header()["X-Authgear-"+name] = []string{value}
		}
	})
	g := resolver.NewGuard(remoteOf(s), func(error) {})
	for _, refuses = range []int{400, 403, 413, 414, 429, 431} {
		for range 10 {
			if _, err := resolve(g.Strangers(), strings.Repeat("x", 10<<10)); reasonOf(err) != resolver.ResolverUnavailable || !errors.Is(err, resolver.ErrRefused) {
				t.Errorf("a question that is answered %d: %v", refuses, err)
			}
		}
		if _, err := resolve(g, good); err != nil {
			t.Errorf("after %d to another one: %v", refuses, err)
		}
	}
}

// Nor does it mean that Authgear is back; and what it is not asked about does not.
func TestAQuestionThatIsRefusedEndsNoOutage(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	var questions atomic.Int64
	s.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("Authorization")) > 8<<10 {
			http.Error(w, "not this one", 400)
			return
		}
		questions.Add(1)
		http.Error(w, "down", http.StatusBadGateway)
	})
	g := resolver.NewGuard(remoteOf(s), func(error) {})
	for !g.Away() {
		resolve(g, "ada")
	}
	for _, strange := range []string{strings.Repeat("x", 10<<10), "a!b"} {
		time.Sleep(600 * time.Millisecond) // it is asked again
		resolve(g.Strangers(), strange)
		if !g.Away() {
			t.Errorf("%.10q: Authgear is taken to be back", strange)
		}
		before := questions.Load()
		for range 20 {
			resolve(g, "ada")
			resolve(g.Strangers(), strange)
		}
		if n := questions.Load() - before; n > 2 {
			t.Errorf("%.10q: %d questions to an Authgear that is away", strange, n)
		}
	}
}

func TestAQuestionIsPutTwiceAtMost(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	s.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	})
	resolve(remoteOf(s), "token")
	if n := s.ResolverCalls(); n > 2 {
		t.Errorf("one question was put %d times", n)
	}
}

// Authgear issues no such token, so nobody asks whose it is.
func TestWhatIsNoBearerTokenIsNotAskedAbout(t *testing.T) {
	for _, token := range []string{" abc", `"abc"`, "ä", "=", "a b", "a\tb", "a;b", "a\x7f"} {
		s := authgeartest.Start(t, authgeartest.Options{})
		bad := resolver.Credential{Slot: resolver.Bearer, Value: token}
		_, err := remoteOf(s).Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{bad}})
		var inv *resolver.InvalidError
		if !errors.As(err, &inv) || inv.Reason != resolver.MalformedCredential || s.ResolverCalls() != 0 {
			t.Errorf("%q: %v and %d questions, want malformed_credential and none", token, err, s.ResolverCalls())
		}
		cookie := resolver.Credential{Slot: resolver.IDPSession, Value: s.SessionCookie(s.AddUser(authgeartest.User{ID: "ada"}))}
		got, err := remoteOf(s).Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{bad, cookie}})
		if err != nil || got.UserID != "ada" || s.LastResolve().Header.Get("Authorization") != "" {
			t.Errorf("%q beside a good cookie: %v, %v, asked with %q", token, got, err, s.LastResolve().Header.Get("Authorization"))
		}
	}
}

// Something else may answer in Authgear's place, and send back what it was sent.
func TestWhatTheResolverSendsBackIsNotTold(t *testing.T) {
	const secret = "canary-0123456789-0123456789"
	for name, answer := range map[string]string{
		"an echo":            "%s",
		"a status line":      "HTTP/1.1 %s\r\n\r\n",
		"a field":            "HTTP/1.1 200 OK\r\nX-Authgear-Session-Valid: %s\r\nContent-Length: 0\r\n\r\n",
		"a field's name":     "HTTP/1.1 200 OK\r\n%s\r\nX Y\r\n\r\n",
		"a content length":   "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"a chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s",
		"a body of an error": "HTTP/1.1 500 No\r\nContent-Length: 200\r\n\r\n%s",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					request := make([]byte, 4096)
					n, _ := c.Read(request)
					text := string(request[:n])
					if answer != "%s" {
						text = secret
					}
					fmt.Fprintf(c, answer, text)
					c.Close()
				}
			}()
			u := &url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/resolve"}
			_, err = resolver.NewRemote(resolver.RemoteOptions{Endpoint: u, URL: u, Timeout: time.Second}).Resolve(t.Context(), resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: secret}, {Slot: resolver.IDPSession, Value: secret}}})
			if err == nil || errors.Is(err, resolver.ErrInvalid) || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is %v, want an outage without the secret", err)
			}
		})
	}
}

// Those that a rush has opened are no more used when it is over.
func TestOneQuestionAtATimeUsesOneConnection(t *testing.T) {
	var mu sync.Mutex
	used := map[string]bool{} // :: address of our end
	rush := make(chan struct{})
	var waiting atomic.Int32
	authgear := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if waiting.Add(1) == 10 {
			close(rush)
		}
		<-rush
		mu.Lock()
		defer mu.Unlock()
		used[r.RemoteAddr] = true
	}))
	defer authgear.Close()
	at, err := url.Parse(authgear.URL)
	if err != nil {
		t.Fatal(err)
	}
	remote := resolver.NewRemote(resolver.RemoteOptions{Endpoint: at, URL: at, Timeout: time.Minute})
	ask := func() {
		remote.Resolve(t.Context(), resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: "token"}}})
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(ask)
	}
	all.Wait()
	mu.Lock()
	clear(used)
	mu.Unlock()
	for range 10 {
		ask()
	}
	if len(used) != 1 {
		t.Errorf("%d connections, want 1", len(used))
	}
}

// After a rush many connections are kept; a restart behind a balancer ends them all.
func TestKeptConnectionsThatEndedAreNoOutage(t *testing.T) {
	s := authgeartest.New(authgeartest.Options{})
	token := s.OpaqueToken(s.AddUser(authgeartest.User{ID: "ada"}))
	const many = 8
	var rush sync.WaitGroup
	rush.Add(many)
	var came atomic.Int32
	kept := make(chan net.Conn, many)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if came.Add(1) <= many { // each on a connection of its own
			rush.Done()
			rush.Wait()
		}
		s.ServeHTTP(w, r)
	}))
	front.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateIdle && len(kept) < many {
			kept <- c
		}
	}
	front.Start()
	defer front.Close()
	r := remoteAt(s, front.URL)
	var all sync.WaitGroup
	for range many {
		all.Go(func() { resolve(r, token) })
	}
	all.Wait()
	for range many {
		(<-kept).Close()
	}
	for range 3 {
		if _, err := resolve(r, token); err != nil {
			t.Error(err)
		}
	}
}

// What stands before Authgear may end a connection, without a word, for what a question has in it.
func TestWhatStrangersAskIsNoOutage(t *testing.T) {
	s := authgeartest.New(authgeartest.Options{})
	token := s.OpaqueToken(s.AddUser(authgeartest.User{ID: "ada"}))
	for name, refuse := range map[string]func(http.ResponseWriter){
		"dropped": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"403":     func(w http.ResponseWriter) { w.WriteHeader(403) },
	} {
		t.Run(name, func(t *testing.T) {
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.Header.Get("Cookie")+r.UserAgent(), "union select") {
					refuse(w)
					return
				}
				s.ServeHTTP(w, r)
			}))
			defer front.Close()
			g := resolver.NewGuard(remoteAt(s, front.URL), func(error) {})
			for range 10 {
				_, err := g.Strangers().Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{{Slot: resolver.IDPSession, Value: "union select"}}})
				if reasonOf(err) != resolver.ResolverUnavailable || !errors.Is(err, resolver.ErrRefused) {
					t.Fatalf("a stranger: %v", err)
				}
				_, err = g.Resolve(context.Background(), resolver.Credentials{
					List:   []resolver.Credential{{Slot: resolver.Bearer, Value: token}},
					Client: func() resolver.Client { return resolver.Client{UserAgent: "union select"} },
				})
				if err != nil {
					t.Fatalf("a user: %v", err)
				}
			}
		})
	}
}

func remoteAt(s *authgeartest.Server, front string) *resolver.Remote {
	endpoint, _ := url.Parse(s.Origin())
	at, _ := url.Parse(front + "/resolve")
	return resolver.NewRemote(resolver.RemoteOptions{Endpoint: endpoint, URL: at, Timeout: 2 * time.Second})
}

// vouch answers as Authgear does for ada, with more fields.
func vouch(w http.ResponseWriter, more map[string]string) {
	for name, value := range map[string]string{"Session-Valid": "true", "User-Id": "ada", "User-Anonymous": "false", "User-Verified": "false", "User-Can-Reauthenticate": "false", "Session-Amr": ""} {
		w.Header()["X-Authgear-"+name] = []string{value}
	}
	for name, value := range more {
		w.Header()["X-Authgear-"+name] = []string{value}
	}
}

// What Authgear says was true when it was asked, and perhaps not when the answer came.
func TestASessionIsConfirmedWhenTheQuestionIsPut(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	var arrived time.Time
	s.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) {
		arrived = time.Now()
		vouch(w, nil)
	})
	if got, err := resolve(remoteOf(s), "token"); err != nil || got.Confirmed.IsZero() || got.Confirmed.After(arrived) {
		t.Errorf("%+v, %v, want that it was confirmed before %s", got, err, arrived)
	}
}

func TestAQuestionEndsWhenNobodyWaits(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	end := make(chan bool)
	defer close(end)
	s.Fail("resolver", func(http.ResponseWriter, *http.Request) { <-end })
	at, _ := url.Parse(s.Origin())
	r := resolver.NewRemote(resolver.RemoteOptions{Endpoint: at, URL: at.JoinPath("/_resolver/resolve"), Timeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := r.Resolve(ctx, resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: "token"}}})
		ended <- err
	}()
	select {
	case err := <-ended:
		if reasonOf(err) != resolver.ResolverUnavailable {
			t.Errorf("%v, want an outage", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

// A user may have many roles.
func TestALongAnswerIsRead(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	roles := strings.Repeat("a_role_with_a_name_of_forty_characters_,", 700) + "admin"
	s.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { vouch(w, map[string]string{"User-Roles": roles}) })
	if got, err := resolve(remoteOf(s), "token"); err != nil || got.Roles != roles {
		t.Errorf("%.200v, %v", got, err)
	}
}

// How an address is written where it comes from is no part of it.
func TestTheClientsAddressIsToldAsItIs(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	for ip, want := range map[string]string{"::ffff:203.0.113.9": "203.0.113.9", "fe80::1%eth0": "fe80::1", "2001:db8::1": "2001:db8::1"} {
		c := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: "t"}}, Client: func() resolver.Client { return resolver.Client{IP: netip.MustParseAddr(ip)} }}
		remoteOf(s).Resolve(t.Context(), c)
		if got := s.LastResolve().Header.Get("X-Forwarded-For"); got != want {
			t.Errorf("%s: Authgear was told %q, want %q", ip, got, want)
		}
	}
}

// Of what the resolver sets, only the line that takes a dead session cookie away concerns the
// client, and only what a field may hold.
func TestOnlyTheLineThatClearsTheCookieIsPassedOn(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	const clears = "session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly"
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{clears}, clears},
		{[]string{"session=another; Path=/"}, ""},
		{[]string{"my_session=; Path=/"}, ""},
		{[]string{"session=; Path=/\x80"}, ""},
		{nil, ""},
	} {
		s.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Authgear-Session-Valid"] = []string{"false"}
			w.Header()["Set-Cookie"] = tt.lines
		})
		_, err := resolve(remoteOf(s), "token")
		var inv *resolver.InvalidError
		if !errors.As(err, &inv) || inv.Reason != resolver.SessionInvalid || inv.ClearCookie != tt.want {
			t.Errorf("%q: %+v, want %q", tt.lines, inv, tt.want)
		}
	}
}

// What stands before Authgear, such as a balancer, may set cookies of its own.
func TestACookieOfTheBalancerChangesNothing(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	const clears, other = "session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly", "BALANCER=secret; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT"
	for _, lines := range [][]string{{clears}, {other, clears}, {clears, other}} {
		s.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Authgear-Session-Valid"] = []string{"false"}
			w.Header()["Set-Cookie"] = lines
		})
		_, err := resolve(remoteOf(s), "token")
		if inv, ok := errors.AsType[*resolver.InvalidError](err); !ok || inv.ClearCookie != clears {
			t.Errorf("%q: %v, %+v", lines, err, inv)
		}
	}
}

// That a question is refused stays so, though without the User-Agent it is not answered at all.
func TestTheSecondWordIsTakenIfItTellsMore(t *testing.T) {
	s := authgeartest.New(authgeartest.Options{})
	var asked atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); r.UserAgent() == "" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer front.Close()
	_, err := remoteAt(s, front.URL).Resolve(context.Background(), resolver.Credentials{
		List:   []resolver.Credential{{Slot: resolver.Bearer, Value: "t"}},
		Client: func() resolver.Client { return resolver.Client{UserAgent: "Mozilla"} },
	})
	if !errors.Is(err, resolver.ErrRefused) || asked.Load() < 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}
