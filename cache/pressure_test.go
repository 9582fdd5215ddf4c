package cache

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/resolver"
)

func TestEvictionsAreWhatHadNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := everybody{}
		c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: time.Second, Wait: time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		see := func(from, to int) {
			for i := from; i < to; i++ {
				one := resolver.Credential{Slot: resolver.Bearer, Value: fmt.Sprint("token", i)}
				if _, err := c.Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{one}}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		see(0, 60)
		if c.Evictions() != 0 || c.Bytes() < 60*entryBytes {
			t.Errorf("%d evictions, %d bytes; want none, and all of them remembered", c.Evictions(), c.Bytes())
		}
		time.Sleep(time.Minute) // none is used any more
		synctest.Wait()
		if c.Evictions() != 0 || c.Bytes() != 0 {
			t.Errorf("%d evictions, %d bytes; want neither: their time has come", c.Evictions(), c.Bytes())
		}
		const many = 4000
		see(100, 100+many)
		room := uint64(1<<20) / entryBytes
		if n := c.Evictions(); n < many-room || n >= many {
			t.Errorf("%d evictions of %d sessions, with room for %d at most", n, many, room)
		}
		if c.Bytes() > 1<<20 {
			t.Errorf("%d bytes", c.Bytes())
		}
	})
}

// Whoever comes while there is no room, and stays, gets some.
func TestWhoIsSeenAgainGetsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := everybody{}
		c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: time.Hour, Wait: time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		asked := 0
		see := func(name string) {
			trace := new(resolver.Trace)
			one := resolver.Credential{Slot: resolver.Bearer, Value: name}
			if _, err := c.Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{one}, Trace: trace}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if trace.Lookup == resolver.Miss {
				asked++
			}
		}
		for i := range 20_000 {
			see(fmt.Sprint("once", i))
		}
		const users, times = 50, 100
		asked = 0
		for range times {
			for i := range users {
				see(fmt.Sprint("user", i))
			}
		}
		if asked > 4*users {
			t.Errorf("about %d users who came %d times each Authgear was asked %d times", users, times, asked)
		}
	})
}

// A crowd is what judges new tokens only when it comes to it, and known ones at once.
type crowd struct{ waiting atomic.Bool }

func (c *crowd) Resolve(_ context.Context, creds resolver.Credentials) (*resolver.Session, error) {
	if c.waiting.Load() && !creds.Known {
		return nil, &resolver.UnavailableError{Reason: resolver.Overloaded}
	}
	return &resolver.Session{UserID: "ada", Expiry: resolver.UnixTime(time.Now().Add(time.Hour).Unix())}, nil
}

// While so many new tokens come that some are turned away, who is remembered is confirmed.
func TestACrowdOfNewTokensDelaysNoKnownOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, a := &crowd{}, everybody{}
		c, err := New(Options{Local: local, Authgear: a, Strangers: a, MaxStaleness: time.Minute, Wait: time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask := func(text string) error {
			_, err := c.Resolve(context.Background(), token(text))
			synctest.Wait()
			return err
		}
		if err := ask("known"); err != nil {
			t.Fatal(err)
		}
		local.waiting.Store(true)
		for range 10 { // bounds
			time.Sleep(2 * time.Minute)
			if err := ask("known"); err != nil {
				t.Fatal(err)
			}
		}
		if err := ask("new"); resolver.ReasonOf(err) != resolver.Overloaded {
			t.Errorf("a new one: %v", err)
		}
	})
}
