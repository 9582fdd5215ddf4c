// Package resolver tells who is behind a request.
//
// A [Resolver] turns the credentials of a request into an Authgear session.
// [JWT] does so without leaving the process; [Remote] asks Authgear; [InTurn]
// tries the credentials of a request in Authgear's own order.
package resolver

import (
	"context"
	"errors"
	"time"
	"unique"
)

// A Resolver tells whose credentials these are. It has three outcomes:
//
//   - who: a session and no error; the session is shared and must not be changed;
//   - worthless: an error that is [ErrInvalid], in detail an [*InvalidError];
//   - could not find out: any other error, usually an [*UnavailableError].
//
// A fourth, [ErrNotMine], says that another resolver may know. A resolver is
// never asked about a visitor: without credentials there is no question.
type Resolver interface {
	Resolve(ctx context.Context, c Credentials) (*Session, error)
}

var (
	// ErrInvalid means that the credentials are expired, revoked or forged.
	ErrInvalid = errors.New("invalid credentials")

	// ErrNotMine means that a resolver cannot judge these credentials, and
	// that another one may.
	ErrNotMine = errors.New("credentials of another kind")
)

// A Session is what Authgear knows about the sender of a request. The zero
// Session is a visitor.
type Session struct {
	UserID            string // empty for a machine
	Anonymous         Fact   // an Authgear anonymous user
	Verified          Fact
	CanReauthenticate Fact
	Roles             string // comma-separated keys
	AMR               string // space-separated; Authgear's resolver never tells it
	AuthenticatedAt   int64  // Unix seconds; 0 is unknown

	ClientID string // known only from a JWT
	Scope    string // space-separated; known only from a JWT
	Machine  bool   // a client that acts for itself: its sub is client_id_…

	// IssuedAt and Expiry are the times of the token (iat, exp), known only
	// from a JWT.
	IssuedAt, Expiry UnixTime

	// Confirmed is when Authgear last vouched for the session, by the clock
	// of this process, taken before the question was sent. Zero: never; it
	// rests on a signature alone.
	Confirmed time.Time
}

// Age is the time since then. The clock that no adjustment moves stands still while
// a machine sleeps; the other one tells of that, so the longer time counts.
func Age(then, now time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// A UnixTime is in whole seconds, as tokens have it. The zero UnixTime is unknown.
type UnixTime int64

// Time returns the time in another form.
func (u UnixTime) Time() time.Time { return time.Unix(int64(u), 0) }

// A Fact is something that may be unknown. Its text is that of the X-Authgear-*
// fields.
type Fact uint8

// Unknown is the zero Fact.
const (
	Unknown Fact = iota
	False
	True
)

func (f Fact) String() string {
	switch f {
	case True:
		return "true"
	case False:
		return "false"
	}
	return ""
}

func factOf(known *bool) Fact {
	switch {
	case known == nil:
		return Unknown
	case *known:
		return True
	}
	return False
}

// shared returns s, the same memory for everybody who has the same s: what many
// sessions have in common is remembered once.
func shared(s string) string { return unique.Make(s).Value() }

// A Reason says why a decision came out as it did, in logs, metrics and
// explanations. The set is closed.
type Reason string

const (
	OK                  Reason = "ok"
	Visitor             Reason = "visitor"
	NoCredential        Reason = "no_credential"
	MalformedCredential Reason = "malformed_credential"
	UnknownToken        Reason = "unknown_token"
	Expired             Reason = "expired"
	NotYetValid         Reason = "not_yet_valid"
	BadSignature        Reason = "bad_signature"
	UnknownKey          Reason = "unknown_key"
	WrongAlgorithm      Reason = "wrong_algorithm"
	WrongType           Reason = "wrong_type"
	WrongIssuer         Reason = "wrong_issuer"
	WrongAudience       Reason = "wrong_audience"
	WrongClient         Reason = "wrong_client"
	SessionInvalid      Reason = "session_invalid"
	Revoked             Reason = "revoked"
	MachineToken        Reason = "machine_token"
	MissingRole         Reason = "missing_role"
	MissingScope        Reason = "missing_scope"
	NotVerified         Reason = "not_verified"
	AnonymousUser       Reason = "anonymous_user"
	SignInTooOld        Reason = "sign_in_too_old"
	BadPolicy           Reason = "bad_policy"
	ResolverUnavailable Reason = "resolver_unavailable"
	KeysUnavailable     Reason = "keys_unavailable"
	Overloaded          Reason = "overloaded"
)

// Reasons are all of them.
var Reasons = []Reason{
	OK, Visitor, NoCredential, MalformedCredential, UnknownToken, Expired, NotYetValid, BadSignature,
	UnknownKey, WrongAlgorithm, WrongType, WrongIssuer, WrongAudience, WrongClient, SessionInvalid,
	Revoked, MachineToken, MissingRole, MissingScope, NotVerified, AnonymousUser, SignInTooOld,
	BadPolicy, ResolverUnavailable, KeysUnavailable, Overloaded,
}

// An InvalidError says why credentials are worthless. It is [ErrInvalid].
type InvalidError struct {
	Reason Reason
	Detail string // for the operator; never holds a credential or a claim's value

	// ClearCookie is the Set-Cookie line by which Authgear takes a dead
	// session cookie from the browser; empty if it sent none.
	ClearCookie string
}

func (e *InvalidError) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// Is makes every InvalidError an [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(reason Reason, detail string) error {
	return &InvalidError{Reason: reason, Detail: detail}
}

// An UnavailableError says why nothing could be found out.
type UnavailableError struct {
	Reason Reason
	Err    error // what happened, and the cure where it is known
}

func (e *UnavailableError) Error() string { return string(e.Reason) + ": " + e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }
