// Package policy decides who may pass. It does no I/O and knows no clock.
package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"authgear-forward-auth/resolver"
)

// A Rule is the policy of a route, written by the operator in the query of the
// auth path. The zero Rule passes every signed-in user.
type Rule struct {
	Optional       bool          // also a visitor
	Machine        bool          // also a machine-to-machine token
	Verified       bool          // verified users alone
	DenyAnonymous  bool          // no Authgear anonymous users
	SignedInWithin time.Duration // users who authenticated that recently; 0 is any time
	MaxStaleness   time.Duration // sessions that Authgear confirmed that recently; 0 is as the service promises anyway
	Preflight      bool          // also a CORS preflight, as a visitor
	Roles          []string      // at least one of them
	ClientIDs      []string      // tokens of one of them
	Scopes         []string      // every one of them
	SignIn         string        // the path where a browser is sent instead of being challenged; empty is nowhere
}

// What a policy may take: whoever reaches the port may make one up, and an operator
// writes no such one.
const (
	maxLength   = 4096 // bytes
	maxProblems = 8    // are told
)

// Parse reads a Rule. A parameter that is unknown, malformed or has no effect is
// an error: a policy with a slip in it must let nobody in.
func Parse(query string) (Rule, error) {
	var r Rule
	if query == "" {
		return r, nil
	}
	if len(query) > maxLength {
		return r, fmt.Errorf("a policy of more than %d bytes", maxLength)
	}
	var problems []error
	for param := range strings.SplitSeq(query, "&") {
		if err := r.set(param); err != nil && len(problems) < maxProblems {
			problems = append(problems, err)
		}
	}
	if r.Optional && r.SignIn != "" {
		problems = append(problems, errors.New("policy parameter sign_in has no effect beside optional, which challenges nobody"))
	}
	return r, errors.Join(problems...)
}

func (r *Rule) set(param string) error {
	name, text, hasValue := strings.Cut(param, "=")
	value, err := url.QueryUnescape(text)
	if err != nil {
		return fmt.Errorf("policy parameter %s: %w", name, err)
	}
	flags := map[string]*bool{"optional": &r.Optional, "machine": &r.Machine, "verified": &r.Verified, "deny_anonymous": &r.DenyAnonymous, "preflight": &r.Preflight}
	lists := map[string]*[]string{"role": &r.Roles, "client_id": &r.ClientIDs, "scope": &r.Scopes}
	switch {
	case flags[name] != nil:
		if hasValue {
			return fmt.Errorf("policy parameter %s takes no value", name)
		}
		*flags[name] = true
	case lists[name] != nil:
		if !isName(value) {
			return fmt.Errorf("policy parameter %s takes one value of visible ASCII characters; for several, give it several times", name)
		}
		*lists[name] = append(*lists[name], value)
	case name == "signed_in_within":
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Second || r.SignedInWithin != 0 {
			return errors.New("policy parameter signed_in_within takes one duration of 1s or more, such as 10m")
		}
		r.SignedInWithin = d
	case name == "max_staleness":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 || r.MaxStaleness != 0 {
			return errors.New("policy parameter max_staleness takes one duration, such as 5s, or 0s for a confirmation of each request")
		}
		r.MaxStaleness = max(d, time.Nanosecond) // a confirmation is asked for later than the request came
	case name == "sign_in":
		if !isPath(value) || r.SignIn != "" {
			return errors.New("policy parameter sign_in takes one path of the application, such as /login")
		}
		r.SignIn = value
	default:
		return fmt.Errorf("policy parameter %q is unknown", name)
	}
	return nil
}

// isName tells whether a role, client or scope may have that name: one that could not be
// told in a field is in no session, so nobody would pass.
func isName(text string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f || c == ',' {
			return false
		}
	}
	return text != ""
}

