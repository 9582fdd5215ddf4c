package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

// These tests send thousands of random requests, as odd as clients can make
// them, through everything from the Reader to the Remote with one shared cache,
// and hold each answer against what Authgear says to the same lines without
// any of it. What one request leaves in the cache must never answer another
// of which Authgear would say something else.

// A request is what a client sends to say who it is, byte for byte.
type request struct {
	authorization, cookie []string
}

func (r request) String() string {
	return fmt.Sprintf("Authorization %q, Cookie %q", r.authorization, r.cookie)
}

// A verdict is whose request it is (nobody's: "") and the line that takes the
// session cookie away.
type verdict struct{ user, clear string }

// A town is an Authgear with a population that does not change.
type town struct {
	server *authgeartest.Server
	prefix string
	own    map[string][]string // cookie name without prefix ("" is Authorization) → credentials that belong there
	all    []string            // credentials, good ones and bad ones
}

// newTown has users with one credential of each kind. Where JWTs are checked
// without Authgear there is none that only Authgear knows to be dead.
func newTown(t *testing.T, prefix string, hybrid bool) *town {
	s := authgeartest.Start(t, authgeartest.Options{CookiePrefix: prefix, CookieDomain: "example.com"})
	w := &town{server: s, prefix: prefix, own: map[string][]string{}}
	ada, bob := s.AddUser(authgeartest.User{ID: "ada", Roles: []string{"admin"}}), s.AddUser(authgeartest.User{ID: "bob"})
	for _, u := range []*authgeartest.User{ada, bob} {
		w.add(s.OpaqueToken(u), "", "app_access_token")
		lookalike := "eyJ" + s.OpaqueToken(u)[3:]
		s.Grant(authgeartest.Bearer, lookalike, u)
		w.add(lookalike, "", "app_access_token")
		w.add(s.JWT(u), "", "app_access_token")
		w.add(s.SessionCookie(u), "session")
		w.add(s.AppSession(u), "app_session")
	}
	dead, disabled := s.AddUser(authgeartest.User{ID: "dead"}), s.AddUser(authgeartest.User{ID: "disabled", Disabled: true})
	w.add(w.revoked(s.OpaqueToken(dead)), "")
	w.add(w.revoked(s.SessionCookie(dead)), "session")
	w.add(w.revoked(s.AppSession(dead)), "app_session")
	w.add(s.OpaqueToken(disabled), "", "app_access_token")
	w.add(s.AppSession(disabled), "app_session")
	w.add(s.SessionCookie(disabled), "session")
	if !hybrid {
		w.add(w.revoked(s.JWT(dead)), "")
		w.add(s.JWT(disabled), "app_access_token")
	}
	w.add(s.JWT(ada, func(_, claims map[string]any) { claims["exp"] = time.Now().Add(-time.Hour).Unix() }), "")
	w.add(withSignatureOf(s.JWT(ada), s.JWT(bob)), "")
	for _, bad := range []string{s.IDToken(ada), "eyJgarbage", "garbage", ""} {
		w.add(bad)
	}
	return w
}

// add adds a credential to the town, and to those that belong in the slots.
func (w *town) add(value string, slots ...string) {
	w.all = append(w.all, value)
	for _, slot := range slots {
		w.own[slot] = append(w.own[slot], value)
	}
}

func (w *town) revoked(value string) string {
	w.server.Revoke(value)
	return value
}

func withSignatureOf(token, other string) string {
	return token[:strings.LastIndexByte(token, '.')] + other[strings.LastIndexByte(other, '.'):]
}

