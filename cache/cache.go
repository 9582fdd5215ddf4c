// Package cache remembers who is behind credentials, and keeps a promise: no
// session is returned on a confirmation by Authgear that is older than a bound.
package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"golang.org/x/time/rate"

	"authgear-forward-auth/internal/deadline"
	"authgear-forward-auth/internal/turn"
	"authgear-forward-auth/resolver"
)

// Cache is a [resolver.Resolver] around others. It remembers sessions, not
// decisions, so one entry serves every route.
//
// A session in use is confirmed in the background before it reaches the bound,
// so that nobody waits; past the bound it is confirmed first. Each need of the
// same credentials shares one question. Worthless credentials are remembered
// for two seconds at most, those that nobody ever vouched for apart, so that a
// flood of them cannot push sessions out. "Could not find out" is never
// remembered.
type Cache struct {
	o         Options
	sessions  *ristretto.Cache[uint64, *entry]
	strangers *strangers
	flights   flights
	newcomers newcomers
	marks     marks
	rumours   *rate.Limiter // what others are told of credentials that nobody may ever have vouched for
	doubt     doubt
	away      atomic.Bool // the last question found nothing out
	evicted   atomic.Uint64
	waiting   atomic.Int64 // questions that are put later
	crowds    *turn.Turns  // of those who joined a question, one of each
}

// Options say whom a Cache asks, and its bounds.
type Options struct {
	// Local judges some credentials by itself; it is asked first. Nil: none.
	Local resolver.Resolver

	// Authgear is asked about the rest, and confirms what Local says. Nil: it
	// is not asked, and what Local says is good.
	Authgear resolver.Resolver

	// Strangers asks Authgear about credentials that nobody has vouched for.
	Strangers resolver.Resolver

	// Others are further replicas of the service. Nil: there are none.
	Others *Others

	// ConfirmFirst makes a session that Local vouches for wait for Authgear
	// when it is first seen. Otherwise it is returned at once and confirmed
	// right behind.
	ConfirmFirst bool

	MaxStaleness time.Duration // no answer rests on an older confirmation
	OutageGrace  time.Duration // so much longer while Authgear cannot be reached
	Skew         time.Duration // leeway for the end of a token
	Wait         time.Duration // of one caller for an answer
	Bytes        int64         // of memory, for all that is remembered
}

// Others are how replicas learn from each other.
type Others struct {
	// Known tells what others were told by Authgear: a session, confirmed not before
	// the credentials ask for; ErrInvalid if a JWT is no good; ErrNotMine if they know
	// nothing; any other error if they cannot be asked.
	Known resolver.Resolver

	Refused func(creds resolver.Credentials, until time.Time) // is told of JWTs that are no good
	Left    func(key resolver.Key, until time.Time)           // is told of credentials that are forgotten
}

const (
	worthlessFor  = 2 * time.Second
	worthlessPart = 16  // the part of the memory that strangers may fill: one in so many
	entryBytes    = 600 // an entry with its session, ristretto's own records and what waits to be collected, without the texts
	typicalBytes  = 648

	rumoursAtOnce = 256 // so that those who are known to have left have room beside them
)

// New returns a Cache.
func New(o Options) (*Cache, error) {
	o.Wait = min(o.Wait, o.MaxStaleness) // so that no answer is older when it comes
	c := &Cache{
		o:         o,
		crowds:    turn.New(),
		strangers: newStrangers(o.Bytes / worthlessPart),
		flights:   flights{byKey: make(map[resolver.Key]*flight)},
		newcomers: newcomers{seed: maphash.MakeSeed()},
		marks:     marks{users: make(map[string]userMark), keys: make(map[resolver.Key]keyMark)},
	}
	c.marks.keep = Reach(o.MaxStaleness+o.OutageGrace, o.Authgear != nil)
	c.rumours = rate.NewLimiter(rate.Every(c.marks.keep/maxDoubtful), rumoursAtOnce)
	var err error
	if c.sessions, err = store(o.Bytes-o.Bytes/worthlessPart, &c.evicted); err != nil {
		return nil, err
	}
	return c, nil
}