// isPath tells whether a text is a path that stands in a URL as it is, and that
// leads to no other host.
func isPath(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.HasPrefix(text, "/") && u.Path == text && u.EscapedPath() == text
}

// An Outcome is what becomes of a request. The zero Outcome lets nobody in.
type Outcome uint8

const (
	Misconfigured Outcome = iota // the policy cannot be read
	Allow
	Challenge   // who is it? Sign in first
	Forbid      // it is known who, and that is not enough
	Unavailable // nobody could find out
)

func (o Outcome) String() string {
	return [...]string{"misconfigured", "allow", "challenge", "forbid", "unavailable"}[o]
}

// A Verdict is an outcome and its reason.
type Verdict struct {
	Outcome Outcome
	Reason  resolver.Reason
}

// Decide judges what a resolver found out. The session is looked at only if err
// is nil; the zero session is a visitor.
func (r *Rule) Decide(s *resolver.Session, err error, now time.Time) Verdict {
	if err != nil {
		return r.without(err)
	}
	switch {
	case s.Machine && !r.Machine:
		return r.unlessOptional(resolver.MachineToken)
	case !s.Machine && s.UserID == "":
		if r.Optional {
			return Verdict{Allow, resolver.Visitor}
		}
		return Verdict{Challenge, resolver.NoCredential}
	}
	if lack := r.lacks(s, now); lack != "" {
		return Verdict{Forbid, lack}
	}
	return Verdict{Allow, resolver.OK}
}

// without judges where no session was found.
func (r *Rule) without(err error) Verdict {
	if inv, ok := errors.AsType[*resolver.InvalidError](err); ok {
		return r.unlessOptional(inv.Reason)
	}
	if out, ok := errors.AsType[*resolver.UnavailableError](err); ok {
		return Verdict{Unavailable, out.Reason}
	}
	return Verdict{Unavailable, resolver.ResolverUnavailable}
}

// unlessOptional passes a bad credential as a visitor's where a visitor may pass.
func (r *Rule) unlessOptional(reason resolver.Reason) Verdict {
	if r.Optional {
		return Verdict{Allow, reason}
	}
	return Verdict{Challenge, reason}
}

// lacks returns what the session lacks to pass, or nothing. What is unknown of a
// session is taken as lacking.
func (r *Rule) lacks(s *resolver.Session, now time.Time) resolver.Reason {
	switch {
	case len(r.ClientIDs) > 0 && !slices.Contains(r.ClientIDs, s.ClientID):
		return resolver.WrongClient
	case !hasAll(s.Scope, r.Scopes):
		return resolver.MissingScope
	case len(r.Roles) > 0 && !hasAny(s.Roles, r.Roles):
		return resolver.MissingRole
	case r.Verified && s.Verified != resolver.True:
		return resolver.NotVerified
	case r.DenyAnonymous && !s.Machine && s.Anonymous != resolver.False:
		return resolver.AnonymousUser
	case r.SignedInWithin > 0 && !isRecent(s.AuthenticatedAt, r.SignedInWithin, now):
		return resolver.SignInTooOld
	}
	return ""
}

// maxAhead is how far Authgear's clock may be ahead of ours.
const maxAhead = 5 * time.Minute

// isRecent tells whether a sign-in at that time, in Unix seconds, was so lately. One in
// the future is a slip, for instance milliseconds, and would stay recent for ever.
func isRecent(at int64, within time.Duration, now time.Time) bool {
	ago := now.Sub(time.Unix(at, 0))
	return at > 0 && -maxAhead <= ago && ago <= within
}

func hasAny(list string, wanted []string) bool {
	for have := range strings.SplitSeq(list, ",") {
		if slices.Contains(wanted, have) {
			return true
		}
	}
	return false
}

func hasAll(list string, wanted []string) bool {
	for _, want := range wanted {
		found := false
		for have := range strings.SplitSeq(list, " ") {
			found = found || have == want
		}
		if !found {
			return false
		}
	}
	return true
}
