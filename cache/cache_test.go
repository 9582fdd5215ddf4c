package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/turn/turntest"
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

// A crowd that waited for one answer lets others go first, one by one. Whoever asked does not wait
// for that, nor does anybody for long, and nobody is left without what was found out.
func TestACrowdHasItsAnswerOneByOne(t *testing.T) {
	for name, answer := range map[string]func(resolver.Credentials) (*resolver.Session, error){
		"good": user("ada"), "worthless": func(resolver.Credentials) (*resolver.Session, error) {
			return nil, &resolver.InvalidError{Reason: resolver.Expired}
		},
		"nothing": func(resolver.Credentials) (*resolver.Session, error) {
			return nil, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable}
		},
	} {
		a := &authority{answer: func(creds resolver.Credentials) (*resolver.Session, error) {
			time.Sleep(time.Second)
			return answer(creds)
		}}
		remembering(t, a, func(c *Cache) {
			begin := time.Now()
			want, wantErr := answer(resolver.Credentials{})
			resolved := func(who string, after time.Duration) {
				s, err := c.Resolve(context.Background(), token("t"))
				if outcome(s, err) != outcome(want, wantErr) || time.Since(begin) != after {
					t.Errorf("%s, %s: %v, %v after %s, want that after %s", name, who, s, err, time.Since(begin), after)
				}
			}
			var all sync.WaitGroup
			all.Go(func() { resolved("who asked", time.Second) })
			synctest.Wait()
			c.flights.mu.Lock()
			c.flights.byKey[token("t").Key()].crowd = make(chan struct{}) // nobody is ever next
			c.flights.mu.Unlock()
			all.Go(func() { resolved("who waited, too", time.Second+5*time.Second/50) })
			all.Wait()

			begin = time.Now()
			for range 10 {
				all.Go(func() { c.Resolve(context.Background(), token("another")) })
			}
			all.Wait()
			if took := time.Since(begin); took != time.Second {
				t.Errorf("%s: with turns it took %s", name, took)
			}

			leave := turntest.TakeAll(t)
			begin = time.Now()
			for range 10 {
				all.Go(func() { c.Resolve(context.Background(), token("a third")) })
			}
			all.Wait()
			leave()
			if took := time.Since(begin); took != time.Second+5*time.Second/50 {
				t.Errorf("%s: without turns it took %s", name, took)
			}
		})
	}
}

// A crowd keeps nobody waiting who waits for another answer.
func TestACrowdIsOfOneAnswer(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		time.Sleep(time.Second)
		return &resolver.Session{UserID: "ada"}, nil
	}}
	remembering(t, a, func(c *Cache) {
		var all sync.WaitGroup
		for _, of := range []string{"ada's", "another's"} {
			for range 2 {
				all.Go(func() { c.Resolve(context.Background(), token(of)) })
			}
		}
		synctest.Wait()
		c.flights.mu.Lock()
		one, another := c.flights.byKey[token("ada's").Key()].crowd, c.flights.byKey[token("another's").Key()].crowd
		c.flights.mu.Unlock()
		if one == nil || another == nil || one == another {
			t.Errorf("the crowds wait in %v and %v", one, another)
		}
		all.Wait()
	})
}

// Whose answer is too old asks again together with all others, not one after the other.
func TestACrowdAsksAgainTogether(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		time.Sleep(time.Second)
		return &resolver.Session{UserID: "ada"}, nil
	}}
	remembering(t, a, func(c *Cache) {
		fresh := c.Within(time.Nanosecond)
		var all sync.WaitGroup
		all.Go(func() { fresh.Resolve(context.Background(), token("t")) })
		time.Sleep(time.Second / 2) // so that the first answer is too old for all others
		for range 40 {
			all.Go(func() {
				if s, err := fresh.Resolve(context.Background(), token("t")); err != nil || s.UserID != "ada" {
					t.Errorf("Resolve = %v, %v", s, err)
				}
			})
		}
		all.Wait()
		if n := a.calls.Load(); n != 2 {
			t.Errorf("%d questions, want 2", n)
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
