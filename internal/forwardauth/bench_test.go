package forwardauth

import (
	"context"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/internal/metrics"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// random returns as many characters as random as those of a token, which a processor cannot
// foresee.
func random(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// remembered are requests, as nginx sends them, of credentials that the gate
// remembers.
var remembered = []struct{ name, query, field string }{
	{"JWT", "", "Authorization: Bearer eyJ" + random(600) + "." + random(342)},
	{"opaque token", "", "Authorization: Bearer " + random(32)},
	{"session cookie", "", "Cookie: theme=dark; session=4098a1a2-805e-4235-9698-8708fb27df95." + random(32)},
	{"JWT with a role policy", "?role=owner&role=admin", "Authorization: Bearer eyJ" + random(600) + "." + random(342)},
}

func fromNginx(query, field string) string {
	return request(query, "X-Original-URL: https://app.example.com/api/items?page=2", "X-Original-Method: GET", "X-Forwarded-For: 203.0.113.7",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Accept: application/json", field)
}

// A keptConn is a connection on which the same request comes for as long as more
// says so.
type keptConn struct {
	net.Conn
	request []byte
	more    func() bool
	status  [12]byte // how the last answer begins
}

var loopback = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:4180"))

func (c *keptConn) Read(b []byte) (int, error) {
	if !c.more() {
		return 0, io.EOF
	}
	return copy(b, c.request), nil
}

func (c *keptConn) Write(b []byte) (int, error) {
	c.status = [12]byte(b)
	return len(b), nil
}

func (*keptConn) RemoteAddr() net.Addr             { return loopback }
func (*keptConn) LocalAddr() net.Addr              { return loopback }
func (*keptConn) Close() error                     { return nil }
func (*keptConn) SetDeadline(time.Time) error      { return nil }
func (*keptConn) SetReadDeadline(time.Time) error  { return nil }
func (*keptConn) SetWriteDeadline(time.Time) error { return nil }

// serveKept serves a request through the whole of the server but the kernel, as long
// as more says so. The answers must be 200.
func serveKept(t testing.TB, query, field string) (serve func(more func() bool)) {
	ada := adaOnly{}
	sessions, err := cache.New(cache.Options{Authgear: ada, Strangers: ada, MaxStaleness: time.Hour, Wait: time.Second, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sessions.Close)
	gate := &Gate{
		Resolver: func(rule policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: sessions}, nil },
		Reader:   resolver.NewReader("", nil),
		Trusted:  Trusted{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.0.0.0/8")},
		Log:      zerolog.New(io.Discard),
		Decided:  Denied,
		Metrics:  metrics.New("", time.Hour),
	}
	server := NewServer(gate.Handler(plain), Body{})
	c := &keptConn{request: []byte(fromNginx(query, field))}
	serve = func(more func() bool) {
		c.more = more
		if err := server.ServeConn(c); err != nil {
			t.Fatal(err)
		}
		if string(c.status[:]) != "HTTP/1.1 200" {
			t.Fatalf("the answer begins with %q", c.status)
		}
	}
	serve(times(1))
	time.Sleep(100 * time.Millisecond) // ristretto files it behind; nothing here would let it
	return serve
}

// adaOnly knows everybody as ada.
type adaOnly struct{}

func (adaOnly) Resolve(context.Context, resolver.Credentials) (*resolver.Session, error) {
	return population["ada"], nil
}

func times(n int) (more func() bool) {
	return func() bool { n--; return n >= 0 }
}

// BenchmarkGate is an answer about a remembered credential: all of the service's work
// for it and fasthttp's, without the kernel's.
func BenchmarkGate(b *testing.B) {
	for _, r := range remembered {
		b.Run(r.name, func(b *testing.B) {
			serve := serveKept(b, r.query, r.field)
			b.ReportAllocs()
			serve(b.Loop)
		})
	}
}

// BenchmarkBareHandler is the floor of BenchmarkGate: a handler that sets the same
// fields and looks at nothing.
func BenchmarkBareHandler(b *testing.B) {
	server := NewServer(func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetCanonical([]byte(fasthttp.HeaderCacheControl), []byte("no-store"))
		for _, name := range [][]byte{sessionValid, userID, userAnonymous, userVerified, userRoles, sessionAMR, authenticatedAt, canReauthenticate, clientID, scope} {
			h.SetCanonical(name, []byte("true"))
		}
	}, Body{})
	server.HeaderReceived = nil
	b.ReportAllocs()
	server.ServeConn(&keptConn{request: []byte(fromNginx("", remembered[0].field)), more: b.Loop})
}
