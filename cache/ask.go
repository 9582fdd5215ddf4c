package cache

import (
	"errors"
	"time"

	"authgear-forward-auth/resolver"
)

// askLocal finds out what can be known without Authgear. It is final if Authgear
// need not, or cannot, be asked.
func (c *Cache) askLocal(f *flight, key resolver.Key, creds resolver.Credentials) (a *answer, final bool) {
	if c.o.Local == nil {
		return nil, false
	}
	creds.Known = f.entry.hasSession()
	s, err := c.o.Local.Resolve(&f.until, creds)
	switch {
	case errors.Is(err, resolver.ErrNotMine) && c.o.Authgear != nil:
		return nil, false
	case err != nil:
		return newAnswer(f.asked, nil, err), true
	case s.Machine && c.o.Authgear != nil: // Authgear keeps no session of a machine
		return newAnswer(f.asked, s, nil), true
	}
	f.signed = s
	if c.o.Authgear != nil {
		return nil, false
	}
	if c.marks.ended(key, s) {
		return newAnswer(f.asked, nil, errEnded), true
	}
	return newAnswer(f.asked, s, nil), true
}

// askOthers finds out what other replicas know: an answer that will do, or that a JWT must
// not be believed before Authgear is asked.
func (c *Cache) askOthers(f *flight, creds resolver.Credentials) (a *answer, refused bool) {
	s, err := c.o.Others.Known.Resolve(&f.until, creds)
	if err != nil {
		return nil, errors.Is(err, resolver.ErrInvalid)
	}
	if f.signed != nil {
		c.doubt.confirmed()
		s = merge(f.signed, s)
	}
	return newAnswer(f.askedFor(s), s, nil), false
}

var (
	errEnded   = &resolver.InvalidError{Reason: resolver.Revoked, Detail: "signed out, or Authgear told that the user may not sign in"}
	errExpired = &resolver.InvalidError{Reason: resolver.Expired}
	errGone    = &resolver.InvalidError{Reason: resolver.Revoked, Detail: "Authgear does not know the session any more: it was signed out or revoked"}
)

// confirm asks Authgear.
func (c *Cache) confirm(f *flight, key resolver.Key, creds resolver.Credentials) (*resolver.Session, error) {
	signed, known := f.signed, f.entry.hasSession()
	ask := c.o.Strangers
	if known || signed != nil {
		ask = c.o.Authgear
	}
	s, err := ask.Resolve(&f.until, creds)
	f.answered.Store(true)
	if isAbsent(err) && (known || signed != nil && c.marks.allowSigned(key, signed)) {
		// While its database fails, Authgear may say so of a good session. It is
		// no sign-out before it is said twice. Contract §1.6.
		creds.NotBefore = time.Now()
		s, err = ask.Resolve(&f.until, creds)
	}
	switch {
	case err == nil && signed != nil:
		c.doubt.confirmed()
		s = merge(signed, s)
	case isAbsent(err) && signed != nil && !time.Now().Before(signed.Expiry.Time()):
		err = errExpired // for Authgear, which allows no leeway; contract §3.3
	case isAbsent(err) && signed != nil && c.doubt.absent():
		err = errKnowsNoJWT
	case isAbsent(err) && signed != nil:
		err = errGone
	}
	if reason := outOf(err); reason != resolver.Overloaded && !errors.Is(err, resolver.ErrNotAsked) {
		c.away.Store(reason != "") // where each question is refused, too, new JWTs wait for one that is answered
	}
	return s, err
}

// merge returns what Authgear says now of the session, with what only the token
// tells. Authgear never tells the amr. Contract §1.4.
func merge(signed, s *resolver.Session) *resolver.Session {
	m := *s
	m.AMR, m.ClientID, m.Scope = signed.AMR, signed.ClientID, signed.Scope
	m.IssuedAt, m.Expiry = signed.IssuedAt, signed.Expiry
	return &m
}

func isAbsent(err error) bool {
	inv, ok := errors.AsType[*resolver.InvalidError](err)
	return ok && inv.Reason == resolver.UnknownToken
}

// outOf returns why nothing was found out; nothing if something was.
func outOf(err error) resolver.Reason {
	if out, ok := errors.AsType[*resolver.UnavailableError](err); ok {
		return out.Reason
	}
	return ""
}

// isAway tells whether Authgear cannot be reached, as far as that does not depend on who is
// asked about.
func isAway(err error) bool {
	return outOf(err) == resolver.ResolverUnavailable && !errors.Is(err, resolver.ErrRefused)
}