// randomValue is mostly a credential that belongs in the slot.
func (w *town) randomValue(r *rand.Rand, slot string) string {
	if own := w.own[slot]; len(own) > 0 && r.IntN(4) > 0 {
		return pick(r, own)
	}
	return pick(r, w.all)
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// mostly is the plain form in two cases of three, else one of the odd ones.
func mostly(r *rand.Rand, plain string, odd []string) string {
	if r.IntN(3) > 0 {
		return plain
	}
	return pick(r, odd)
}

var (
	oddSchemes    = []string{"bEARER ", " \tBearer ", "Bearer  ", "Bearer\t", "Bearer", "Basic ", "DPoP ", ""}
	oddEndings    = []string{" ", "\t", "=", ",", ", Bearer x", "\xc3\xa4", `"`, " x"}
	oddSeparators = []string{";", ";\t", " ; ", ";;", "; =x; ", "; x; "}
	oddEdges      = []string{" ", "\t", ";", " ;"}

	// Shapes of a cookie; N is its name, V its value.
	oddShapes = []string{
		`N="V"`, "N =V", "N= V", "N\t=\tV", `N="V`, `N=V"`, `N=""V""`, `N=" V"`, `N="V "`, "N==V", "N", "N=", `N=""`, `N="`, "=V", "=N=V",
		"N=\xc3\xa4", "N=\xc3\xa4V", "N=a V", "N=V,V", `N=\V`, "N=V=", "N=V\x80", "n=N=V", "N;=V", "(N)=V", "N=V; N=V", "N=\xc3\xa4; N=V", "N=garbage; N=V",
	}
)

func (w *town) randomRequest(r *rand.Rand) (q request) {
	for range pick(r, []int{0, 0, 0, 0, 1, 1, 1, 1, 1, 2}) {
		q.authorization = append(q.authorization, mostly(r, "Bearer ", oddSchemes)+w.randomValue(r, "")+mostly(r, "", oddEndings))
	}
	for range pick(r, []int{0, 1, 1, 1, 1, 2, 2}) {
		q.cookie = append(q.cookie, w.randomCookies(r))
	}
	return q
}

func (w *town) randomCookies(r *rand.Rand) string {
	line := mostly(r, "", oddEdges) + w.randomCookie(r)
	for range r.IntN(4) {
		line += mostly(r, "; ", oddSeparators) + w.randomCookie(r)
	}
	return line + mostly(r, "", oddEdges)
}

func (w *town) randomCookie(r *rand.Rand) string {
	slot := pick(r, []string{"session", "session", "app_session", "app_access_token"})
	name := w.prefix + slot
	name = mostly(r, name, []string{"x" + name, name + "x", strings.ToUpper(name[:1]) + name[1:], "my_" + name, slot})
	return strings.NewReplacer("N", name, "V", w.randomValue(r, slot)).Replace(mostly(r, "N=V", oddShapes))
}

// An oracle asks Authgear about the lines of a request as they are.
type oracle struct {
	host string
	conn net.Conn
	in   *bufio.Reader
}

func (w *town) oracle(t *testing.T) *oracle {
	t.Helper()
	host := strings.TrimPrefix(w.server.URL(), "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &oracle{host, conn, bufio.NewReader(conn)}
}

func (o *oracle) ask(t *testing.T, q request) verdict {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "GET /_resolver/resolve HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Proto: http\r\n", o.host)
	for _, line := range q.authorization {
		fmt.Fprintf(&b, "Authorization: %s\r\n", line)
	}
	for _, line := range q.cookie {
		fmt.Fprintf(&b, "Cookie: %s\r\n", line)
	}
	if _, err := fmt.Fprintf(o.conn, "%s\r\n", &b); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(o.in, nil)
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: Authgear answers %s", q, resp.Status)
	}
	return verdict{resp.Header.Get("X-Authgear-User-Id"), resp.Header.Get("Set-Cookie")}
}

// A sample is a request with what the Reader finds in it and what must come out.
type sample struct {
	request
	creds resolver.Credentials
	want  verdict
}

func lines(s []string) (l [][]byte) {
	for _, one := range s {
		l = append(l, []byte(one))
	}
	return l
}

// samples returns n random requests. What Authgear says of one must come out,
// but for one exception: a request with a malformed Authorization has only its
// cookies. That makes a difference where there are several lines, of which
// Authgear reads the first.
func (w *town) samples(t *testing.T, r *rand.Rand, n int) (list []sample) {
	t.Helper()
	reader, o := resolver.NewReader(w.prefix, nil), w.oracle(t)
	exceptions := 0
	for range n {
		q := w.randomRequest(r)
		s := sample{q, reader.Read(nil, lines(q.authorization), lines(q.cookie)), o.ask(t, q)}
		if isTooLong(q) {
			read := o.ask(t, asRead(w.prefix, s.creds.List))
			if read.user != s.want.user && len(q.authorization) < 2 {
				t.Errorf("%v: Authgear says %+v, and %+v without what is too long", q, s.want, read)
			}
			s.want = read
		} else if s.creds.Malformed != nil {
			cookies := o.ask(t, request{cookie: q.cookie})
			if cookies != s.want {
				exceptions++
				if len(q.authorization) < 2 {
					t.Errorf("%v: Authgear says %+v, we read its cookies alone, of which it says %+v", q, s.want, cookies)
				}
			}
			s.want = cookies
		}
		list = append(list, s)
	}
	describe(t, list, exceptions)
	return list
}

// describe logs what the samples are like, and fails where they test nothing.
func describe(t *testing.T, list []sample, exceptions int) {
	t.Helper()
	users, cleared := map[string]int{}, 0
	for _, s := range list {
		users[s.want.user]++
		if s.want.clear != "" {
			cleared++
		}
	}
	t.Logf("%d requests by %v, %d cookies cleared, %d exceptions", len(list), users, cleared, exceptions)
	if len(users) != 3 || users["ada"] < len(list)/20 || users["bob"] < len(list)/20 || cleared < len(list)/20 {
		t.Error("too few requests of one kind")
	}
}

