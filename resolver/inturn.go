package resolver

import (
	"context"
	"errors"
	"time"
)

// InTurn tries the credentials of a request in Authgear's order: one that is no
// good does not stop the next.
//
// Authgear itself judges several credentials in one question, so they stay
// together. Only a JWT is asked about alone, and so is a credential whose slot
// in the question is taken.
type InTurn struct {
	Next Resolver

	// TogetherWithJWT leaves JWTs among the others, for a Next that asks
	// Authgear about everything.
	TogetherWithJWT bool

	// Machine lets the session of a machine count.
	Machine bool
}

// Resolve returns the session of the first credential that is any good. The
// zero Session is a visitor.
func (t *InTurn) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	if c.None() {
		return visitor, nil
	}
	worthless := c.Malformed
	for list := c.List; len(list) > 0; {
		n := t.question(list)
		c.List, list = list[:n], list[n:]
		s, err := t.Next.Resolve(ctx, c)
		if err == nil && s.Machine && !t.Machine {
			err = errMachine
		}
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrNotMine) {
			err = errUnknown
		}
		if !errors.Is(err, ErrInvalid) {
			return nil, err
		}
		worthless = worse(worthless, err)
		c.Asked = time.Time{} // that may have taken its time
		if isFinal(err) {
			break
		}
	}
	return nil, worthless
}

var (
	visitor    = &Session{}
	errMachine = invalid(MachineToken, "a machine-to-machine token: does the policy of the route say machine?")
	errUnknown = invalid(UnknownToken, "not a JWT, and in this mode nobody else is asked")
)

// Each calls f with each question that the credentials make.
func (t *InTurn) Each(c Credentials, f func(Credentials)) {
	for list := c.List; len(list) > 0; {
		n := t.question(list)
		c.List, list = list[:n], list[n:]
		f(c)
	}
}

// question returns how many of the credentials go into one question: each slot
// at most once, and JWTs alone.
func (t *InTurn) question(list []Credential) int {
	alone := func(c Credential) bool { return c.IsJWT() && !t.TogetherWithJWT }
	if alone(list[0]) {
		return 1
	}
	n := 1
	for n < len(list) && list[n].Slot > list[n-1].Slot && !alone(list[n]) {
		n++
	}
	return n
}

// worse keeps the reason of the first credential, which is the one the client
// meant, and the cookie-clearing line of whichever has one.
func worse(before, now error) error {
	if before == nil {
		return now
	}
	a, ok := errors.AsType[*InvalidError](before)
	b, both := errors.AsType[*InvalidError](now)
	if !ok || !both {
		return now
	}
	if a.ClearCookie != "" || b.ClearCookie == "" {
		return a
	}
	merged := *a
	merged.ClearCookie = b.ClearCookie
	return &merged
}

// isFinal tells whether Authgear itself would look no further: it found a
// session, but its user may not sign in. Contract §1.5.
func isFinal(err error) bool {
	inv, ok := errors.AsType[*InvalidError](err)
	return ok && inv.Reason == SessionInvalid
}
