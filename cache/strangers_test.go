package cache

import (
	"context"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// Two of one place: each is found as long as it is there, and never in place of the other.
func TestAStrangerIsComparedWhole(t *testing.T) {
	s := newStrangers(8 * strangerBytes)
	a, b := resolver.Key{7: 3}, resolver.Key{7: 3 + 8}
	if s.place(a) != s.place(b) {
		t.Fatal("they have two places")
	}
	b[15] = 1
	first, second := &answer{}, &answer{}
	s.keep(a, first)
	if s.find(a) != first || s.find(b) != nil {
		t.Error("the first one was there")
	}
	s.keep(b, second)
	if s.find(a) != nil || s.find(b) != second {
		t.Error("the second one took its place")
	}
}

// However small the memory is, there is room for one.
func TestStrangersAreRememberedForTwoSeconds(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}}
	remembering(t, a, func(c *Cache) {
		c.strangers = newStrangers(0)
		for range 40 {
			c.Resolve(context.Background(), token("t"))
			time.Sleep(worthlessFor / 20)
		}
		if n := a.calls.Load(); n != 2 {
			t.Errorf("asked %d times, want 2: once in %s", n, worthlessFor)
		}
	})
}
