// Package explain tells why credentials pass or not, step by step.
//
// It makes no checks of its own: it asks those whom the gate asks, and writes down what
// they look at.
package explain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// An Explainer asks whom the gate asks.
type Explainer struct {
	Reader *resolver.Reader

	// Questions calls back with each question that the credentials make.
	Questions func(resolver.Credentials, func(resolver.Credentials))

	// Local judges JWTs, and Authgear is asked about the rest; one of them may be nil.
	Local, Authgear resolver.Resolver

	// Confirmed returns who tells who is asking on the routes of a rule, as the gate
	// is told, but never before Authgear confirmed it. If it returns an error, nobody
	// passes there.
	Confirmed func(policy.Rule) (resolver.Resolver, error)
}

// A Report says what was found. It holds no credential.
type Report struct {
	Steps   []resolver.Step `json:"steps"`
	Verdict string          `json:"verdict"` // allow, challenge, forbid, unavailable or misconfigured
	Status  int             `json:"status"`  // of the answer to a proxy
	Reason  resolver.Reason `json:"reason"`
	Next    string          `json:"next"` // what to do now
}

// Explain tells what a request with such fields is answered on a route with the policy,
// and why.
func (x *Explainer) Explain(ctx context.Context, f Fields, query string) Report {
	trace := &resolver.Trace{Explain: true}
	rule, who, err := x.route(query)
	if err != nil {
		trace.Note("policy", &resolver.InvalidError{Reason: resolver.BadPolicy, Detail: err.Error()}, fmt.Sprintf("%.200q", query))
		return report(trace, policy.Verdict{Reason: resolver.BadPolicy})
	}
	creds := x.Reader.Read(nil, f.authorization, f.cookie)
	noteCredentials(trace, creds)

	var looked resolver.Trace
	asked := creds
	asked.Trace = &looked
	begin := time.Now()
	session, err := who.Resolve(ctx, asked)
	verdict := rule.Decide(session, err, begin)
	if !creds.None() {
		noteLookup(trace, looked.Lookup, session)
	}
	x.Questions(creds, func(q resolver.Credentials) {
		q.Trace = trace
		x.question(ctx, q)
	})
	if err == nil {
		noteRule(trace, query, session, verdict)
	}
	return report(trace, verdict)
}

func (x *Explainer) route(query string) (policy.Rule, resolver.Resolver, error) {
	rule, err := policy.Parse(query)
	if err != nil {
		return rule, nil, err
	}
	who, err := x.Confirmed(rule)
	return rule, who, err
}

func noteCredentials(t *resolver.Trace, c resolver.Credentials) {
	var found []string
	for _, one := range c.List {
		found = append(found, fmt.Sprintf("%s (%d bytes)", place(one), len(one.Value)))
	}
	var err error
	switch {
	case c.Malformed:
		err = &resolver.InvalidError{Reason: resolver.MalformedCredential, Detail: "the Authorization field: is it there once, with one Bearer token?"}
	case c.None():
		err = &resolver.InvalidError{Reason: resolver.NoCredential, Detail: "neither a Bearer token nor a cookie of Authgear: see AUTHGEAR_COOKIE_PREFIX and AUTHGEAR_ACCESS_TOKEN_COOKIES"}
	}
	if len(found) == 0 {
		found = []string{"none"}
	}
	t.Note("credentials", err, strings.Join(found, ", then "))
}

func place(c resolver.Credential) string {
	what := "an opaque token"
	if c.IsJWT() {
		what = "a JWT"
	}
	switch c.Slot {
	case resolver.Bearer:
		return what + " in Authorization"
	case resolver.AppSession:
		return "the cookie app_session"
	case resolver.AppAccessToken:
		return what + " in a cookie"
	}
	return "the cookie session"
}

