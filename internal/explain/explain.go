// Package explain tells why credentials pass or not, step by step.
//
// It makes no checks of its own: it asks those whom the gate asks, and writes down what
// they look at.
package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// An Explainer asks whom the gate asks.
type Explainer struct {
	Reader *resolver.Reader

	// Local judges JWTs, and Authgear is asked about the rest; one of them may be nil.
	Local, Authgear resolver.Resolver

	// Fleet tells, in words, what the replicas know of one question's credentials. Nil:
	// this one is alone.
	Fleet func(context.Context, resolver.Credentials) string

	// InTurn returns who puts the credentials of a request to next, on the routes of a
	// rule, in the order of the gate and until one is any good.
	InTurn func(r policy.Rule, next resolver.Resolver) resolver.Resolver

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

	var looked, shared resolver.Trace
	asked := creds
	if x.Fleet != nil && !creds.None() { // first: what is asked below is shared
		asked.Trace = &shared
		x.InTurn(rule, replicas{x}).Resolve(ctx, asked)
	}
	asked.Trace = &looked
	begin := time.Now()
	session, err := who.Resolve(ctx, asked)
	verdict := rule.Decide(session, err, begin)
	if !creds.None() {
		noteLookup(trace, looked.Lookup, session)
	}
	trace.Steps = append(trace.Steps, shared.Steps...)
	asked.Trace = trace
	x.InTurn(rule, checks{x, len(creds.List)}).Resolve(ctx, asked)
	noteConclusion(trace, err)
	if err == nil || verdict.Outcome == policy.Allow || verdict.Reason == resolver.MachineToken {
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
	err := c.Malformed
	if c.None() {
		err = &resolver.InvalidError{Reason: resolver.NoCredential, Detail: "neither a Bearer token nor a cookie of Authgear: see AUTHGEAR_COOKIE_PREFIX and AUTHGEAR_ACCESS_TOKEN_COOKIES"}
	}
	t.Note("credentials", err, places(c.List))
}

// places tells where credentials were found, in the order in which they are tried.
func places(list []resolver.Credential) string {
	var found []string
	for _, one := range list {
		found = append(found, fmt.Sprintf("%s (%d bytes)", place(one), len(one.Value)))
	}
	if len(found) == 0 {
		return "none that can be read"
	}
	return strings.Join(found, ", then ")
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
		t.Remark("remembered", text)
	}
}

// replicas notes what they know of the credentials of each question.
type replicas struct{ *Explainer }

func (x replicas) Resolve(ctx context.Context, q resolver.Credentials) (*resolver.Session, error) {
	q.Trace.Remark("fleet", x.Fleet(ctx, q))
	return nil, resolver.ErrInvalid // and so to the next
}

// checks checks the credentials of one question anew, and notes each step.
type checks struct {
	*Explainer
	all int // credentials of the request
}

func (x checks) Resolve(ctx context.Context, q resolver.Credentials) (*resolver.Session, error) {
	if len(q.List) < x.all {
		q.Trace.Remark("tried", places(q.List))
	}
	if x.Local != nil {
		switch s, err := x.Local.Resolve(ctx, q); {
		case errors.Is(err, resolver.ErrNotMine) && x.Authgear == nil:
			q.Trace.Note("form", &resolver.InvalidError{Reason: resolver.UnknownToken, Detail: "with AUTHGEAR_MODE=jwt nothing else passes"}, "no JWT")
			return nil, err
		case errors.Is(err, resolver.ErrNotMine):
		case err != nil:
			q.Trace.Remark("Authgear", "not asked: the token is no good before that")
			return nil, err
		case s.Machine:
			q.Trace.Remark("Authgear", "not asked: it keeps no session of a machine")
			return s, nil
		case x.Authgear == nil:
			q.Trace.Remark("Authgear", "not asked: AUTHGEAR_MODE is jwt")
			return s, nil
		}
	}
	begin := time.Now()
	s, err := x.Authgear.Resolve(ctx, q)
	q.Trace.Note("Authgear", err, fmt.Sprintf("after %s%s", time.Since(begin).Round(100*time.Microsecond), known(s)))
	return s, err
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

// noteConclusion tells what the service makes of the answers, where that is something
// else: a JWT that Authgear does not know is one whose session has ended.
func noteConclusion(t *resolver.Trace, err error) {
	if err == nil || errors.Is(err, resolver.ErrInvalid) && resolver.ReasonOf(err) == resolver.MachineToken {
		return
	}
	said := func(s resolver.Step) bool { return s.Result == resolver.Failed && s.Reason == resolver.ReasonOf(err) }
	if !slices.ContainsFunc(t.Steps, said) {
		t.Note("conclusion", err, "so")
	}
}

// noteRule tells how the session fares with the policy.
func noteRule(t *resolver.Trace, query string, s *resolver.Session, v policy.Verdict) {
	if query == "" {
		query = "a signed-in user"
	}
	var err error
	switch {
	case v.Outcome == policy.Allow && v.Reason != resolver.OK:
		query += ": as a visitor"
	case v.Outcome != policy.Allow:
		err = &resolver.InvalidError{Reason: v.Reason, Detail: lacking(v.Reason, s)}
	}
	t.Note("policy", err, query)
}

// lacking tells what the session has in the place of what the policy asks for.
func lacking(reason resolver.Reason, s *resolver.Session) string {
	switch reason {
	case resolver.MachineToken:
		return "it is a machine's token"
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
