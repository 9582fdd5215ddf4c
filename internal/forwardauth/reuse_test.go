package forwardauth

import (
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// slept returns a time that is so long before t by the clock on the wall, and the same by the
// one that stands still while a machine sleeps: see step in the tests of resolver.
func slept(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) -= uint64(d/time.Second) << 30
	return t
}

// What nginx may reuse ends before the bound, the token and what the route asks for.
func TestWhatAProxyReusesEndsInTime(t *testing.T) {
	now := time.Now()
	confirmed := func(ago time.Duration) resolver.Session {
		return resolver.Session{UserID: "ada", Confirmed: now.Add(-ago)}
	}
	ending := func(s resolver.Session, in time.Duration) resolver.Session {
		s.Expiry = resolver.UnixTime(now.Add(in).Unix())
		return s
	}
	signedIn := func(s resolver.Session, ago time.Duration) resolver.Session {
		s.AuthenticatedAt = now.Add(-ago).Unix()
		return s
	}
	const bound = 30 * time.Second
	for _, tt := range []struct {
		name    string
		bound   time.Duration
		policy  string
		session resolver.Session
		least   time.Duration // what is reusable lies between
		most    time.Duration
	}{
		{"as the setting says", bound, "", confirmed(10 * time.Second), 5 * time.Second, 5 * time.Second},
		{"up to the bound", bound, "", confirmed(28 * time.Second), 2 * time.Second, 2 * time.Second},
		{"before the machine slept", bound, "", resolver.Session{UserID: "ada", Confirmed: slept(now, 28*time.Second)}, 2 * time.Second, 2 * time.Second},
		{"past the bound", bound, "", confirmed(31 * time.Second), -time.Hour, 0},
		{"confirmed by nobody yet", bound, "", resolver.Session{UserID: "ada"}, -1 << 63, 0},
		{"up to the bound of the route", bound, "max_staleness=12s", confirmed(10 * time.Second), 2 * time.Second, 2 * time.Second},
		{"a confirmation for each request", bound, "max_staleness=0s", confirmed(time.Millisecond), -time.Hour, 0},
		{"a loose route", bound, "max_staleness=1h", confirmed(28 * time.Second), 2 * time.Second, 2 * time.Second},
		{"up to the token's end", bound, "", ending(confirmed(0), 3*time.Second), 2 * time.Second, 3 * time.Second},
		{"past the token's end, within the leeway", bound, "", ending(confirmed(0), -3*time.Second), -time.Hour, 0},
		{"while the sign-in is recent", bound, "signed_in_within=1m", signedIn(confirmed(0), 58*time.Second), time.Second, 3 * time.Second},
		{"where nobody confirms", 0, "", ending(resolver.Session{UserID: "ada"}, time.Hour), 5 * time.Second, 5 * time.Second},
		{"a machine", bound, "machine", ending(resolver.Session{Machine: true}, time.Hour), 5 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule, err := policy.Parse(tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			g := &Gate{ProxyCache: 5 * time.Second, MaxStaleness: tt.bound}
			if got := g.reusable(&rule, &tt.session, now); got < tt.least || got > tt.most {
				t.Errorf("%s, want between %s and %s", got, tt.least, tt.most)
			}
		})
	}
}

// nginx reuses an answer to the end of the second that it is told.
func TestTheEndIsToldByTheProxysClock(t *testing.T) {
	for _, tt := range []struct {
		name, peer, asked string
		left              time.Duration
		want              string
	}{
		{"at the beginning of a second", "127.0.0.1", "100.000", time.Second, "@100"},
		{"at its end", "127.0.0.1", "100.999", time.Second, "@100"},
		{"for longer", "127.0.0.1", "100.500", 2500 * time.Millisecond, "@102"},
		{"too little is left", "127.0.0.1", "100.500", 400 * time.Millisecond, ""},
		{"a second, but none is whole", "127.0.0.1", "100.500", 600 * time.Millisecond, "@100"},
		{"nothing is left", "127.0.0.1", "100.500", -time.Hour, ""},
		{"it does not tell", "127.0.0.1", "", time.Second, ""},
		{"it tells nonsense", "127.0.0.1", "soon", time.Second, ""},
		{"not a number", "127.0.0.1", "NaN", time.Second, ""},
		{"beyond all time", "127.0.0.1", "1e300", time.Second, ""},
		{"no proxy of ours", "198.51.100.1", "100.000", time.Second, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := &Gate{ProxyCache: tt.left, Trusted: Trusted{netip.MustParsePrefix("127.0.0.0/8")}}
			var ctx fasthttp.RequestCtx
			var req fasthttp.Request
			if tt.asked != "" {
				req.Header.Set("X-Original-Time", tt.asked)
			}
			ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(tt.peer), Port: 1}, nil)
			g.letReuse(&ctx, &policy.Rule{}, &resolver.Session{UserID: "ada"}, time.Now())
			if got := string(ctx.Response.Header.Peek("X-Accel-Expires")); got != tt.want {
				t.Errorf("X-Accel-Expires: %q, want %q", got, tt.want)
			}
		})
	}
}

// A proxy reuses the answer about a user alone, and only one that can be told for how long.
func TestOnlyTheAnswerAboutAUserIsReused(t *testing.T) {
	reusing := plain
	reusing.Reuses = true
	for _, tt := range []struct {
		name, query, authorization string
		d                          Dialect
		reused                     bool
	}{
		{"a user", "", "Bearer ada", reusing, true},
		{"a proxy that cannot be told", "", "Bearer ada", plain, false},
		{"a visitor", "?optional", "Basic x", reusing, false},
		{"a bad credential", "?optional", "Bearer bad", reusing, false},
		{"a denial", "?role=owner", "Bearer ada", reusing, false},
		{"nobody", "", "Basic x", reusing, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gate := &Gate{ProxyCache: 5 * time.Second, Trusted: Trusted{netip.MustParsePrefix("127.0.0.0/8")}, Reader: resolver.NewReader("", nil), Log: zerolog.Nop(), Decided: None,
				Resolver: func(policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: population}, nil }}
			resp, _ := send(t, listen(t, gate.Handler(tt.d), Body{}), request(tt.query, "Authorization: "+tt.authorization, "X-Original-Time: 100.000"))
			if got := resp.Header.Get("X-Accel-Expires"); (got != "") != tt.reused {
				t.Errorf("X-Accel-Expires: %q", got)
			}
		})
	}
}
