package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/turn"
	"authgear-forward-auth/resolver"
)

// authority counts the questions and answers them by answer.
type authority struct {
	calls  atomic.Int32
	answer func(resolver.Credentials) (*resolver.Session, error)
}

func (a *authority) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	a.calls.Add(1)
	return a.answer(c)
}

func token(value string) resolver.Credentials {
	return resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: value}}}
}

// remembering runs f with a cache of 30 s around a, in a bubble of its own time.
func remembering(t *testing.T, a *authority, f func(*Cache)) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: 30 * time.Second, Wait: 5 * time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(c)
	})
}

// ask resolves and lets ristretto settle.
func ask(c *Cache, value string) (*resolver.Session, error) {
	s, err := c.Resolve(context.Background(), token(value))
	c.sessions.Wait()
	c.strangers.Wait()
	return s, err
}

func user(id string) func(resolver.Credentials) (*resolver.Session, error) {
	return func(resolver.Credentials) (*resolver.Session, error) { return &resolver.Session{UserID: id}, nil }
}

func TestNoAnswerOutlivesTheToken(t *testing.T) {
	a := &authority{}
	remembering(t, a, func(c *Cache) {
		expiry := time.Now().Add(5 * time.Second)
		a.answer = func(resolver.Credentials) (*resolver.Session, error) {
			if !time.Now().Before(expiry) {
				return nil, &resolver.InvalidError{Reason: resolver.Expired}
			}
			return &resolver.Session{UserID: "ada", Expiry: resolver.UnixTime(expiry.Unix())}, nil
		}
		if _, err := ask(c, "t"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Second - 1)
		if _, err := ask(c, "t"); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := ask(c, "t"); !errors.Is(err, resolver.ErrInvalid) {
			t.Errorf("at its end: %v, want ErrInvalid", err)
		}
	})
}

func TestWorthlessIsRememberedForTwoSeconds(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}}
	remembering(t, a, func(c *Cache) {
		for range 4 {
			if _, err := ask(c, "bad"); !errors.Is(err, resolver.ErrInvalid) {
				t.Fatalf("Resolve: %v, want ErrInvalid", err)
			}
			time.Sleep(time.Second)
		}
		if n := a.calls.Load(); n != 2 {
			t.Errorf("%d questions in 4 s, want 2", n)
		}
	})
}

func TestAnOutageIsNeverRemembered(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		return nil, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New("refused")}
	}}
	remembering(t, a, func(c *Cache) {
		for range 3 {
			if _, err := ask(c, "t"); err == nil || errors.Is(err, resolver.ErrInvalid) {
				t.Fatalf("Resolve: %v, want an outage", err)
			}
		}
		a.answer = user("ada")
		if s, err := ask(c, "t"); err != nil || s.UserID != "ada" {
			t.Errorf("after the outage: %v, %v", s, err)
		}
	})
}

func TestConcurrentNeedsMakeOneCall(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		time.Sleep(time.Second)
		return &resolver.Session{UserID: "ada"}, nil
	}}
	remembering(t, a, func(c *Cache) {
		impatient, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Resolve(impatient, token("t")); err == nil || errors.Is(err, resolver.ErrInvalid) {
				t.Errorf("the impatient caller got %v, want that nothing was found out", err)
			}
		})
		for range 40 {
			all.Go(func() {
				if s, err := c.Resolve(context.Background(), token("t")); err != nil || s.UserID != "ada" {
					t.Errorf("Resolve = %v, %v", s, err)
				}
			})
		}
		all.Wait()
		if n := a.calls.Load(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
	})
}

// A crowd that waited for one answer lets others go first, one by one; whoever asked does not wait
// for that, and nobody is left without what was found out.
func TestACrowdHasItsAnswerOneByOne(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		time.Sleep(time.Second)
		return &resolver.Session{UserID: "ada"}, nil
	}}
	remembering(t, a, func(c *Cache) {
		c.crowds = new(turn.Turns) // of which there are none
		begin := time.Now()
		resolved := func(who string, after time.Duration) {
			s, err := c.Resolve(context.Background(), token("t"))
			if err != nil || s.UserID != "ada" || time.Since(begin) != after {
				t.Errorf("%s: %v, %v after %s, want ada after %s", who, s, err, time.Since(begin), after)
			}
		}
		var all sync.WaitGroup
		all.Go(func() { resolved("who asked", time.Second) })
		synctest.Wait()
		all.Go(func() { resolved("who waited, too", 5*time.Second) })
		all.Wait()
		c.crowds = turn.New()
		begin = time.Now()
		resolved("who came later", 0)
		for range 10 {
			all.Go(func() { c.Resolve(context.Background(), token("another")) })
		}
		all.Wait()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("with turns it took %s", took)
		}
	})
}

func TestAFloodOfBadTokensPushesNoSessionOut(t *testing.T) {
	a := &authority{answer: func(c resolver.Credentials) (*resolver.Session, error) {
		if c.List[0].Value == "good" {
			return &resolver.Session{UserID: "ada"}, nil
		}
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}}
	remembering(t, a, func(c *Cache) {
		if _, err := ask(c, "good"); err != nil {
			t.Fatal(err)
		}
		for i := range 20_000 {
			c.Resolve(context.Background(), token(string(rune('A'+i%26))+time.Duration(i).String()))
		}
		before := a.calls.Load()
		if _, err := ask(c, "good"); err != nil || a.calls.Load() != before {
			t.Errorf("the session was asked about again (%v)", err)
		}
	})
}

// What ristretto returns for 64 equal bits may be somebody else's.
func TestAnEntryIsComparedWhole(t *testing.T) {
	a := &authority{answer: user("bob")}
	remembering(t, a, func(c *Cache) {
		mine := token("t").Key()
		other := mine
		other[len(other)-1] ^= 1
		ada := &entry{key: other}
		ada.answer.Store(newAnswer(time.Now(), &resolver.Session{UserID: "ada"}, nil))
		c.sessions.Set(mine.Short(), ada, 1)
		c.sessions.Wait()
		if s, err := ask(c, "t"); err != nil || s.UserID != "bob" {
			t.Errorf("Resolve = %v, %v, want bob's session", s, err)
		}
	})
}
