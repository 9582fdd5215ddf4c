package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// Two of one place: each is found as long as it is there, and never in place of the other.
func TestAStrangerIsComparedWhole(t *testing.T) {
	a := resolver.Key{1, 15: 1}
	for _, b := range []resolver.Key{{1, 15: 2}, {2, 15: 1}} {
		s := newStrangers(0) // but for one
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
}

// They have a part of the memory, and most of so many as that has room for are there.
func TestStrangersHaveAPartOfTheMemory(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}}
	remembering(t, a, func(c *Cache) {
		if n := len(c.strangers.places); n*strangerBytes*worthlessPart != 1<<20 {
			t.Errorf("%d places", n)
		}
		const some = 64
		for range 2 {
			for i := range some {
				c.Resolve(context.Background(), token(fmt.Sprint(i)))
			}
		}
		if n := a.calls.Load(); n > some*3/2 {
			t.Errorf("asked %d times about %d bad tokens, each seen twice", n, some)
		}
	})
}

// Who looked before the answer was there, and asks when it is, finds it.
func TestOneAnswerAboutAStrangerIsEnough(t *testing.T) {
	a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}}
	remembering(t, a, func(c *Cache) {
		ask(c, "t")
		key := token("t").Key()
		if f, _, mine := c.begin(key, nil, nil); mine || f.answer == nil || !f.answer.isWorthless() {
			t.Error("it is asked about once more")
		}
		if _, _, mine := c.begin(key, c.strangers.find(key), nil); !mine {
			t.Error("the answer that did not serve is given again")
		}
		time.Sleep(worthlessFor)
		c.flights.leave(key, c.flights.byKey[key])
		if _, _, mine := c.begin(key, nil, nil); !mine {
			t.Error("it is not asked about after its time")
		}
		c.flights.all.Add(-2) // which nobody flies
	})
}
