package forwardauth

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// letReuse tells nginx until when it may itself reuse a 200: X-Accel-Expires, by
// nginx's own clock, which it told in X-Original-Time. So no difference between two
// clocks prolongs anything. If it did not tell, it reuses nothing.
func (g *Gate) letReuse(ctx *fasthttp.RequestCtx, rule *policy.Rule, s *resolver.Session, now time.Time) {
	asked, err := strconv.ParseFloat(alias(ctx.Request.Header.Peek("X-Original-Time")), 64)
	if _, trusted := g.Trusted.peer(ctx); err != nil || !trusted || !(asked >= 0 && asked < 1e12) {
		return
	}
	// nginx counts in whole seconds and reuses to the end of the one that is named.
	last := int64(asked+min(g.ProxyCache, g.reusable(rule, s, now)).Seconds()) - 1
	if last >= int64(asked) {
		ctx.Response.Header.Set("X-Accel-Expires", "@"+strconv.FormatInt(last, 10))
	}
}

// reusable returns for how long yet a 200 would be right, whatever happens meanwhile
// being known only at its end.
func (g *Gate) reusable(rule *policy.Rule, s *resolver.Session, now time.Time) time.Duration {
	left := g.ProxyCache
	if g.MaxStaleness > 0 && !s.Machine { // Authgear confirms no machine
		bound := g.MaxStaleness
		if rule.MaxStaleness > 0 {
			bound = min(bound, rule.MaxStaleness)
		}
		left = min(left, bound-resolver.Age(s.Confirmed, now)) // unconfirmed, it is as old as can be
	}
	if s.Expiry != 0 {
		left = min(left, s.Expiry.Time().Sub(now))
	}
	if rule.SignedInWithin > 0 {
		left = min(left, rule.SignedInWithin-now.Sub(time.Unix(s.AuthenticatedAt, 0)))
	}
	return left
}
