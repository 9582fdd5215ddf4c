package cache

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/deadline"
	"authgear-forward-auth/resolver"
)

// A flight is one question, shared by all who need its answer. It does not
// depend on any one of them.
type flight struct {
	asked time.Time        // just before it was put
	until deadline.Context // of the question
	entry *entry           // what was remembered then; may be nil

	// verified is closed when what can be known without Authgear is known: the
	// session that a JWT describes, and whether it may be returned at once, to
	// those who came before that and those who come before Authgear's first word.
	verified chan struct{}
	signed   *resolver.Session
	atOnce   bool
	answered atomic.Bool // Authgear's first word is there

	crowd chan struct{} // whom of those who joined it is next; nil: nobody did

	// done is closed when the answer is there, and filed where the entry is, if
	// it is remembered.
	done   chan struct{}
	answer *answer
	filed  *entry
}

type flights struct {
	mu     sync.Mutex
	byKey  map[resolver.Key]*flight
	all    sync.WaitGroup
	closed bool
}

// close waits until all have landed; none begins any more.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.all.Wait()
}

// refresh asks again behind a caller who has an answer.
func (c *Cache) refresh(key resolver.Key, creds resolver.Credentials, known *answer) {
	creds.NotBefore = later(known.asked.Add(1), time.Now().Add(-time.Duration(earliest*float64(c.o.MaxStaleness))))
	creds.Unhurried = true
	if f, _, mine := c.begin(key, known, nil); mine {
		go func() {
			if c.fly(f, key, creds) {
				c.ask(f, key, creds)
			}
		}()
	}
}

// begin returns the flight for the key; a new one if there is none but the one that
// did not serve, which is the caller's to fly then. known is the answer that did not
// serve either: if there is a later one by now, no question is needed. early tells
// whether it is not verified yet.
func (c *Cache) begin(key resolver.Key, known *answer, useless *flight) (_ *flight, early, mine bool) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	if f := c.flights.byKey[key]; f != nil && f != useless {
		if f.crowd == nil {
			f.crowd = make(chan struct{}, 1)
			f.crowd <- struct{}{}
		}
		select {
		case <-f.verified:
			return f, false, false
		default:
			return f, true, false
		}
	}
	e := find(c.sessions, key)
	if e == nil && useless != nil {
		e = useless.filed // ristretto may not have it yet
	}
	if e != nil {
		if a := e.answer.Load(); a != known && (a.session != nil || a.isWorthless()) {
			return landed(a), false, false
		}
	} else if a := c.strangers.find(key); a != nil && a != known && a.worthless(time.Now()) {
		return landed(a), false, false
	}
	f := &flight{asked: time.Now(), entry: e, verified: make(chan struct{}), done: make(chan struct{})}
	if c.flights.closed {
		return landed(newAnswer(f.asked, nil, errTooLong)), false, false
	}
	f.until.At = f.asked.Add(c.o.Wait * 19 / 20) // a little less than anybody waits: its own reason tells more than theirs
	c.flights.byKey[key] = f
	c.flights.all.Add(1)
	return f, true, true
}

// landed returns a flight whose answer is there.
func landed(a *answer) *flight { return &flight{answer: a, verified: over, done: over} }

var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (c *Cache) flying(key resolver.Key) bool {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	return c.flights.byKey[key] != nil
}

// fly finds out what can be known without Authgear, and tells whether it must be asked of the
// same credentials.
func (c *Cache) fly(f *flight, key resolver.Key, creds resolver.Credentials) (ask bool) {
	e := f.entry
	local, final := c.askLocal(f, key, creds)
	refused := false
	if !final && c.o.Others != nil {
		if local, refused = c.askOthers(f, creds); local != nil {
			final, creds = true, creds.Clone() // which may be asked about once more later
		}
	}
	if refused && f.signed != nil && e != nil { // what is known is from before, and has no grace
		c.marks.key(key, keyMark{at: e.answer.Load().asked, until: f.signed.Expiry.Time().Add(c.o.Skew)})
	}
	f.atOnce = !final && f.signed != nil && e == nil && !c.o.ConfirmFirst && !c.away.Load() && !refused && c.marks.allowSigned(key, f.signed)
	close(f.verified)
	if final {
		// Whoever comes too soon verifies it again. What Local alone tells is not asked about later,
		// so that nobody keeps the caller's memory.
		c.land(f, key, creds, local, false)
	}
	return !final
}

// ask asks Authgear. The credentials are kept.
func (c *Cache) ask(f *flight, key resolver.Key, creds resolver.Credentials) {
	s, err := c.confirm(f, key, creds)
	c.land(f, key, creds, newAnswer(f.askedFor(s), s, err), true)
}

// askedFor returns when Authgear was asked for the session, which may be earlier: by
// another replica.
func (f *flight) askedFor(s *resolver.Session) time.Time {
	if s != nil && !s.Confirmed.IsZero() && s.Confirmed.Before(f.asked) {
		return s.Confirmed
	}
	return f.asked
}

