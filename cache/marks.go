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
	list := c.forget(ctx, creds, worthless)
	if len(creds.List) > 1 {
		for one := range slices.Chunk(creds.List, 1) {
			creds.List = one
			c.forget(ctx, creds, list)
		}
	}
}

// A standing is what is thought of credentials without asking Authgear.
type standing int

const (
	worthless standing = iota // or nobody ever asked about them
	doubtful                  // nobody can tell: they may be, or become, good
	known
)

// forget marks the credentials if they are known or, where nobody can tell, if there is room; of
// a part of a list also if the list is. It returns their standing.
func (c *Cache) forget(ctx context.Context, creds resolver.Credentials, list standing) standing {
	key, now := creds.Key(), time.Now()
	until := now.Add(c.lastingFor())
	is, unsure := worthless, false
	if c.flying(key) {
		is = doubtful
	}
	if find(c.sessions, key) != nil { // in this order: what lands is stored first
		is = known
	}
	if c.o.Local != nil {
		s, err := c.o.Local.Resolve(ctx, creds)
		switch {
		case err == nil:
			is, until = known, s.Expiry.Time().Add(c.o.Skew)
		case outOf(err) != "": // nobody knows whether it is any good, and until when
			is, until, unsure = max(is, doubtful), later(until, now.Add(c.marks.keep)), true
		case resolver.ReasonOf(err) == resolver.UnknownKey, resolver.ReasonOf(err) == resolver.NotYetValid: // it may become good
			is, until = max(is, doubtful), later(until, now.Add(time.Hour))
		case errors.Is(err, resolver.ErrInvalid) && max(is, list) == worthless: // nor will it ever be good
			return worthless
		}
	}
	if is != known && c.o.Others != nil && c.o.Authgear != nil {
		is = doubtful // what others do not know either may have been lost, or be asked about just now
		if _, err := c.o.Others.Known.Resolve(ctx, creds); err == nil {
			is = known
		}
	}
	if far := now.AddDate(100, 0, 0); until.After(far) {
		until = far // no clock, and no text of a time, has all that a token may name
	}
	if max(is, list) == worthless {
		return worthless
	}
	room, news := c.marks.key(key, keyMark{at: now, ended: true, until: until, doubtful: max(is, list) == doubtful})
	if !room {
		return worthless
	}
	if c.o.Others != nil && (news && (is == known || unsure) || c.rumours.Allow()) {
		c.o.Others.Left(key, until)
	}
	return is
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

// key tells whether there is room for the mark, as there always is unless it is doubtful, and
// whether it says more than an earlier one.
func (m *marks) key(key resolver.Key, mark keyMark) (room, news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tidy(time.Now())
	old, again := m.keys[key]
	if mark.doubtful && !again && m.doubtful >= maxDoubtful {
		return false, false
	}
	news = !old.ended || old.doubtful && !mark.doubtful || mark.until.Sub(old.until) > time.Second
	if again {
		mark.ended, mark.at, mark.until = mark.ended || old.ended, later(mark.at, old.at), later(mark.until, old.until)
		mark.doubtful = mark.doubtful && old.doubtful
	}
	if old.doubtful {
		m.doubtful--
	}
	if mark.doubtful {
		m.doubtful++
	}
	m.keys[key] = mark
	m.count.Add(1)
	return true, news
}

// tidy drops, now and then, what is too old to matter.
func (m *marks) tidy(now time.Time) {
	if now.Before(m.sweep) {
		return
	}
	m.sweep = now.Add(time.Minute)
	maps.DeleteFunc(m.users, func(_ string, u userMark) bool { return now.After(u.until) })
	maps.DeleteFunc(m.keys, func(_ resolver.Key, k keyMark) bool {
		over := now.After(k.until)
		if over && k.doubtful {
			m.doubtful--
		}
		return over
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
