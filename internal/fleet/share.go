package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"authgear-forward-auth/resolver"
)

// Known returns a resolver that tells what the fleet knows: a session that Authgear
// confirmed not before the Credentials ask for, or that a JWT is no good. Otherwise the
// credentials are [resolver.ErrNotMine]. It asks nobody but Redis.
func (f *Fleet) Known() resolver.Resolver { return known{f} }

type known struct{ *Fleet }

func (k known) Resolve(ctx context.Context, c resolver.Credentials) (*resolver.Session, error) {
	if !k.caughtUp.Load() {
		return nil, resolver.ErrNotMine
	}
	name := k.secrets.name(c.Key())
	results, err := k.do(ctx, budget, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Get().Key(valueKey(name)).Build()}
	})
	if err != nil {
		k.o.Count(Look, Error)
		return nil, resolver.ErrNotMine
	}
	s, err := k.value(name, results[0], c.NotBefore)
	if err != nil {
		return nil, err
	}
	k.o.Count(Look, OK)
	return s, nil
}

// value reads what Redis had under a name.
func (f *Fleet) value(name string, result rueidis.RedisResult, notBefore time.Time) (*resolver.Session, error) {
	v, asked, err := f.open(name, result)
	switch {
	case errors.Is(err, errClocks):
		f.o.Count(Look, Clock)
		return nil, resolver.ErrNotMine
	case err != nil:
		f.o.Count(Look, None)
		return nil, resolver.ErrNotMine
	case v.Refused:
		f.o.Count(Look, OK)
		return nil, errRefused
	case asked.Before(notBefore):
		f.o.Count(Look, None)
		return nil, resolver.ErrNotMine
	}
	v.Session.Confirmed = asked
	return v.Session, nil
}

var errRefused = &resolver.InvalidError{Reason: resolver.Revoked, Detail: "another replica was told so by Authgear"}

func (f *Fleet) open(name string, result rueidis.RedisResult) (*value, time.Time, error) {
	sealed, err := result.ToString()
	if err != nil {
		return nil, time.Time{}, err
	}
	text, err := f.secrets.open(name, sealed)
	if err != nil {
		return nil, time.Time{}, err
	}
	v, err := decode(text)
	if err != nil {
		return nil, time.Time{}, err
	}
	now := time.Now()
	redis, err := f.clock.now(f.o.Skew)
	if err != nil {
		return nil, time.Time{}, errClocks
	}
	asked, err := v.asked(now, redis)
	return v, asked, err
}

// Keys of one credential are in one slot of a cluster.
func valueKey(name string) string { return "afa:{" + name + "}" }
func leaseKey(name string) string { return "afa:{" + name + "}:lease" }

// Asking returns a resolver for questions to Authgear, which next puts. Of all replicas
// one asks at a time; the others wait for its answer, but not for long.
func (f *Fleet) Asking(next resolver.Resolver) resolver.Resolver { return asking{f, next} }

type asking struct {
	*Fleet
	next resolver.Resolver
}

func (a asking) Resolve(ctx context.Context, c resolver.Credentials) (*resolver.Session, error) {
	name := a.secrets.name(c.Key())
	leased := false
	if a.caughtUp.Load() {
		var s *resolver.Session
		if s, leased = a.lease(ctx, name, c.NotBefore); s != nil {
			return s, nil
		}
	}
	asked := time.Now()
	s, err := a.next.Resolve(ctx, c)
	a.live.Go(func() { a.share(name, s, asked, leased) })
	return s, err
}

// lease takes the right to ask, or waits for the answer of the replica that has it. It
// returns neither if that takes too long.
func (f *Fleet) lease(ctx context.Context, name string, notBefore time.Time) (s *resolver.Session, leased bool) {
	end := time.Now().Add(patience)
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		results, err := f.do(ctx, budget, func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{
				b.Set().Key(leaseKey(name)).Value(f.self).Nx().PxMilliseconds((f.o.Question + patience).Milliseconds()).Build(),
				b.Get().Key(valueKey(name)).Build(),
			}
		})
		if err != nil {
			f.o.Count(Lease, Error)
			return nil, false
		}
		leased = results[0].Error() == nil
		if s, err := f.value(name, results[1], notBefore); err == nil {
			if leased {
				f.live.Go(func() { f.release(name) })
			}
			return s, false
		}
		if leased {
			f.o.Count(Lease, OK)
			return nil, true
		}
		f.o.Count(Lease, Held)
		if time.Now().Add(wait).After(end) {
			return nil, false
		}
		pause(ctx, wait)
	}
}

// share tells the fleet what Authgear said, and gives the lease back.
func (f *Fleet) share(name string, s *resolver.Session, asked time.Time, leased bool) {
	redis, err := f.clock.now(f.o.Skew)
	if s == nil || err != nil {
		if leased {
			f.release(name)
		}
		return
	}
	bare := *s
	bare.Confirmed = time.Time{}
	v := value{Session: &bare, Wall: asked.UnixNano(), Redis: redis.Add(-time.Since(asked)).UnixNano()}
	f.write(name, &v, f.o.Lifetime, leased)
}

func (f *Fleet) write(name string, v *value, lifetime time.Duration, leased bool) {
	sealed := f.secrets.seal(name, v.encode())
	_, err := f.do(context.Background(), time.Second, func(b rueidis.Builder) rueidis.Commands {
		commands := rueidis.Commands{b.Set().Key(valueKey(name)).Value(sealed).PxMilliseconds(max(lifetime.Milliseconds(), 1)).Build()}
		if leased {
			commands = append(commands, b.Del().Key(leaseKey(name)).Build())
		}
		return commands
	})
	f.count(Share, err)
}

func (f *Fleet) release(name string) {
	_, err := f.do(context.Background(), time.Second, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Del().Key(leaseKey(name)).Build()}
	})
	f.count(Lease, err)
}

func (f *Fleet) count(operation string, err error) {
	if err != nil {
		f.o.Count(operation, Error)
		return
	}
	f.o.Count(operation, OK)
}

// Refuse tells the fleet that Authgear says a JWT is no good, so that no replica answers
// on its signature until it ends.
func (f *Fleet) Refuse(c resolver.Credentials, until time.Time) {
	redis, err := f.clock.now(f.o.Skew)
	if err != nil {
		return
	}
	now := time.Now()
	v := value{Refused: true, Wall: now.UnixNano(), Redis: redis.UnixNano()}
	name := f.secrets.name(c.Key())
	f.live.Go(func() { f.write(name, &v, until.Sub(now), false) })
}
