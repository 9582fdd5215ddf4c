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
// credentials are [resolver.ErrNotMine], or the error is another one where nobody knows.
// It asks nobody but Redis.
func (f *Fleet) Known() resolver.Resolver { return known{f} }

type known struct{ *Fleet }

func (k known) Resolve(ctx context.Context, c resolver.Credentials) (*resolver.Session, error) {
	if !k.isReady() {
		return nil, errAlone
	}
	name := k.secrets.name(c.Key())
	results, err := k.do(ctx, budgetOf(c), func(b rueidis.Builder) rueidis.Commands {
		return look(b, name)
	})
	if err != nil {
		k.o.Count(Look, Error)
		return nil, errAlone
	}
	s, err := k.value(name, results, c.NotBefore)
	if err == nil {
		k.o.Count(Look, OK)
	}
	return s, err
}

var errAlone = &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errAway}

// budgetOf returns how long to wait for Redis in one go. Where nobody waits for us it may
// take its time: one that was busy for a moment costs no question.
func budgetOf(c resolver.Credentials) time.Duration {
	if c.Unhurried {
		return patience
	}
	return budget
}

// look reads what was confirmed and what was refused, and no more than these may have,
// whatever is there.
func look(b rueidis.Builder, name string) (both rueidis.Commands) {
	for _, key := range []string{valueKey(name), refusedKey(name)} {
		both = append(both, b.Getrange().Key(key).Start(0).End(maxValue).Build())
	}
	return both
}

// value reads what Redis had under a name, as look has asked for it. A session that was asked
// about later than it was refused counts.
func (f *Fleet) value(name string, results []rueidis.RedisResult, notBefore time.Time) (*resolver.Session, error) {
	v, asked, err := f.open(name, results[0])
	no, _, errNo := f.open(name, results[1])
	isRefused := errNo == nil && no.Refused
	switch {
	case errors.Is(err, errClocks), errors.Is(errNo, errClocks):
		f.o.Count(Look, Clock)
		return nil, errAlone
	case isRefused && (err != nil || v.Redis <= no.Redis):
		f.o.Count(Look, OK)
		return nil, errRefused
	case err != nil, v.Refused, asked.Before(notBefore):
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
	_, redis, err := f.clock.now(f.o.Skew)
	if err != nil {
		return nil, time.Time{}, errClocks
	}
	asked, err := v.asked(now, redis)
	return v, asked, err
}

// Keys of one credential are in one slot of a cluster.
func valueKey(name string) string   { return "afa:{" + name + "}" }
func refusedKey(name string) string { return "afa:{" + name + "}:refused" } // which no answer to another question replaces
func leaseKey(name string) string   { return "afa:{" + name + "}:lease" }

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
	if a.isReady() {
		var s *resolver.Session
		if s, leased = a.lease(ctx, name, c); s != nil {
			return s, nil
		}
	}
	asked := time.Now()
	s, err := a.next.Resolve(ctx, c)
	switch {
	case err == nil:
		a.live.Go(func() { a.share(name, s, asked, leased) })
	case errors.Is(err, resolver.ErrInvalid):
		a.forget(name, leased) // before anybody is told: what was confirmed before is not confirmed any more
	case leased:
		a.live.Go(func() { a.release(name) })
	}
	return s, err
}

// lease takes the right to ask, or waits for the answer of the replica that has it. It
// returns neither if that takes too long.
func (f *Fleet) lease(ctx context.Context, name string, c resolver.Credentials) (s *resolver.Session, leased bool) {
	began := time.Now()
	end := began.Add(f.waits(ctx, c, began))
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, longestPause) {
		results, err := f.do(ctx, budgetOf(c), func(b rueidis.Builder) rueidis.Commands {
			lease := b.Set().Key(leaseKey(name)).Value(f.self).Nx().PxMilliseconds((f.o.Question + patience).Milliseconds()).Build()
			return append(rueidis.Commands{lease}, look(b, name)...)
		})
		if err != nil {
			f.o.Count(Lease, Error)
			return nil, false
		}
		leased = results[0].Error() == nil
		if s, err := f.value(name, results[1:], c.NotBefore); err == nil {
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

const longestPause = 50 * time.Millisecond

// waits returns how long to wait for the answer that another replica asks for. Where nobody
// waits for ours that is as long as there is time: else a fleet would ask the most when
// Authgear is slow. Where an answer as old as theirs will not do, it is not at all.
func (f *Fleet) waits(ctx context.Context, c resolver.Credentials, now time.Time) time.Duration {
	if now.Sub(c.NotBefore) < patience {
		return 0
	}
	if end, ok := ctx.Deadline(); ok && c.Unhurried {
		return max(end.Sub(now)-f.o.Question, patience)
	}
	return patience
}

// share tells the fleet what Authgear confirmed, and gives the lease back.
func (f *Fleet) share(name string, s *resolver.Session, asked time.Time, leased bool) {
	redis, _, err := f.clock.now(f.o.Skew)
	if err != nil {
		if leased {
			f.release(name)
		}
		return
	}
	bare := *s
	bare.Confirmed = time.Time{}
	v := value{Session: &bare, Wall: asked.UnixNano(), Redis: redis.Add(-time.Since(asked)).UnixNano()}
	f.write(valueKey(name), name, &v, f.o.Lifetime, leased)
}

func (f *Fleet) write(key, name string, v *value, lifetime time.Duration, leased bool) {
	sealed := f.secrets.seal(name, v.encode())
	if len(sealed) > maxValue {
		return // and the lease ends by itself
	}
	_, err := f.do(context.Background(), time.Second, func(b rueidis.Builder) rueidis.Commands {
		commands := rueidis.Commands{b.Set().Key(key).Value(sealed).PxMilliseconds(max(lifetime.Milliseconds(), 1)).Build()}
		if leased {
			commands = append(commands, b.Del().Key(leaseKey(name)).Build())
		}
		return commands
	})
	f.count(Share, err)
}

// forget takes from the fleet what Authgear confirmed earlier, and gives the lease back.
func (f *Fleet) forget(name string, leased bool) {
	_, err := f.do(context.Background(), budget, func(b rueidis.Builder) rueidis.Commands {
		if leased {
			return rueidis.Commands{b.Del().Key(valueKey(name), leaseKey(name)).Build()}
		}
		return rueidis.Commands{b.Del().Key(valueKey(name)).Build()}
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
	_, redis, err := f.clock.now(f.o.Skew) // rather later: no session from before may count
	if err != nil {
		return
	}
	now := time.Now()
	v := value{Refused: true, Wall: now.UnixNano(), Redis: redis.UnixNano()}
	name := f.secrets.name(c.Key())
	f.live.Go(func() { f.write(refusedKey(name), name, &v, until.Sub(now), false) })
}