// Reach returns for how long somebody's leaving must be known, where confirmations live so
// long, if Authgear confirms at all.
func Reach(lifetime time.Duration, confirmed bool) time.Duration {
	if !confirmed {
		return 31 * 24 * time.Hour // until the tokens expire
	}
	return max(lifetime, time.Hour)
}

func store(bytes int64, evicted *atomic.Uint64) (*ristretto.Cache[uint64, *entry], error) {
	s, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		MaxCost: bytes,
		// Ten per entry, as ristretto asks for, would take 130 bytes each; four keep
		// the hit ratio within some percent when there is more than has room.
		NumCounters:        max(4*bytes/typicalBytes, 100),
		BufferItems:        64,
		IgnoreInternalCost: true, // it is in entryBytes
		OnReject:           func(*ristretto.Item[*entry]) { evicted.Add(1) },
		OnEvict: func(i *ristretto.Item[*entry]) {
			if i.Expiration.IsZero() { // else its time had come
				evicted.Add(1)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d bytes: %w", bytes, err)
	}
	return s, nil
}

// Bytes returns the memory that the remembered sessions take.
func (c *Cache) Bytes() int64 { return c.sessions.MaxCost() - c.sessions.RemainingCost() }

// Evictions returns how many sessions were forgotten, or not remembered, for want of
// room.
func (c *Cache) Evictions() uint64 { return c.evicted.Load() }

// Close waits for the questions under way and ends the cache's goroutines.
// Nobody may use it meanwhile.
func (c *Cache) Close() {
	c.flights.close()
	c.sessions.Close()
}

// Resolve returns what is remembered, or asks. What it is given may be changed
// once it returns. A caller whose ctx ends stops waiting; the question goes on
// for the others.
func (c *Cache) Resolve(ctx context.Context, creds resolver.Credentials) (*resolver.Session, error) {
	return c.resolve(ctx, creds, terms{bound: c.o.MaxStaleness, signed: true, grace: true})
}

// Within returns a view of the cache whose sessions Authgear has confirmed so lately, and as
// lately as the cache promises anyway: none on a signature alone, none by the grace of an
// outage. 0 is the cache itself.
func (c *Cache) Within(maxStaleness time.Duration) resolver.Resolver {
	if maxStaleness <= 0 {
		return c
	}
	return view{c, terms{bound: min(maxStaleness, c.o.MaxStaleness)}}
}

// Confirmed is like [Cache.Within], but returns no session that was not confirmed yet,
// where Authgear is asked.
func (c *Cache) Confirmed(maxStaleness time.Duration) resolver.Resolver {
	if maxStaleness > 0 {
		return c.Within(maxStaleness)
	}
	return view{c, terms{bound: c.o.MaxStaleness, grace: true}}
}

type view struct {
	*Cache
	on terms
}

func (v view) Resolve(ctx context.Context, creds resolver.Credentials) (*resolver.Session, error) {
	return v.resolve(ctx, creds, v.on)
}

// terms are those that a session is returned on.
type terms struct {
	bound  time.Duration // it was confirmed so lately;
	signed bool          // or Local vouches for it, and Authgear is yet to confirm it;
	grace  bool          // or that was longer ago, while Authgear cannot be reached
}

// resolve returns a session on the terms.
func (c *Cache) resolve(ctx context.Context, creds resolver.Credentials, on terms) (*resolver.Session, error) {
	key, now := creds.Key(), creds.Asked
	if now.IsZero() {
		now = time.Now()
	}
	e := find(c.sessions, key)
	var a *answer
	if e != nil {
		a = e.answer.Load()
		if a.worthless(now) {
			creds.Trace.Looked(resolver.Negative)
			return nil, a.err
		}
		if c.fresh(key, creds, a, now, on.bound) {
			creds.Trace.Looked(resolver.Hit)
			if a.due(now, c.o.Wait) {
				c.refresh(key, creds.Clone(), a)
			}
			return a.session, nil
		}
	} else if a = c.strangers.find(key); a != nil && a.worthless(now) {
		creds.Trace.Looked(resolver.Negative)
		return nil, a.err
	}
	creds.Trace.Looked(resolver.Miss)
	if a != nil && a.session != nil {
		creds.Trace.Looked(resolver.Refresh)
	}
	creds.Trace = nil
	return c.await(ctx, key, creds, a, on) // apart, so that a hit allocates nothing
}

// find compares the key whole: ristretto finds entries by 64 bits, which is not
// enough to tell one user from another.
func find(store *ristretto.Cache[uint64, *entry], key resolver.Key) *entry {
	if e, ok := store.Get(key.Short()); ok && e.key == key {
		return e
	}
	return nil
}

// fresh tells whether the answer may be given to somebody who asks now.
func (c *Cache) fresh(key resolver.Key, creds resolver.Credentials, a *answer, now time.Time, bound time.Duration) bool {
	return a.session != nil && a.age(now) <= bound && !a.expired(now, c.o.Skew) && c.marks.allow(key, creds.List, a)
}

// await waits for an answer that was asked for late enough, which a is not.
func (c *Cache) await(ctx context.Context, key resolver.Key, creds resolver.Credentials, a *answer, on terms) (*resolver.Session, error) {
	now := time.Now()
	until := now.Add(c.o.Wait)
	creds.NotBefore = now.Add(-on.bound)
	if a != nil {
		creds.NotBefore = later(creds.NotBefore, a.asked.Add(1))
	}
	var f *flight
	var early, mine bool
	for range attempts {
		if f, early, mine = c.begin(key, a, f); mine && c.fly(f, key, creds) {
			go c.ask(f, key, creds.Clone()) // what the caller gave may change once it has an answer
		}
		if !ended(ctx, until, f.verified) && on.signed && c.atOnce(key, f, early) {
			return f.signed, nil
		}
		if ended(ctx, until, f.done) {
			return c.grace(key, creds, errTooLong, on)
		}
		switch a = f.answer; {
		case a.isWorthless():
			c.oneByOne(ctx, until, f, mine)
			return nil, a.err
		case a.session == nil:
			c.oneByOne(ctx, until, f, mine)
			return c.grace(key, creds, a.err, on)
		case c.fresh(key, creds, a, now, on.bound):
			c.oneByOne(ctx, until, f, mine)
			if c.fresh(key, creds, a, now, on.bound) { // nobody has left meanwhile
				return a.session, nil
			}
		}
		// It was asked too early for this caller, so it is asked again.
		creds.NotBefore = later(now, a.asked.Add(1))
	}
	c.oneByOne(ctx, until, f, mine)
	return nil, errTooLong
}

// oneByOne lets others go first, for a moment: a crowd that waited for one answer has it at the same
// time, and would write theirs before anybody else's.
func (c *Cache) oneByOne(ctx context.Context, until time.Time, f *flight, mine bool) {
	if mine || f.crowd == nil {
		return
	}
	if most := time.Now().Add(c.o.Wait / 50); until.After(most) {
		until = most
	}
	if _, ok := deadline.Await(ctx, until, f.crowd); ok {
		t := turn.Turn{Of: c.crowds}
		t.TakeBefore(until)
		t.Leave()
		f.crowd <- struct{}{}
	}
}

// attempts are how many questions one caller waits for. The second is asked
// later than any caller came; only an event makes a third necessary.
const attempts = 4

// atOnce tells whether somebody may have the session of a JWT before Authgear
// confirms it.
func (c *Cache) atOnce(key resolver.Key, f *flight, early bool) bool {
	return f.atOnce && (early || !f.answered.Load() && c.marks.allowSigned(key, f.signed))
}

// ended waits for the event and tells whether ctx ended, or the time came, first.
func ended(ctx context.Context, until time.Time, event <-chan struct{}) bool {
	_, happened := deadline.Await(ctx, until, event)
	return !happened
}

var errTooLong = &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New("no answer in time")}

// grace lets a session that was confirmed pass for longer while Authgear cannot
// be reached. One that is known to be bad, or that an event made doubtful, has
// none; nor has a route with a bound of its own, nor a question that is refused while
// others may be answered: whoever is asked about could make it so.
func (c *Cache) grace(key resolver.Key, creds resolver.Credentials, err error, on terms) (*resolver.Session, error) {
	if e := find(c.sessions, key); e != nil && on.grace && isAway(err) {
		if a := e.answer.Load(); c.fresh(key, creds, a, time.Now(), on.bound+c.o.OutageGrace) {
			return a.session, nil
		}
	}
	return nil, err
}