// land files the answer of a flight. While ristretto may not have it yet, whoever
// needs it finds it in the flight, so that nobody puts the same question again.
func (c *Cache) land(f *flight, key resolver.Key, creds resolver.Credentials, a *answer, wait bool) {
	defer c.flights.all.Done()
	f.until.Release()
	f.answer = a
	if settle := c.file(key, creds, f); settle != nil && wait {
		close(f.done)
		settle()
		c.flights.leave(key, f)
		return
	}
	c.flights.leave(key, f) // first: what is not remembered must be asked about again
	close(f.done)
}

func (f *flights) leave(key resolver.Key, one *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey[key] == one {
		delete(f.byKey, key)
	}
}

// file remembers the answer of a flight. settle, if it is not nil, waits until
// ristretto has it.
func (c *Cache) file(key resolver.Key, creds resolver.Credentials, f *flight) (settle func()) {
	a, e := f.answer, f.entry
	if f.signed != nil && (a.isWorthless() || a.session == nil && e == nil) {
		// No more answers on its signature.
		c.marks.key(key, keyMark{at: f.asked, until: f.signed.Expiry.Time().Add(c.o.Skew)})
		if a.isWorthless() && c.o.Others != nil {
			c.o.Others.Refused(creds, f.signed.Expiry.Time().Add(c.o.Skew))
		}
	}
	switch {
	case a.session != nil && e == nil && f.signed == nil && !a.session.Machine && c.newcomers.tooMany(a.session.UserID, f.asked):
		// It is answered, but not remembered.
	case a.session != nil:
		var before *answer
		if e != nil {
			before = e.answer.Load()
		}
		wait := period(c.o.MaxStaleness)
		a.next.Store(int64(wait))
		if afterPause(before, a, c.o.MaxStaleness) && c.isProlongedLate(a, creds) {
			c.later(wait, func() { c.once(key, creds, a) })
		}
		f.filed, settle = c.keep(key, e, a, c.lifetime(a))
		return settle
	case a.isWorthless() && (e != nil || f.signed != nil):
		f.filed, settle = c.keep(key, e, a, c.refusedFor())
		return settle
	case a.isWorthless():
		c.strangers.keep(key, a)
	case e != nil && errors.Is(a.err, errKnowsNoJWT):
		e.answer.Store(&answer{})
	case e != nil:
		before := e.answer.Load()
		before.next.Store(int64(before.age(time.Now()) + retry(c.o.MaxStaleness)))
	}
	return nil
}

// keep gives the answer to the entry, and the entry to ristretto.
func (c *Cache) keep(key resolver.Key, e *entry, a *answer, ttl time.Duration) (_ *entry, settle func()) {
	if e == nil {
		e = &entry{key: key}
	}
	e.answer.Store(a)
	c.sessions.SetWithTTL(key.Short(), e, cost(a.session), ttl)
	if find(c.sessions, key) == e { // it was there before
		return e, nil
	}
	return e, c.sessions.Wait
}

// refusedFor is for how long it is known that credentials were refused: where others share
// what they are told, as long as an older answer could come from them.
func (c *Cache) refusedFor() time.Duration {
	if c.o.Others == nil {
		return worthlessFor
	}
	return max(worthlessFor, c.o.MaxStaleness)
}

// lifetime is how long a session is worth its memory if nobody uses it. That of
// a JWT is known until its end, so that it is not taken for one never seen.
func (c *Cache) lifetime(a *answer) time.Duration {
	if a.session.Expiry != 0 {
		return max(time.Until(a.session.Expiry.Time().Add(c.o.Skew)), time.Nanosecond)
	}
	return 2*c.o.MaxStaleness + c.o.OutageGrace
}

// Authgear prolongs the life of an idle session only at the second of two
// accesses (contract §2, issue 4270 of authgear-server). So a session that was
// confirmed after a pause is confirmed once more when it is due, even if
// nobody asks for it until then.

func afterPause(before, now *answer, bound time.Duration) bool {
	return before == nil || before.session == nil || before.age(now.asked) > 2*bound
}

// isProlongedLate tells whether that concerns the session: Authgear's own cookie is
// prolonged at once, and a machine has no session.
func (c *Cache) isProlongedLate(a *answer, creds resolver.Credentials) bool {
	return c.o.Authgear != nil && !a.session.Machine && creds.List[0].Slot != resolver.IDPSession
}

// later calls f after the wait. What waits takes memory, so there may be only so much;
// a real Authgear answers less than that in any period.
func (c *Cache) later(wait time.Duration, f func()) {
	const most = 1 << 15
	if c.waiting.Add(1) > most {
		c.waiting.Add(-1)
		return
	}
	time.AfterFunc(wait, func() {
		c.waiting.Add(-1)
		f()
	})
}

func (c *Cache) once(key resolver.Key, creds resolver.Credentials, a *answer) {
	if e := find(c.sessions, key); e != nil && e.answer.Load() == a && a.due(time.Now(), c.o.Wait) {
		c.refresh(key, creds, a)
	}
}
