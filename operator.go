package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/admin"
	"authgear-forward-auth/internal/explain"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// operator is the operator's view of the service, which stops when ctx ends.
func (s *service) operator(ctx context.Context) *admin.Service {
	keysFetched, away := s.keys.Fetched, s.authgear.Away
	if s.set.Mode == resolverOnly {
		keysFetched = nil
	}
	if s.set.Mode == jwtOnly {
		away = nil
	}
	s.metrics.Watch(s.sessions, keysFetched, away)
	if s.fleet != nil {
		s.metrics.WatchFleet(s.fleet)
	}
	return &admin.Service{
		About: admin.About{
			Version: version, Endpoint: s.set.Endpoint.String(), Mode: string(s.set.Mode),
			MaxStaleness: s.set.confirms().Seconds(), Started: time.Now().UTC().Truncate(time.Second),
		},
		Missing: func() []string { return s.lacks(ctx) },
		Remarks: s.remarks,
		Metrics: s.metrics.Handler(),
		Explain: s.explainer().Explain,
		KeyIDs: func() []string {
			kids, _ := s.keys.IDs()
			return kids
		},
		Denials: s.gate.Recent,
	}
}

// lacks returns what keeps the service from answering, in words.
func (s *service) lacks(ctx context.Context) []string {
	if ctx.Err() != nil {
		return []string{"stopping"}
	}
	if s.set.Mode != resolverOnly && s.keys.Fetched().IsZero() {
		return []string{"no keys yet from " + s.set.Endpoint.String() + ": is it reachable from here?"}
	}
	return nil
}

// remarks returns what should be looked at though the service can answer.
func (s *service) remarks() []string {
	list := s.sessions.Troubles()
	if s.fleet != nil {
		list = append(list, s.fleet.Troubles()...)
	}
	return list
}

// close ends what runs behind, the questions first.
func (s *service) close() {
	s.sessions.Close()
	s.fleet.Close()
}

// explainer asks whom the gate asks.
func (s *service) explainer() *explain.Explainer {
	x := &explain.Explainer{
		Reader:    s.gate.Reader,
		InTurn:    func(r policy.Rule, next resolver.Resolver) resolver.Resolver { return s.sessions.inTurn(r, next) },
		Confirmed: s.sessions.confirmed,
	}
	if s.set.Mode != resolverOnly {
		x.Local = s.jwt
	}
	if s.set.Mode != jwtOnly {
		x.Authgear = s.authgear.Strangers()
	}
	if s.fleet != nil {
		x.Fleet = s.shared
	}
	return x
}

// shared tells what the replicas know of credentials.
func (s *service) shared(ctx context.Context, c resolver.Credentials) string {
	if troubles := s.fleet.Troubles(); len(troubles) > 0 {
		return "not asked: " + troubles[0]
	}
	session, err := s.fleet.Known().Resolve(ctx, c)
	switch {
	case errors.Is(err, resolver.ErrInvalid):
		return "a replica was told by Authgear that the token is no good"
	case errors.Is(err, resolver.ErrNotMine):
		return "nothing is shared of it"
	case err != nil:
		return "nobody could tell: " + err.Error()
	}
	return fmt.Sprintf("a session, confirmed by Authgear %s ago", resolver.Age(session.Confirmed, time.Now()).Round(time.Millisecond))
}

// fetched returns what counts the fetches of keys and logs those that failed.
func (s *service) fetched() func(error) {
	failed := warn(s.log, "no fresh keys")
	return func(err error) {
		s.metrics.KeysFetched(err)
		if err != nil {
			failed(err)
		}
	}
}

// received returns what counts and logs the events that came, and those that are none.
func (s *service) received() func(kind, outcome string) {
	log := s.log.Sample(&zerolog.BurstSampler{Burst: 20, Period: 10 * time.Second})
	return func(kind, outcome string) {
		s.metrics.Event(kind, outcome)
		log.Info().Str("type", kind).Str("outcome", outcome).Msg("event")
	}
}
