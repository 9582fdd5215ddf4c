// Package cache remembers what a resolver said, for a stated time.
package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"golang.org/x/sync/singleflight"

	"authgear-forward-auth/resolver"
)

// Cache is a [resolver.Resolver] around another one. It remembers sessions, not
// decisions, so one entry serves every route.
//
// Sessions are kept until they expire or reach the age limit; worthless
// credentials for two seconds at most, and apart, so that a flood of bad tokens cannot push
// sessions out; "could not find out" never. Concurrent needs of the same
// credentials make one call.
type Cache struct {
	next      resolver.Resolver
	maxAge    time.Duration
	wait      time.Duration
	sessions  *ristretto.Cache[uint64, *entry]
	worthless *ristretto.Cache[uint64, *entry]
	flights   singleflight.Group
}

// An entry is one remembered answer: a session, or why there is none. It is
// never changed.
type entry struct {
	// key is compared whole: ristretto finds entries by 64 bits, which is
	// not enough to tell one user from another.
	key     resolver.Key
	until   time.Time
	session *resolver.Session
	err     error
}

// Options bound a Cache.
type Options struct {
	MaxAge time.Duration // of an answer
	Wait   time.Duration // of one caller for an answer
	Bytes  int64         // of memory, for all that is remembered
}

const (
	worthlessFor  = 2 * time.Second
	worthlessPart = 16  // the part of the memory that worthless credentials may fill: one in so many
	entryBytes    = 320 // an entry with its session and ristretto's own records, without the texts
	typicalBytes  = 512
)

// New returns a Cache that asks next.
func New(next resolver.Resolver, o Options) (*Cache, error) {
	c := &Cache{next: next, maxAge: o.MaxAge, wait: o.Wait}
	var err error
	if c.sessions, err = store(o.Bytes - o.Bytes/worthlessPart); err != nil {
		return nil, err
	}
	if c.worthless, err = store(o.Bytes / worthlessPart); err != nil {
		return nil, err
	}
	return c, nil
}

func store(bytes int64) (*ristretto.Cache[uint64, *entry], error) {
	s, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		MaxCost:            bytes,
		NumCounters:        max(10*bytes/typicalBytes, 100), // ristretto asks for ten per entry
		BufferItems:        64,
		IgnoreInternalCost: true, // it is in entryBytes
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d bytes: %w", bytes, err)
	}
	return s, nil
}

// Close ends the cache's goroutines.
func (c *Cache) Close() {
	c.sessions.Close()
	c.worthless.Close()
}

// Resolve returns the remembered answer, or asks. What it is given may be
// changed once it returns. A caller whose ctx ends stops waiting; the question
// goes on for the others.
func (c *Cache) Resolve(ctx context.Context, creds resolver.Credentials) (*resolver.Session, error) {
	key := creds.Key()
	now := time.Now()
	if e := find(c.sessions, key, now); e != nil {
		return e.session, nil
	}
	if e := find(c.worthless, key, now); e != nil {
		return nil, e.err
	}
	return c.share(ctx, key, creds.Clone()) // apart, so that a hit allocates nothing
}

// share asks once for all who want to know the same.
func (c *Cache) share(ctx context.Context, key resolver.Key, creds resolver.Credentials) (*resolver.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	flight := c.flights.DoChan(string(key[:]), func() (any, error) { return c.ask(key, creds) })
	select {
	case <-ctx.Done():
		return nil, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: fmt.Errorf("wait for an answer: %w", ctx.Err())}
	case r := <-flight:
		s, _ := r.Val.(*resolver.Session)
		return s, r.Err
	}
}

func find(store *ristretto.Cache[uint64, *entry], key resolver.Key, now time.Time) *entry {
	e, ok := store.Get(key.Short())
	if !ok || e.key != key || !now.Before(e.until) {
		return nil
	}
	return e
}

// ask resolves the credentials and remembers the answer. It does not depend on
// any one caller.
func (c *Cache) ask(key resolver.Key, creds resolver.Credentials) (*resolver.Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.wait)
	defer cancel()
	asked := time.Now()
	s, err := c.next.Resolve(ctx, creds)
	switch {
	case err == nil:
		e := &entry{key: key, session: s, until: asked.Add(c.maxAge)}
		if !s.Expiry.IsZero() && s.Expiry.Before(e.until) {
			e.until = s.Expiry
		}
		c.sessions.SetWithTTL(key.Short(), e, cost(s), max(time.Until(e.until), time.Nanosecond))
	case errors.Is(err, resolver.ErrInvalid):
		e := &entry{key: key, err: err, until: asked.Add(min(worthlessFor, c.maxAge))}
		c.worthless.SetWithTTL(key.Short(), e, entryBytes, worthlessFor)
	}
	return s, err
}

// cost is what an entry takes in memory, in bytes.
func cost(s *resolver.Session) int64 {
	return int64(entryBytes + len(s.UserID) + len(s.Roles) + len(s.AMR) + len(s.ClientID) + len(s.Scope))
}
