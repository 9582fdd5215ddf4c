package cache

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"authgear-forward-auth/resolver"
)

// An entry is what is remembered of one set of credentials. A new answer takes
// the place of the old one in the entry itself, so that nothing depends on
// whether and when ristretto stores it.
type entry struct {
	key    resolver.Key
	answer atomic.Pointer[answer]
}

// hasSession tells whether a session is remembered; e may be nil.
func (e *entry) hasSession() bool { return e != nil && e.answer.Load().session != nil }

// An answer is a session, or why there is none.
type answer struct {
	session *resolver.Session
	err     error

	asked time.Time // just before the question was put

	// checked is the number of the marks that the answer was last compared
	// with.
	checked atomic.Uint64

	// next is when the session is confirmed again in the background, as time
	// since asked.
	next atomic.Int64
}

func newAnswer(asked time.Time, s *resolver.Session, err error) *answer {
	if s == nil {
		return &answer{err: err, asked: asked}
	}
	// In one piece: to find the session elsewhere would cost one more wait for memory where
	// there are many.
	both := &struct {
		answer
		own resolver.Session
	}{answer: answer{err: err, asked: asked}, own: *s}
	both.session = &both.own
	return &both.answer
}

func (a *answer) isWorthless() bool { return a.err != nil && errors.Is(a.err, resolver.ErrInvalid) }

// worthless tells whether the credentials are remembered as worthless.
func (a *answer) worthless(now time.Time) bool {
	return a.isWorthless() && a.age(now) < worthlessFor
}

// age is how long ago the question was put.
func (a *answer) age(now time.Time) time.Duration { return resolver.Age(a.asked, now) }

// expired tells whether the token has ended, with leeway for its clock.
func (a *answer) expired(now time.Time, skew time.Duration) bool {
	return a.session.Expiry != 0 && now.Sub(a.session.Expiry.Time()) >= skew
}

// due tells whether the session is to be confirmed now. It does so to one
// caller, and to another one only when that one's attempt must be over.
func (a *answer) due(now time.Time, attempt time.Duration) bool {
	age := a.age(now)
	next := time.Duration(a.next.Load())
	return age >= next && a.next.CompareAndSwap(int64(next), int64(age+attempt))
}

// A session in use is confirmed when it reaches between these parts of the
// bound: early enough for an answer before the bound, and each at its own time,
// so that sessions that began together do not stay together.
const (
	earliest = 0.6
	latest   = 0.8
)

func period(bound time.Duration) time.Duration {
	return time.Duration(float64(bound) * (earliest + (latest-earliest)*rand.Float64()))
}

// retry is how long after a failed attempt another is made.
func retry(bound time.Duration) time.Duration { return bound / 30 }

// cost is what an entry takes in memory, in bytes.
func cost(s *resolver.Session) int64 {
	if s == nil {
		return entryBytes
	}
	return int64(entryBytes + len(s.UserID) + len(s.Roles) + len(s.AMR) + len(s.ClientID) + len(s.Scope))
}
