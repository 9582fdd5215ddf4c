package cache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/resolver"
)

// marks tell from when on somebody must be vouched for anew. What was vouched
// for before the mark, or is being asked about when it is set, does not count:
// each use compares two times, so nothing need be found and removed.
type marks struct {
	keep  time.Duration // the marks of users
	count atomic.Uint64 // of marks ever set

	mu       sync.RWMutex
	users    map[string]userMark
	keys     map[resolver.Key]keyMark
	doubtful int       // of keys
	sweep    time.Time // when old marks are looked for next
}

// maxDoubtful is how many credentials are marked of which nobody can tell whether they were
// ever any good, so that strangers cannot fill the memory.
const maxDoubtful = 1 << 16

type userMark struct {
	at     time.Time // by our clock
	issued time.Time // tokens issued until then, by Authgear's clock
	ended  time.Time // likewise, but what happened then ended the user's sessions
	until  time.Time
}

type keyMark struct {
	at       time.Time
	ended    bool
	doubtful bool
	until    time.Time
}

// ForgetUser makes all that was vouched for of the user until told, which is when we
// were, go back to Authgear. at is the time of the event by Authgear's clock, in whole
// seconds; ends tells whether it ended the user's sessions. Where Authgear is not asked,
// the tokens issued until then are refused if it did; of others nothing can be
// found out.
func (c *Cache) ForgetUser(user string, at time.Time, ends bool, told time.Time) {
	if ends || c.o.Authgear != nil {
		c.marks.user(user, at, ends, told)
	}
}

// ForgetKey is [Cache.Forget] of credentials that another replica was told of then.
func (c *Cache) ForgetKey(key resolver.Key, until, told time.Time) {
	until = later(until, time.Now().Add(c.lastingFor())) // their clock may be behind ours
	c.marks.key(key, keyMark{at: told, ended: true, until: until})
}

// lastingFor is how long an answer may be of use, with the question.
func (c *Cache) lastingFor() time.Duration { return c.o.MaxStaleness + c.o.OutageGrace + c.o.Wait }

// Forget makes what was vouched for of these credentials until now go back to Authgear, and
// what was of each of them in other company; where Authgear is not asked, they are refused
// from now on. It asks Authgear nothing and returns nothing, so a stranger learns nothing.
func (c *Cache) Forget(ctx context.Context, creds resolver.Credentials) {
	known := c.forget(ctx, creds, false)
	if len(creds.List) > 1 {
		for one := range slices.Chunk(creds.List, 1) {
			creds.List = one
			c.forget(ctx, creds, known)
		}
	}
}

// forget marks the credentials if anybody vouches for them or, where nobody can tell, if there
// is room. known is that of what they are a part of; forget returns whether they are known
// themselves.
func (c *Cache) forget(ctx context.Context, creds resolver.Credentials, known bool) bool {
	key, now := creds.Key(), time.Now()
	until := now.Add(c.lastingFor())
	known = known || c.flying(key) || find(c.sessions, key) != nil // in this order: what lands is stored first
	doubtful := false
	if c.o.Local != nil {
		s, err := c.o.Local.Resolve(ctx, creds)
		switch {
		case err == nil:
			known, until = true, s.Expiry.Time().Add(c.o.Skew)
		case outOf(err) != "": // without keys, say, nobody knows whether it is any good, and until when
			doubtful, until = true, later(until, now.Add(c.marks.keep))
		case resolver.ReasonOf(err) == resolver.UnknownKey, resolver.ReasonOf(err) == resolver.NotYetValid: // it may become good
			doubtful, until = true, later(until, now.Add(time.Hour))
		case errors.Is(err, resolver.ErrInvalid) && !known: // nor will it ever be
			return false
		}
	}
	if !known && c.o.Others != nil && c.o.Authgear != nil {
		_, err := c.o.Others.Known.Resolve(ctx, creds)
		known, doubtful = err == nil, true // what they do not know either may have been lost, or be asked about just now
	}
	if far := now.AddDate(100, 0, 0); until.After(far) {
		until = far // no clock, and no text of a time, has all that a token may name
	}
	if !known && !doubtful || !c.marks.key(key, keyMark{at: now, ended: true, doubtful: !known, until: until}) {
		return false
	}
	if c.o.Others != nil && (known || c.rumours.Allow()) {
		c.o.Others.Left(key, until)
	}
	return known
}

func (m *marks) user(id string, at time.Time, ends bool, told time.Time) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tidy(now)
	mark := m.users[id]
	mark.at, mark.until = later(mark.at, told), now.Add(m.keep)
	mark.issued = later(mark.issued, at)
	if ends {
		mark.ended = later(mark.ended, at)
	}
	m.users[id] = mark
	m.count.Add(1)
}

// key tells whether there is room for the mark: there always is, unless it is doubtful.
func (m *marks) key(key resolver.Key, mark keyMark) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tidy(time.Now())
	old, again := m.keys[key]
	if mark.doubtful && !again && m.doubtful >= maxDoubtful {
		return false
	}
	if again {
		mark.ended, mark.at, mark.until = mark.ended || old.ended, later(mark.at, old.at), later(mark.until, old.until)
		mark.doubtful = mark.doubtful && old.doubtful
	}
	m.doubtful += count(mark.doubtful) - count(old.doubtful)
	m.keys[key] = mark
	m.count.Add(1)
	return true
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// tidy drops, now and then, what is too old to matter.
func (m *marks) tidy(now time.Time) {
	if now.Before(m.sweep) {
		return
	}
	m.sweep = now.Add(time.Minute)
	maps.DeleteFunc(m.users, func(_ string, u userMark) bool { return now.After(u.until) })
	m.doubtful = 0
	maps.DeleteFunc(m.keys, func(_ resolver.Key, k keyMark) bool {
		if now.After(k.until) {
			return true
		}
		m.doubtful += count(k.doubtful)
		return false
	})
}

// allow tells whether no mark is later than the answer: of the user, the credentials, or one
// of them. A tie counts against it.
func (m *marks) allow(key resolver.Key, list []resolver.Credential, a *answer) bool {
	count := m.count.Load()
	if a.checked.Load() == count {
		return true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if user, marked := m.users[a.session.UserID]; marked && !a.asked.After(user.at) {
		return false
	}
	if mark, marked := m.keys[key]; marked && !a.asked.After(mark.at) {
		return false
	}
	if len(list) > 1 {
		for one := range slices.Chunk(list, 1) {
			if mark, marked := m.keys[resolver.Credentials{List: one}.Key()]; marked && !a.asked.After(mark.at) {
				return false
			}
		}
	}
	a.checked.Store(count)
	return true
}

// allowSigned tells whether a token may be believed before Authgear confirms it.
func (m *marks) allowSigned(key resolver.Key, s *resolver.Session) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ofKey := m.keys[key]
	user, ofUser := m.users[s.UserID]
	return !ofKey && !(ofUser && !s.IssuedAt.Time().After(user.issued))
}

// ended tells whether the session was ended, as far as that can be known without
// Authgear.
func (m *marks) ended(key resolver.Key, s *resolver.Session) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	user, ofUser := m.users[s.UserID]
	return m.keys[key].ended || ofUser && !s.Machine && !s.IssuedAt.Time().After(user.ended)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
