package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/internal/fleet"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/internal/webhook"
	"authgear-forward-auth/resolver"
)

// sessions are those that are remembered, as routes ask for them and as they
// end.
type sessions struct {
	*cache.Cache
	mode  mode
	fleet *fleet.Fleet // nil: nobody else is told
}

// remember returns what the settings mean for what is remembered and who is asked.
func (s *settings) remember(jwt resolver.Resolver, authgear *resolver.Guard, others *fleet.Fleet) cache.Options {
	o := cache.Options{
		ConfirmFirst: s.Confirm == before,
		MaxStaleness: s.MaxStaleness,
		OutageGrace:  s.OutageGrace,
		Skew:         s.ClockSkew,
		Wait:         2 * s.ResolverTimeout,
		Bytes:        int64(s.CacheBytes),
	}
	if s.Mode != resolverOnly {
		o.Local = jwt
	}
	if s.Mode != jwtOnly {
		o.Authgear, o.Strangers = authgear, authgear.Strangers()
	}
	if others != nil {
		o.Others = &cache.Others{Known: others.Known(), Refused: others.Refuse, Left: func(key resolver.Key, until time.Time) {
			others.Tell(fleet.Event{Key: key, Until: until})
		}}
		if o.Authgear != nil {
			o.Authgear, o.Strangers = others.Asking(o.Authgear), others.Asking(o.Strangers)
		}
	}
	return o
}

// joinFleet returns this replica's part of a fleet; nil if it is alone.
func (s *settings) joinFleet(warn func(error), count func(operation, outcome string)) (*fleet.Fleet, error) {
	if s.RedisURL == "" {
		return nil, nil
	}
	resolver.ShareKeys(fleet.KeySecret(string(s.FleetSecret), s.Endpoint.String()))
	f, err := fleet.New(fleet.Options{
		URL: string(s.RedisURL), Secret: string(s.FleetSecret), Issuer: s.Endpoint.String(),
		Lifetime: s.MaxStaleness + s.OutageGrace,
		Reach:    cache.Reach(s.MaxStaleness+s.OutageGrace, s.Mode != jwtOnly),
		Question: s.ResolverTimeout, Skew: s.ClockSkew,
		Warn: warn, Count: count,
	})
	if err != nil {
		return nil, fmt.Errorf("AUTHGEAR_REDIS_URL: %w", err)
	}
	return f, nil
}

// allows reports a rule that nobody could ever pass in this mode.
func (m mode) allows(rule policy.Rule) error {
	switch {
	case rule.MaxStaleness > 0 && m == jwtOnly:
		return errors.New("policy parameter max_staleness: with AUTHGEAR_MODE=jwt Authgear confirms nothing; use hybrid")
	case len(rule.ClientIDs) > 0 && m == resolverOnly:
		return errors.New("policy parameter client_id: with AUTHGEAR_MODE=resolver Authgear does not tell the client; use hybrid")
	case len(rule.Scopes) > 0 && m == resolverOnly:
		return errors.New("policy parameter scope: with AUTHGEAR_MODE=resolver Authgear tells no scopes; use hybrid")
	case rule.MaxStaleness > 0 && rule.Machine:
		return errors.New("policy parameters max_staleness and machine: Authgear confirms no machine's token; take one of them")
	}
	return nil
}

// confirms returns how old a confirmation may be that a 200 rests on; 0 if nobody
// confirms.
func (s *settings) confirms() time.Duration {
	if s.Mode == jwtOnly {
		return 0
	}
	return s.MaxStaleness
}

// forRule returns who tells who is asking on the routes of a rule.
func (s sessions) forRule(rule policy.Rule) (resolver.Resolver, error) {
	return s.inTurn(rule, s.Within(rule.MaxStaleness)), s.mode.allows(rule)
}

// confirmed is like forRule, but nobody is answered on a signature alone, where Authgear
// confirms at all.
func (s sessions) confirmed(rule policy.Rule) (resolver.Resolver, error) {
	return s.inTurn(rule, s.Confirmed(rule.MaxStaleness)), s.mode.allows(rule)
}

// forget makes each of the credentials go back to Authgear.
func (s sessions) forget(c resolver.Credentials) {
	s.inTurn(policy.Rule{}, nil).Each(c, func(one resolver.Credentials) { s.Forget(context.Background(), one) })
}

// inTurn puts the credentials of a request to next, as on the routes of a rule.
func (s sessions) inTurn(rule policy.Rule, next resolver.Resolver) *resolver.InTurn {
	return &resolver.InTurn{Next: next, TogetherWithJWT: s.mode == resolverOnly, Machine: rule.Machine}
}

// forgetUser does what an event of Authgear's says.
func (s sessions) forgetUser(e webhook.Event) {
	s.ForgetUser(e.User, e.At, e.Ends, time.Now())
	if s.fleet != nil {
		s.fleet.Tell(fleet.Event{User: e.User, At: e.At, Ends: e.Ends})
	}
}

// heard does what another replica was told of.
func (s sessions) heard(e fleet.Event) {
	if e.User != "" {
		s.ForgetUser(e.User, e.At, e.Ends, e.Told)
		return
	}
	s.ForgetKey(e.Key, e.Until, e.Told)
}
