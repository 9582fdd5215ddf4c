package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"authgear-forward-auth/resolver"
)

// others are the other replicas, and what they were told.
type others struct {
	mu      sync.Mutex
	known   func(resolver.Credentials) (*resolver.Session, error)
	asked   []question
	refused atomic.Int32
	left    []resolver.Key
}

// A question to the others: how old an answer may be.
type question struct {
	oldest    time.Duration
	unhurried bool
}

func (o *others) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, question{time.Since(c.NotBefore), c.Unhurried})
	return o.known(c)
}

func (o *others) know(f func(resolver.Credentials) (*resolver.Session, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = f
}

// lastAsked is what the last question was.
func (o *others) lastAsked() question {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[len(o.asked)-1]
}

// amongOthers tells a story with others that know nothing at first.
func amongOthers(t *testing.T, options Options, story func(w *world, o *others)) {
	o := &others{known: func(resolver.Credentials) (*resolver.Session, error) { return nil, resolver.ErrNotMine }}
	options.Others = &Others{
		Known:   o,
		Refused: func(resolver.Credentials, time.Time) { o.refused.Add(1) },
		Left:    func(key resolver.Key, _ time.Time) { o.left = append(o.left, key) },
	}
	inWorld(t, options, func(w *world) { story(w, o) })
}

// confirmed is what others know who asked so long ago.
func confirmed(ago time.Duration) func(resolver.Credentials) (*resolver.Session, error) {
	return func(c resolver.Credentials) (*resolver.Session, error) {
		at := time.Now().Add(-ago)
		if at.Before(c.NotBefore) {
			return nil, resolver.ErrNotMine
		}
		return &resolver.Session{UserID: userOf(c), Confirmed: at}, nil
	}
}

func TestWhatOthersWereToldCostsNoQuestion(t *testing.T) {
	for _, o := range []Options{{}, hybrid} {
		amongOthers(t, o, func(w *world, o *others) {
			o.know(confirmed(bound / 2))
			s := w.expect("opaque/1", "who")
			w.questions(0)
			if ago := time.Since(s.Confirmed); ago != bound/2 {
				t.Errorf("confirmed %s ago", ago)
			}
			// It ages as if it had been asked for here.
			w.set(func() { w.revoked["opaque"] = true })
			o.know(confirmed(time.Hour))
			time.Sleep(bound/2 + 1)
			w.expect("opaque/1", "worthless")
		})
	}
}

func TestOthersAreAskedForWhatWillDo(t *testing.T) {
	amongOthers(t, Options{}, func(w *world, o *others) {
		w.expect("opaque/1", "who")
		if q := o.lastAsked(); q != (question{bound, false}) {
			t.Errorf("seen first: %+v", q)
		}
		time.Sleep(bound * 9 / 10)
		w.expect("opaque/1", "who")
		if q := o.lastAsked(); q != (question{bound * 6 / 10, true}) {
			t.Errorf("used for long: %+v", q)
		}
		w.ForgetUser("opaque", time.Now(), true, time.Now())
		forgotten := time.Now()
		o.know(confirmed(time.Second)) // which is too old now
		w.expect("opaque/1", "who")
		if s := w.expect("opaque/1", "who"); s.Confirmed.Before(forgotten) {
			t.Errorf("confirmed %s before the event", forgotten.Sub(s.Confirmed))
		}
	})
}

func TestAJWTThatOthersRefuseWaitsForAuthgear(t *testing.T) {
	amongOthers(t, hybrid, func(w *world, o *others) {
		o.know(func(resolver.Credentials) (*resolver.Session, error) {
			return nil, &resolver.InvalidError{Reason: resolver.Revoked}
		})
		w.expect("ada/1", "who") // not on its signature; and Authgear has the last word
		w.set(func() { w.revoked["bob"] = true })
		w.expect("bob/1", "worthless")
		if n := o.refused.Load(); n != 1 {
			t.Errorf("others were told of %d refused JWTs, want 1", n)
		}
	})
}

func TestOthersAreToldWhoLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		used bool
		err  error // what others say
		told int
	}{
		"known here":          {true, resolver.ErrNotMine, 1},
		"known there":         {false, nil, 1},
		"known nowhere":       {false, resolver.ErrNotMine, 1}, // it may be asked about there, or lost
		"nobody can be asked": {false, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New("away")}, 1},
	} {
		amongOthers(t, Options{}, func(w *world, o *others) {
			if tt.used {
				w.expect("opaque/1", "who")
			}
			o.know(func(c resolver.Credentials) (*resolver.Session, error) {
				return &resolver.Session{UserID: userOf(c), Confirmed: time.Now()}, tt.err
			})
			w.Forget(t.Context(), token("opaque/1"))
			if len(o.left) != tt.told {
				t.Errorf("%s: others were told of %d who left, want %d", name, len(o.left), tt.told)
			}
		})
	}
}

