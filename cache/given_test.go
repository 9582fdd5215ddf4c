package cache

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"authgear-forward-auth/resolver"
)

// The memory of a request, its trace and what describes its client are used again once
// Resolve has returned, while Authgear is still being asked.
func TestWhatIsGivenMayBeChangedOnceItIsAnswered(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		answered := false
		look := w.authgear.answer
		w.authgear.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			time.Sleep(time.Millisecond) // by then it is answered, and changed
			if who, agent := c.List[0].Value, c.Client().UserAgent; who != "ada/1" || agent != "Mozilla" || c.Trace != nil {
				t.Errorf("asked about %q of %q, with the trace %v", who, agent, c.Trace)
			}
			return look(c)
		}
		for _, wait := range []time.Duration{0, bound * 9 / 10} { // first on the signature, then remembered, and confirmed behind
			time.Sleep(wait)
			value, agent := []byte("ada/1"), []byte("Mozilla")
			answered = false
			creds := token(unsafe.String(&value[0], len(value)))
			creds.Trace = new(resolver.Trace)
			creds.Client = func() resolver.Client {
				if answered {
					t.Error("the client is described when it has gone")
				}
				return resolver.Client{UserAgent: unsafe.String(&agent[0], len(agent))}
			}
			if _, err := w.Resolve(context.Background(), creds); err != nil {
				t.Fatal(err)
			}
			answered = true
			copy(value, "eve/2")
			copy(agent, "another")
			time.Sleep(time.Second)
			synctest.Wait()
		}
		w.questions(2)
	})
}

// It may be confirmed once more later, though another replica answered.
func TestWhatIsGivenMayBeChangedOnceOthersHaveAnswered(t *testing.T) {
	amongOthers(t, Options{}, func(w *world, o *others) {
		look := w.authgear.answer
		w.authgear.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			if c.List[0].Value != "opaque/1" {
				t.Errorf("asked about %q", c.List[0].Value)
			}
			return look(c)
		}
		o.know(confirmed(0))
		value := []byte("opaque/1")
		if _, err := w.Resolve(t.Context(), token(unsafe.String(&value[0], len(value)))); err != nil {
			t.Fatal(err)
		}
		copy(value, "another!")
		o.know(func(resolver.Credentials) (*resolver.Session, error) { return nil, resolver.ErrNotMine })
		w.questions(0)
		time.Sleep(bound)
		w.questions(1)
	})
}

// Another replica may have asked Authgear earlier: then what it was told is as old as that.
func TestAnAnswerIsAsOldAsTheQuestionOfWhoeverPutIt(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		look := w.authgear.answer
		w.authgear.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			s, err := look(c)
			if err == nil {
				s.Confirmed = s.Confirmed.Add(-bound * 8 / 10)
			}
			return s, err
		}
		w.expect("opaque", "who")
		w.set(func() { w.revoked["opaque"] = true })
		time.Sleep(bound/5 + 1)
		w.expect("opaque", "worthless")
	})
}

// Nobody gets an answer that has become too old on its way.
func TestNobodyWaitsLongerThanTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{answer: func(resolver.Credentials) (*resolver.Session, error) {
			asked := time.Now()
			time.Sleep(3 * time.Second)
			return &resolver.Session{UserID: "ada", Confirmed: asked}, nil
		}}
		c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: time.Second, Wait: 4 * time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if s, err := c.Resolve(context.Background(), token("t")); err == nil {
			t.Errorf("confirmed %s ago", time.Since(s.Confirmed))
		}
	})
}

// While the machine slept, time went on.
func TestAnAnswerAgesWhileTheMachineSleeps(t *testing.T) {
	now := time.Now()
	asked := now
	*(*uint64)(unsafe.Pointer(&asked)) -= 60 << 30 // a minute before, by the clock on the wall alone: see step in the tests of resolver
	if age := newAnswer(asked, nil, resolver.ErrInvalid).age(now); age != time.Minute {
		t.Errorf("it is %s old, want 1m", age)
	}
}

// That Authgear does not know a JWT is asked twice. After the first word nobody is answered
// on its signature.
func TestAJWTPassesUntilTheFirstWord(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("eve", "signed") // so it is not the resolver that knows no JWT
		time.Sleep(time.Second)
		w.set(func() { w.revoked["ada"] = true })
		w.expect("ada", "signed")
		time.Sleep(w.latency / 2)
		w.expect("ada", "signed")
		time.Sleep(w.latency)
		w.expect("ada", "worthless")
	})
}

// A JWT passes on its signature when it is seen first, and never again: after a pause it
// waits for Authgear.
func TestAJWTSeenBeforeWaitsForAuthgear(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("ada", "signed")
		time.Sleep(10 * bound)
		w.expect("ada", "who")
		time.Sleep(10 * bound)
		w.set(func() { w.revoked["ada"] = true })
		w.expect("ada", "worthless")
	})
}

