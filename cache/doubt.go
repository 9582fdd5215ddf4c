package cache

import (
	"errors"
	"sync"
	"time"

	"authgear-forward-auth/resolver"
)

// doubt is whether Authgear's resolver can judge JWTs at all. It compares their
// aud with the scheme and host by which it is asked; if something on the way
// changes those, it calls every JWT unknown (contract §1.3). Until it has
// confirmed one, that is a wrong set-up and not a wave of sign-outs: nobody is
// answered 401 for it.
type doubt struct {
	mu   sync.Mutex
	ever bool      // it confirmed a JWT
	last time.Time // that one was unknown
}

const doubtLasts = time.Minute

// SeesAnother is the cure where the resolver sees another scheme or host than it is
// asked by.
const SeesAnother = "does it see the scheme and host of AUTHGEAR_ENDPOINT? " +
	"It needs TRUST_PROXY=true, and whatever is on the way to AUTHGEAR_RESOLVER_URL must leave Host and X-Forwarded-Proto alone"

var errKnowsNoJWT = &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New(
	"the resolver knows none of the JWTs that are valid here: " + SeesAnother)}

func (d *doubt) confirmed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ever = true
}

// absent notes that a valid JWT was unknown, and tells whether that says
// something of the set-up rather than of the session.
func (d *doubt) absent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ever {
		return false
	}
	d.last = time.Now()
	return true
}

// Troubles returns, in words with the cure, what may keep Authgear from
// confirming any JWT; nothing if it confirmed one. It may as well be that all
// those JWTs were revoked, so it is no reason to take the service out of use.
func (c *Cache) Troubles() []string {
	d := &c.doubt
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ever || d.last.IsZero() || time.Since(d.last) > doubtLasts {
		return nil
	}
	return []string{errKnowsNoJWT.Err.Error()}
}