// While nobody can tell strangers from others, they must neither fill the memory nor keep others
// from being told who left.
func TestStrangersWhoLeaveAreBounded(t *testing.T) {
	amongOthers(t, Options{}, func(w *world, o *others) {
		flood := func() {
			for i := range maxDoubtful + 1000 {
				w.Forget(context.Background(), token(fmt.Sprint("opaque/", i)))
			}
		}
		w.expect("ada", "who")
		both := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: "bob/1"}, {Slot: resolver.IDPSession, Value: "bob/2"}}}
		if _, err := w.Resolve(context.Background(), both); err != nil {
			t.Fatal(err)
		}
		flood()
		if n := len(w.marks.keys); n != maxDoubtful {
			t.Errorf("%d are marked, want %d", n, maxDoubtful)
		}
		if n := len(o.left); n != rumoursAtOnce {
			t.Errorf("others were told of %d, want %d", n, rumoursAtOnce)
		}
		w.Forget(context.Background(), token("ada"))
		if n := len(o.left); n != rumoursAtOnce+1 || o.left[n-1] != token("ada").Key() {
			t.Errorf("others were told of %d, want one more: who is known", n)
		}
		o.left = nil
		w.Forget(context.Background(), both)
		if len(w.marks.keys) != maxDoubtful+4 || len(o.left) != 1 || o.left[0] != both.Key() {
			t.Errorf("others were told of %d, want who is known, and nothing of its parts", len(o.left))
		}
		time.Sleep(time.Minute)
		o.left = nil
		w.Forget(context.Background(), token("opaque/new"))
		if len(w.marks.keys) != 1 || len(o.left) != 1 {
			t.Errorf("a minute later %d are marked, and others are told of %d, want 1", len(w.marks.keys), len(o.left))
		}
	})
}

// In mode jwt, what others are told matters for long: it is told once, and without keys of each.
func TestOthersAreToldOnceOfWhatLasts(t *testing.T) {
	for name, tt := range map[string]struct {
		noKeys, same bool
		told         int
	}{
		"a token again and again":                {false, true, 1 + rumoursAtOnce},
		"many tokens":                            {false, false, 3000},
		"many tokens, while the keys are away":   {true, false, 3000},
		"the same token, while the keys are not": {true, true, 1 + rumoursAtOnce},
	} {
		amongOthers(t, hybrid, func(w *world, o *others) {
			w.o.Authgear, w.o.Strangers, w.marks.keep = nil, nil, Reach(bound, false)
			w.rumours.SetLimit(rate.Every(w.marks.keep / maxDoubtful))
			w.noKeys = tt.noKeys
			for i := range 3000 {
				if tt.same {
					i = 0
				}
				w.Forget(context.Background(), token(fmt.Sprint("user", i)))
			}
			if n := len(o.left); n != tt.told {
				t.Errorf("%s: others were told %d times, want %d", name, n, tt.told)
			}
		})
	}
}

// Others may not have been told while nobody could tell whether the token is any good.
func TestOthersAreToldOfWhatTurnsOutToBeGood(t *testing.T) {
	amongOthers(t, hybrid, func(w *world, o *others) {
		w.o.Authgear, w.o.Strangers = nil, nil // mode jwt
		w.rumours.SetBurst(0)
		w.local.answer = func(resolver.Credentials) (*resolver.Session, error) {
			return nil, &resolver.InvalidError{Reason: resolver.UnknownKey}
		}
		w.Forget(context.Background(), token("ada"))
		if len(o.left) != 0 {
			t.Error("others are told")
		}
		w.local.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			s, err := w.verify(c)
			s.Expiry = resolver.UnixTime(time.Now().Add(time.Minute).Unix())
			return s, err
		}
		w.Forget(context.Background(), token("ada"))
		if len(o.left) != 1 {
			t.Error("others are not told")
		}
	})
}

