package forwardauth

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

func TestAFloodOfDenialsIsLoggedInPart(t *testing.T) {
	for _, tt := range []struct {
		decided         Decisions
		lines, warnings int
	}{
		{Denied, mostLines, 1},
		{All, 200, 0},
		{None, 0, 0},
	} {
		t.Run(string(tt.decided), func(t *testing.T) {
			var log bytes.Buffer
			gate := &Gate{
				Resolver: func(policy.Rule) (resolver.Resolver, error) { return &resolver.InTurn{Next: population}, nil },
				Reader:   resolver.NewReader("", nil),
				Log:      zerolog.New(&log),
				Decided:  tt.decided,
			}
			handle := gate.Handler(plain)
			for range 200 { // all in the second in which the clock of such a request stands
				var ctx fasthttp.RequestCtx
				var req fasthttp.Request
				req.SetRequestURI("/auth")
				ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, nil)
				handle(&ctx)
			}
			if n := strings.Count(log.String(), `"message":"decided"`); n != tt.lines {
				t.Errorf("%d decisions are logged, want %d", n, tt.lines)
			}
			if n := strings.Count(log.String(), `"level":"warn"`); n != tt.warnings {
				t.Errorf("%d warnings, want %d", n, tt.warnings)
			}
		})
	}
}

func TestATallyBeginsAnewEachSecond(t *testing.T) {
	var tl tally
	now := time.Unix(1000, 0)
	for i := range 5 {
		if n := tl.next(now); n != i+1 {
			t.Errorf("the %d. is counted as %d", i+1, n)
		}
	}
	if n := tl.next(now.Add(time.Second)); n != 1 {
		t.Errorf("the first of the next second is counted as %d", n)
	}
}
