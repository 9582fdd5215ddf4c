package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/resolver"
)

// held stands still where a caller first looks at it, like a goroutine that loses
// its processor.
type held struct {
	context.Context
	until chan struct{}
}

func (h held) Deadline() (time.Time, bool) { <-h.until; return time.Time{}, false }

func TestACallerThatWasHeldUpFindsTheAnswer(t *testing.T) {
	a := &authority{answer: user("ada")}
	remembering(t, a, func(c *Cache) {
		h := held{context.Background(), make(chan struct{})}
		var all sync.WaitGroup
		all.Go(func() { c.Resolve(h, token("t")) })
		synctest.Wait()
		ask(c, "t")
		close(h.until)
		all.Wait()
		if n := a.calls.Load(); n != 1 {
			t.Errorf("%d questions, want 1: the answer was there", n)
		}
	})
}

// The first answer may still be on its way into the store when a stricter route
// gets another one.
func TestTheNewerAnswerStays(t *testing.T) {
	for range 100 {
		a := &authority{}
		a.answer = func(resolver.Credentials) (*resolver.Session, error) {
			if a.calls.Load() == 1 {
				time.Sleep(50 * time.Millisecond)
				return &resolver.Session{UserID: "ada"}, nil
			}
			return nil, &resolver.InvalidError{Reason: resolver.SessionInvalid}
		}
		remembering(t, a, func(c *Cache) {
			go c.Resolve(context.Background(), token("t"))
			time.Sleep(time.Millisecond)
			_, strict := c.Within(time.Nanosecond).Resolve(context.Background(), token("t"))
			synctest.Wait()
			if _, err := c.Resolve(context.Background(), token("t")); !errors.Is(strict, resolver.ErrInvalid) || !errors.Is(err, resolver.ErrInvalid) {
				t.Errorf("%v, then %v; want that the session is gone", strict, err)
			}
		})
	}
}

// Whoever has one good cookie can put any other beside it.
func TestOneUserPushesNobodyOut(t *testing.T) {
	a := &authority{answer: func(c resolver.Credentials) (*resolver.Session, error) {
		return &resolver.Session{UserID: c.List[len(c.List)-1].Value}, nil
	}}
	remembering(t, a, func(c *Cache) {
		const others = 500
		all := func() (questions int32) {
			a.calls.Store(0)
			for i := range others {
				ask(c, fmt.Sprint("good", i))
			}
			return a.calls.Load()
		}
		all()
		for i := range 20_000 {
			creds := token(fmt.Sprint("padding", i))
			creds.List = append(creds.List, resolver.Credential{Slot: resolver.IDPSession, Value: "mallory"})
			c.Resolve(context.Background(), creds)
		}
		if n := all(); n != 0 {
			t.Errorf("%d of %d sessions were pushed out", n, others)
		}
		a.calls.Store(0)
		time.Sleep(bound)
		if n := a.calls.Load(); n > others+newPerMinute {
			t.Errorf("%d questions after a pause, want %d at most", n, others+newPerMinute)
		}
	})
}

func TestWhatIsNotUsedLeaves(t *testing.T) {
	a := &authority{answer: func(c resolver.Credentials) (*resolver.Session, error) {
		s := &resolver.Session{UserID: "ada"}
		if c.List[0].Value == "jwt" {
			s.Expiry = resolver.UnixTime(time.Now().Add(time.Hour).Unix())
		}
		return s, nil
	}}
	remembering(t, a, func(c *Cache) {
		ask(c, "opaque")
		ask(c, "jwt")
		time.Sleep(10 * time.Minute)
		if find(c.sessions, token("opaque").Key()) != nil || find(c.sessions, token("jwt").Key()) == nil {
			t.Error("want the opaque token gone, and the JWT known until its end")
		}
	})
}

// However quick Authgear is to fail, the first request is answered alike.
func TestAQuickFailureTurnsNobodyAwayWhoCameBefore(t *testing.T) {
	for range 300 {
		inWorld(t, hybrid, func(w *world) {
			w.set(func() { w.down, w.latency = true, 0 })
			w.expect("ada", "signed")
			w.expect("ada", "out")
		})
	}
}

func TestAFailureTakesNoForgettingBack(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.set(func() { w.down = true })
		w.expect("ada", "signed")
		w.Forget(context.Background(), token("ada")) // while the question is under way
		w.expect("ada", "out")
	})
}

// jam is an Authgear whose queue never moves.
type jam struct{}

func (jam) Resolve(ctx context.Context, _ resolver.Credentials) (*resolver.Session, error) {
	<-ctx.Done()
	return nil, &resolver.UnavailableError{Reason: resolver.Overloaded, Err: ctx.Err()}
}

func TestOverloadedIsSaidAndHasNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jammed atomic.Bool
		a := &authority{answer: user("ada")}
		a.answer = func(creds resolver.Credentials) (*resolver.Session, error) {
			if jammed.Load() {
				ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
				defer cancel()
				return jam{}.Resolve(ctx, creds)
			}
			return &resolver.Session{UserID: "ada"}, nil
		}
		c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: 2 * time.Second, OutageGrace: time.Hour, Wait: time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask(c, "t")
		jammed.Store(true)
		time.Sleep(3 * time.Second)
		if _, err := ask(c, "t"); outOf(err) != resolver.Overloaded {
			t.Errorf("Resolve: %v, want overloaded", err)
		}
	})
}