// chain is what the service is made of, with one cache for all.
func (w *town) chain(t *testing.T, hybrid bool) *resolver.InTurn {
	t.Helper()
	endpoint, err := url.Parse(w.server.Origin())
	if err != nil {
		t.Fatal(err)
	}
	remote := resolver.NewRemote(resolver.RemoteOptions{
		Endpoint: endpoint, URL: endpoint.JoinPath("/_resolver/resolve"), CookiePrefix: w.prefix, Timeout: 10 * time.Second,
	})
	o := Options{Authgear: remote, Strangers: remote, MaxStaleness: 30 * time.Second, Wait: 20 * time.Second, Bytes: 1 << 20}
	if hybrid {
		keys := resolver.NewKeys(w.server.Origin(), 10*time.Second, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		o.Local = &resolver.JWT{Issuer: w.server.Origin(), Audiences: []string{w.server.Origin()}, Skew: 30 * time.Second, Keys: keys}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &resolver.InTurn{Next: c, TogetherWithJWT: !hybrid}
}

// answerOf is what comes out for s.
func answerOf(chain *resolver.InTurn, s sample) (v verdict, err error) {
	session, err := chain.Resolve(context.Background(), s.creds)
	var inv *resolver.InvalidError
	switch {
	case errors.As(err, &inv):
		return verdict{clear: inv.ClearCookie}, nil
	case err != nil:
		return v, err
	}
	return verdict{user: session.UserID}, nil
}

func TestTheCacheNeverAnswersForAnother(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		prefix := map[bool]string{false: "", true: "my_"}[hybrid]
		w := newTown(t, prefix, hybrid)
		for _, seed := range []uint64{1, rand.Uint64()} {
			t.Run(fmt.Sprintf("hybrid %v, seed %d", hybrid, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				list := w.samples(t, r, 700)
				sharersAgree(t, list)

				before := w.server.ResolverCalls()
				chain := w.chain(t, hybrid)
				resolveAll(t, chain, list, hybrid)
				r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
				atOnce(list, func(part []sample) { resolveAll(t, chain, part, hybrid) })
				asked := w.server.ResolverCalls() - before
				t.Logf("%d questions for %d requests", asked, 2*len(list))
				if asked > len(list)*3/2 {
					t.Errorf("%d questions for %d requests: is anything remembered?", asked, 2*len(list))
				}
			})
		}
	}
}

// resolveAll compares what comes out with what must. The line that takes a
// cookie away is compared where all credentials go into one question, as in
// Authgear itself.
func resolveAll(t *testing.T, chain *resolver.InTurn, list []sample, hybrid bool) {
	for _, s := range list {
		got, err := answerOf(chain, s)
		want := s.want
		if hybrid {
			got.clear, want.clear = "", ""
		}
		if err != nil || got != want {
			t.Errorf("%v: got %+v, %v, Authgear says %+v", s.request, got, err, want)
			return // one tells enough
		}
	}
}

// atOnce calls f with the parts of the list, all at the same time.
func atOnce(list []sample, f func([]sample)) {
	const parts = 8
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() { f(list[i*len(list)/parts : (i+1)*len(list)/parts]) })
	}
	all.Wait()
}

// isTooLong tells whether something in the request may be longer than Authgear is asked about. What
// is left out lets nobody in, and takes nobody's session; Authgear would take such a cookie away.
func isTooLong(q request) bool {
	const most = 2 << 10
	long := func(s string) bool { return len(s) > most }
	return slices.ContainsFunc(q.authorization, long) || slices.ContainsFunc(strings.Split(strings.Join(q.cookie, ";"), ";"), long)
}

// asRead returns the request with what was read of it alone.
func asRead(prefix string, list []resolver.Credential) (q request) {
	names := map[resolver.Slot]string{resolver.AppSession: "app_session", resolver.AppAccessToken: "app_access_token", resolver.IDPSession: "session"}
	for _, one := range list {
		if one.Slot == resolver.Bearer {
			q.authorization = []string{"Bearer " + one.Value}
		} else {
			q.cookie = append(q.cookie, prefix+names[one.Slot]+`="`+one.Value+`"`)
		}
	}
	return q
}

// sharersAgree tests that Authgear says the same of all requests that have one
// key.
func sharersAgree(t *testing.T, list []sample) {
	t.Helper()
	type found struct {
		sample
		text string
	}
	seen := map[resolver.Key][]found{}
	pairs := 0
	for _, s := range list {
		if s.creds.None() {
			continue // nothing is remembered for a visitor
		}
		key, text := s.creds.Key(), s.request.String()
		for _, other := range seen[key] {
			if other.text != text {
				pairs++
			}
			if other.want != s.want {
				t.Errorf("%s: %+v, and with the same key %s: %+v", text, s.want, other.text, other.want)
			}
		}
		seen[key] = append(seen[key], found{s, text})
	}
	t.Logf("%d keys, %d pairs of different requests share one", len(seen), pairs)
	if pairs < len(list)/4 {
		t.Errorf("only %d pairs share a key", pairs)
	}
}