// An event that ended no session, such as another role, counts all the same where Authgear
// can be asked.
func TestAnEventThatEndedNothingIsAskedAbout(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		for _, who := range []string{"ada", "opaque"} {
			w.Resolve(context.Background(), token(who))
			time.Sleep(time.Second)
			w.expect(who, "who")
			w.set(func() { w.roles = "former " + who })
			w.ForgetUser(who, time.Now().Truncate(time.Second), false, time.Now())
			time.Sleep(time.Millisecond)
			if s := w.expect(who, "who"); s.Roles != "former "+who {
				t.Errorf("the roles of %s are still %q", who, s.Roles)
			}
		}
	})
}

// Where Authgear is not asked, whoever left has left until the token ends, however often it
// is sent.
func TestWhoHasLeftStaysAwayWithoutAuthgear(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.o.Authgear, w.o.Strangers = nil, nil
		w.expect("ada", "signed")
		w.Forget(context.Background(), token("ada"))
		for range 20 {
			time.Sleep(2 * worthlessFor)
			w.expect("ada", "worthless")
		}
	})
}

// Marks that are too old to matter are dropped, and no others.
func TestMarksStayAsLongAsTheyMatter(t *testing.T) {
	for name, mark := range map[string]func(w *world, who string){
		"of a user":      func(w *world, who string) { w.ForgetUser(who, time.Now(), true, time.Now()) },
		"of credentials": func(w *world, who string) { w.Forget(context.Background(), token(who)) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				w.ForgetUser("anybody", time.Now(), true, time.Now()) // from here on they are looked at each minute
				time.Sleep(59 * time.Second)
				w.expect("opaque", "who")
				time.Sleep(500 * time.Millisecond)
				w.set(func() { w.revoked["opaque"] = true })
				mark(w, "opaque")
				time.Sleep(time.Second)
				w.ForgetUser("somebody", time.Now(), true, time.Now())
				w.expect("opaque", "worthless")
			})
		})
	}
}

// A token that Authgear refused is refused until its end, with leeway.
func TestARefusedTokenIsRefusedWithinTheLeeway(t *testing.T) {
	o := hybrid
	o.Skew = 5 * time.Minute
	inWorld(t, o, func(w *world) {
		w.expect("eve", "signed") // so it is not the resolver that knows no JWT
		time.Sleep(time.Second)
		w.set(func() { w.revoked["ada"] = true })
		w.expect("ada", "signed")
		time.Sleep(time.Hour + time.Minute)
		w.ForgetUser("anybody", time.Now(), true, time.Now()) // old marks are dropped
		w.expect("ada", "worthless")
	})
}

// What other replicas were told of a JWT comes with what only the token tells, and instead of
// what it tells of roles.
func TestWhatOthersTellOfAJWTHasItsOwnTexts(t *testing.T) {
	amongOthers(t, hybrid, func(w *world, o *others) {
		o.know(confirmed(bound / 2))
		if s := w.expect("ada", "who"); s.ClientID != "spa" || s.AMR != "pwd" || s.Expiry == 0 {
			t.Errorf("%+v, want client, amr and expiry of the token", s)
		}
		o.know(func(resolver.Credentials) (*resolver.Session, error) { return nil, resolver.ErrNotMine })
		w.set(func() { w.revoked["bob"] = true })
		w.Resolve(context.Background(), token("bob"))
		time.Sleep(time.Second)
		w.expect("bob", "worthless") // the resolver knows JWTs: another replica was told of one
	})
}

// Only those that nobody vouches for wait with strangers.
func TestWhoIsVouchedForIsNoStranger(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		var full atomic.Bool
		strangers := &authority{answer: func(c resolver.Credentials) (*resolver.Session, error) {
			if full.Load() {
				return nil, &resolver.UnavailableError{Reason: resolver.Overloaded}
			}
			return w.ask(c)
		}}
		w.o.Strangers = strangers
		w.expect("opaque/1", "who")
		full.Store(true)
		time.Sleep(2 * bound)
		w.expect("opaque/1", "who")
		w.expect("opaque/2", "out")
		w.expect("ada", "signed") // too many strangers are no outage
		time.Sleep(time.Second)
		w.expect("ada", "who")
		if n := strangers.calls.Load(); n != 2 {
			t.Errorf("%d were taken for strangers, want 2", n)
		}
	})
}

// While its database fails, Authgear may say that it does not know a good JWT.
func TestOneAbsentOfANewJWTIsNoSignOut(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("eve", "signed") // so it is not the resolver that knows no JWT
		time.Sleep(time.Second)
		w.set(func() { w.blips = 1 })
		w.expect("ada", "signed")
		time.Sleep(time.Second)
		w.expect("ada", "who")
	})
}