// What can never pass leaves nothing behind.
func TestWhatCanNeverPassIsNotForgotten(t *testing.T) {
	for name, tt := range map[string]struct {
		alone bool  // mode jwt
		why   error // of Local
	}{
		"an opaque token where Authgear is not asked": {true, resolver.ErrNotMine},
		"a JWT with a wrong signature":                {false, &resolver.InvalidError{Reason: resolver.BadSignature}},
	} {
		amongOthers(t, hybrid, func(w *world, o *others) {
			if tt.alone {
				w.o.Authgear, w.o.Strangers = nil, nil
			}
			w.local.answer = func(resolver.Credentials) (*resolver.Session, error) { return nil, tt.why }
			w.Forget(context.Background(), token("mallory"))
			if len(w.marks.keys) != 0 || len(o.left) != 0 {
				t.Errorf("%s: %d are marked, others were told of %d, want none", name, len(w.marks.keys), len(o.left))
			}
		})
	}
}

// What others have of it may be older than the refusal, and come late.
func TestWhoWasRefusedIsNotTakenFromOthers(t *testing.T) {
	o := Options{OutageGrace: time.Minute}
	amongOthers(t, o, func(w *world, o *others) {
		before := time.Now() // another one asked
		time.Sleep(time.Second)
		w.set(func() { w.revoked["opaque"] = true })
		w.expect("opaque/1", "worthless")
		o.know(func(c resolver.Credentials) (*resolver.Session, error) {
			if before.Before(c.NotBefore) {
				return nil, resolver.ErrNotMine
			}
			return &resolver.Session{UserID: "opaque", Confirmed: before}, nil
		})
		w.set(func() { w.down = true })
		for range 60 {
			time.Sleep(3 * time.Second)
			if s, err := w.Resolve(context.Background(), token("opaque/1")); err == nil {
				t.Fatalf("%s after it was refused: %v", time.Since(before), s)
			}
		}
	})
}

// What is known here of a JWT that Authgear has refused elsewhere has no grace.
func TestWhatOthersRefuseHasNoGrace(t *testing.T) {
	o := hybrid
	o.OutageGrace = 10 * time.Minute
	amongOthers(t, o, func(w *world, o *others) {
		w.expect("ada", "signed")
		time.Sleep(time.Second)
		w.expect("ada", "who")
		w.set(func() { w.down = true })
		o.know(func(resolver.Credentials) (*resolver.Session, error) {
			return nil, &resolver.InvalidError{Reason: resolver.Revoked}
		})
		time.Sleep(2 * bound)
		w.expect("ada", "out")
	})
}

// An event comes while somebody waits, and what the others know is from just before it.
func TestWhatOthersKnewBeforeAnEventIsNotTakenTwice(t *testing.T) {
	amongOthers(t, Options{}, func(w *world, o *others) {
		var at time.Time
		o.know(func(c resolver.Credentials) (*resolver.Session, error) {
			time.Sleep(time.Millisecond)
			if at.IsZero() {
				at = time.Now()
				time.Sleep(time.Millisecond)
				w.ForgetUser("opaque", at, false, time.Now())
			}
			if at.Before(c.NotBefore) {
				return nil, resolver.ErrNotMine
			}
			return &resolver.Session{UserID: "opaque", Confirmed: at}, nil
		})
		w.expect("opaque", "who")
		w.questions(1)
	})
}

// Who has left by what another replica says has left here, whatever the clock is there.
func TestTheClockOfWhoTellsDoesNotBringBackWhoLeft(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.expect("opaque", "who")
		time.Sleep(time.Second)
		w.set(func() { w.revoked["opaque"] = true })
		w.ForgetKey(token("opaque").Key(), time.Now().Add(-time.Minute), time.Now())
		w.marks.sweep = time.Time{}
		w.ForgetKey(resolver.Key{1}, time.Now().Add(time.Hour), time.Now()) // tidies up
		w.expect("opaque", "worthless")
	})
}
