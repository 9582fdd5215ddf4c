package forwardauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// Decisions are those that are logged.
type Decisions string

const (
	Denied Decisions = "denied" // and those that failed
	All    Decisions = "all"
	None   Decisions = "none"
)

// log writes one event for a decision. It is the only place that does.
func (g *Gate) log(log *zerolog.Logger, ctx *fasthttp.RequestCtx, d Dialect, v policy.Verdict, c resolver.Credentials, s *resolver.Session, err error, begin time.Time) {
	if g.Decided == None || g.Decided == Denied && v.Outcome == policy.Allow {
		return
	}
	if g.Decided == Denied {
		switch n := g.logged.next(begin); {
		case n == mostLines+1:
			log.Warn().Int("limit", mostLines).Msg("more decisions in this second than are logged; AUTHGEAR_LOG_DECISIONS=all logs each")
			return
		case n > mostLines:
			return
		}
	}
	e := log.Info()
	if v.Outcome == policy.Unavailable || v.Outcome == policy.Misconfigured {
		e = log.Error()
	}
	if !e.Enabled() {
		return
	}
	e.Stringer("verdict", v.Outcome).Str("reason", string(v.Reason))
	if _, trusted := g.Trusted.peer(ctx); trusted {
		o := d.Original(&ctx.Request.Header)
		e.Str("method", o.Method).Str("host", o.Host).Str("path", o.Path)
	} else {
		e.Str("untrusted_peer", ctx.RemoteAddr().String()) // is it missing in AUTHGEAR_TRUSTED_PROXIES?
	}
	if len(c.List) > 0 {
		e.Str("credential", pseudonym(c.Key()))
	}
	if s != nil && s.UserID != "" {
		e.Str("user", s.UserID)
	}
	e.Dur("duration", time.Since(begin)).Err(err).Msg("decided")
}

// mostLines is how many denials and failures are logged in a second. A flood of
// them would cost more in the log than in their answers.
const mostLines = 50

// A tally counts what happens in a second.
type tally struct{ state atomic.Uint64 } // the second, and behind it the count

// next returns how many there have been in this second.
func (t *tally) next(now time.Time) int {
	const bits = 24
	second := uint64(now.Unix()) & (1<<(64-bits) - 1)
	for {
		old, count := t.state.Load(), uint64(1)
		if old>>bits == second {
			count = min(old&(1<<bits-1)+1, 1<<bits-1)
		}
		if t.state.CompareAndSwap(old, second<<bits|count) {
			return int(count)
		}
	}
}

// secret makes what stands in logs for a credential useless outside of them.
var secret = rand.Text()

// pseudonym is a short name for a credential, by which one caller can be
// followed while this process lives.
func pseudonym(k resolver.Key) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(k[:])
	return hex.EncodeToString(mac.Sum(nil)[:6])
}