// noteLookup tells what was remembered before anybody was asked.
func noteLookup(t *resolver.Trace, l resolver.Lookup, s *resolver.Session) {
	text := map[resolver.Lookup]string{
		resolver.Hit:      "the session",
		resolver.Negative: "that the credential is worthless, for two seconds",
		resolver.Refresh:  "the session, but it had to be confirmed anew",
		resolver.Miss:     "nothing",
	}[l]
	if l == resolver.Hit && s != nil && !s.Confirmed.IsZero() {
		text += fmt.Sprintf(", confirmed by Authgear %s ago", resolver.Age(s.Confirmed, time.Now()).Round(time.Millisecond))
	}
	if text != "" {
		t.Steps = append(t.Steps, resolver.Step{Name: "remembered", Result: resolver.Noted, Detail: text})
	}
}

// question has the credentials of one question checked anew.
func (x *Explainer) question(ctx context.Context, q resolver.Credentials) {
	note := func(text string) {
		q.Trace.Steps = append(q.Trace.Steps, resolver.Step{Name: "Authgear", Result: resolver.Noted, Detail: text})
	}
	if x.Local != nil {
		switch s, err := x.Local.Resolve(ctx, q); {
		case errors.Is(err, resolver.ErrNotMine) && x.Authgear == nil:
			q.Trace.Note("form", &resolver.InvalidError{Reason: resolver.UnknownToken, Detail: "with AUTHGEAR_MODE=jwt nothing else passes"}, "no JWT")
			return
		case errors.Is(err, resolver.ErrNotMine):
		case err != nil:
			note("not asked: the token is no good before that")
			return
		case s.Machine:
			note("not asked: it keeps no session of a machine")
			return
		}
	}
	if x.Authgear == nil {
		note("not asked: AUTHGEAR_MODE is jwt")
		return
	}
	begin := time.Now()
	s, err := x.Authgear.Resolve(ctx, q)
	q.Trace.Note("Authgear", err, fmt.Sprintf("answered after %s%s", time.Since(begin).Round(100*time.Microsecond), known(s)))
}

// known tells what Authgear says of a session.
func known(s *resolver.Session) string {
	if s == nil {
		return ""
	}
	text := fmt.Sprintf(": user %s, anonymous %s, verified %s, roles %q", s.UserID, s.Anonymous, s.Verified, s.Roles)
	if s.AuthenticatedAt != 0 {
		text += ", signed in " + time.Since(time.Unix(s.AuthenticatedAt, 0)).Round(time.Second).String() + " ago"
	}
	return text
}

// noteRule tells how the session fares with the policy.
func noteRule(t *resolver.Trace, query string, s *resolver.Session, v policy.Verdict) {
	if query == "" {
		query = "a signed-in user"
	}
	var err error
	if v.Outcome != policy.Allow {
		err = &resolver.InvalidError{Reason: v.Reason, Detail: lacking(v.Reason, s)}
	}
	t.Note("policy", err, query)
}

// lacking tells what the session has in the place of what the policy asks for.
func lacking(reason resolver.Reason, s *resolver.Session) string {
	switch reason {
	case resolver.MissingRole:
		return fmt.Sprintf("the user's roles are %q", s.Roles)
	case resolver.MissingScope:
		return fmt.Sprintf("the token's scope is %q; only a JWT has one", s.Scope)
	case resolver.WrongClient:
		return fmt.Sprintf("the token's client is %q; only a JWT has one", s.ClientID)
	case resolver.SignInTooOld:
		if s.AuthenticatedAt == 0 {
			return "nobody told when the user signed in"
		}
		return "the user signed in " + time.Since(time.Unix(s.AuthenticatedAt, 0)).Round(time.Second).String() + " ago"
	}
	return ""
}

func report(t *resolver.Trace, v policy.Verdict) Report {
	return Report{Steps: t.Steps, Verdict: v.Outcome.String(), Status: forwardauth.Status(v.Outcome), Reason: v.Reason, Next: next[v.Reason]}
}
