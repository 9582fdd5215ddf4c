package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/resolver"
)

// A world has one cache between clients and a small Authgear, with a clock of its
// own. Tokens are their user's name, a slash, and anything.
type world struct {
	*testing.T
	*Cache
	authgear authority
	local    authority

	mu      sync.Mutex
	revoked map[string]bool // users
	down    bool
	why     error // it is down; nil: it cannot be reached
	noKeys  bool
	latency time.Duration
	roles   string
	blips   int // so many answers are wrongly "absent"
}

const bound = 30 * time.Second

func inWorld(t *testing.T, o Options, story func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, revoked: map[string]bool{}, latency: 50 * time.Millisecond}
		w.authgear.answer = w.ask
		w.local.answer = w.verify
		o.Authgear, o.Strangers = &w.authgear, &w.authgear
		o.MaxStaleness, o.Wait, o.Bytes = bound, 4*time.Second, 1<<20
		if o.Local != nil {
			o.Local = &w.local
		}
		var err error
		if w.Cache, err = New(o); err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		story(w)
		time.Sleep(2 * bound) // what is still to come, comes
	})
}

// hybrid marks options for a world with JWTs; inWorld puts its own verifier in.
var hybrid = Options{Local: &authority{}}

func userOf(c resolver.Credentials) string {
	name, _, _ := cut(c.List[0].Value)
	return name
}

func cut(s string) (before, after string, found bool) {
	for i := range s {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func (w *world) ask(c resolver.Credentials) (*resolver.Session, error) {
	asked := time.Now()
	w.mu.Lock()
	down, why, revoked, roles, latency := w.down, w.why, w.revoked[userOf(c)] || w.blips > 0, w.roles, w.latency
	w.blips--
	w.mu.Unlock()
	time.Sleep(latency)
	switch {
	case userOf(c) == "malformed":
		return nil, resolver.ErrNotAsked
	case down:
		return nil, &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: why}
	case revoked, userOf(c) == "bad":
		return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
	}
	return &resolver.Session{UserID: userOf(c), Roles: roles, Confirmed: asked}, nil
}

// verify takes every token but those of "opaque" for a JWT issued an hour after
// the world began.
func (w *world) verify(c resolver.Credentials) (*resolver.Session, error) {
	w.mu.Lock()
	noKeys := w.noKeys
	w.mu.Unlock()
	if noKeys {
		return nil, &resolver.UnavailableError{Reason: resolver.KeysUnavailable}
	}
	switch userOf(c) {
	case "opaque", "bad", "malformed":
		return nil, resolver.ErrNotMine
	case "forged":
		return nil, &resolver.InvalidError{Reason: resolver.BadSignature}
	case "robot":
		return &resolver.Session{Machine: true, ClientID: "robot"}, nil
	}
	return &resolver.Session{UserID: userOf(c), Roles: "of the token", AMR: "pwd", ClientID: "spa", IssuedAt: resolver.UnixTime(epoch.Unix()), Expiry: resolver.UnixTime(epoch.Add(time.Hour).Unix())}, nil
}

// epoch is when a bubble's clock starts.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// get resolves at once and returns how long that took.
func (w *world) get(value string) (*resolver.Session, time.Duration, error) {
	began := time.Now()
	s, err := w.Resolve(context.Background(), token(value))
	return s, time.Since(began), err
}

// expect resolves and wants "user", "worthless" or "out".
func (w *world) expect(value, want string) *resolver.Session {
	w.Helper()
	s, _, err := w.get(value)
	if have := outcome(s, err); have != want {
		w.Errorf("%s after %s: %s (%v), want %s", value, time.Since(epoch), have, err, want)
	}
	synctest.Wait()
	return s
}

func outcome(s *resolver.Session, err error) string {
	switch {
	case err == nil && s.Confirmed.IsZero() && !s.Machine:
		return "signed"
	case err == nil:
		return "who"
	case errors.Is(err, resolver.ErrInvalid):
		return "worthless"
	}
	return "out"
}

func (w *world) questions(want int32) {
	w.Helper()
	synctest.Wait()
	if n := w.authgear.calls.Swap(0); n != want {
		w.Errorf("after %s: %d questions, want %d", time.Since(epoch), n, want)
	}
}

func TestASessionInUseIsConfirmedBehindTheRequests(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.expect("ada", "who")
		for time.Since(epoch) < 10*time.Minute {
			s, took, err := w.get("ada")
			if err != nil || took != 0 || time.Since(s.Confirmed) > bound {
				t.Fatalf("%v; waited %s for a confirmation %s old", err, took, time.Since(s.Confirmed))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.authgear.calls.Load(); n < 20 || n > 600/18+1 {
			t.Errorf("%d questions in 10 minutes: not one in 0.6 to 0.8 of %s", n, bound)
		}
	})
}

func TestAParallelLoadAsksOncePerSession(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		load := func() {
			var all sync.WaitGroup
			for i := range 1000 {
				all.Go(func() {
					if _, _, err := w.get(strconv.Itoa(i % 100)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		load()
		w.questions(100)
		time.Sleep(bound*6/10 - time.Second)
		load()
		w.questions(0)
		time.Sleep(bound / 2)
		w.questions(100) // one after a pause; and then no more
		time.Sleep(2 * bound)
		w.questions(0)
		load() // at expiry
		w.questions(100)
	})
}

func TestASessionIsConfirmedOnceMoreAfterAPause(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.expect("ada", "who")
		w.questions(1)
		time.Sleep(bound)
		w.questions(1)
		time.Sleep(10 * bound)
		w.questions(0)
		cookie := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.IDPSession, Value: "ada"}}}
		w.Resolve(context.Background(), cookie) // prolonged at once
		time.Sleep(bound)
		w.questions(1)
	})
}

func TestAJWTSeenFirstIsAnsweredAtOnceAndConfirmedBehind(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.roles = "live"
		s := w.expect("ada", "signed")
		if s.Roles != "of the token" {
			t.Errorf("roles %q", s.Roles)
		}
		time.Sleep(time.Second)
		s = w.expect("ada", "who")
		if s.Roles != "live" || s.AMR != "pwd" || s.ClientID != "spa" || s.Expiry == 0 {
			t.Errorf("%+v, want what Authgear says, and amr, client and expiry of the token", s)
		}
		w.questions(1)
		w.expect("forged", "worthless")
		w.expect("robot", "who")
		w.questions(0)
	})
}

func TestAJWTSeenFirstMayWaitForTheConfirmation(t *testing.T) {
	o := hybrid
	o.ConfirmFirst = true
	inWorld(t, o, func(w *world) {
		w.expect("eve", "who")
		w.set(func() { w.revoked["ada"] = true })
		w.expect("ada", "worthless")
	})
}

// The exception to the promise is the length of one round trip, whatever
// ristretto keeps.
func TestARevokedJWTPassesForNoMoreThanOneRoundTrip(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("eve", "signed")
		time.Sleep(time.Second)
		w.set(func() { w.revoked["ada"] = true })
		w.expect("ada", "signed")
		for range 100 {
			time.Sleep(300 * time.Millisecond)
			w.expect("ada", "worthless")
			w.sessions.Clear()
			clear(w.strangers.places)
		}
		w.set(func() { w.down = true })
		time.Sleep(3 * time.Second)
		w.expect("ada", "out")
	})
}

func TestASignOutIsSeenWithinTheBound(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("ada", "signed")
		time.Sleep(time.Second)
		w.set(func() { w.revoked["ada"] = true })
		signedOut := time.Now()
		var last time.Duration
		for time.Since(signedOut) < 2*bound {
			if _, _, err := w.get("ada"); err == nil {
				last = time.Since(signedOut)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if last == 0 || last > bound {
			t.Errorf("the last 200 came %s after the sign-out", last)
		}
	})
}

func TestOneAbsentOfAGoodSessionIsNoSignOut(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.expect("ada", "who")
		time.Sleep(2 * bound)
		w.set(func() { w.blips = 1 })
		w.expect("ada", "who")
		time.Sleep(2 * bound)
		w.set(func() { w.blips = 2 })
		w.expect("ada", "worthless")
		time.Sleep(worthlessFor)
		w.expect("ada", "who")
	})
}

func TestAForgottenUserGoesBackToAuthgear(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("ada/1", "signed")
		w.expect("eve", "signed")
		time.Sleep(time.Second)
		w.set(func() { w.revoked["ada"] = true })
		w.ForgetUser("ada", epoch, true, time.Now())
		w.expect("ada/1", "worthless")
		w.expect("ada/2", "worthless") // not seen yet; issued at the time of the event, and a tie is stale
		w.authgear.calls.Store(0)
		w.expect("eve", "who")
		w.questions(0)
	})
}

func TestAnAnswerUnderWayWhenTheEventComesDoesNotCount(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.expect("ada", "who")
		time.Sleep(2 * bound)
		w.questions(2)
		go func() {
			time.Sleep(w.latency / 2)
			w.set(func() { w.revoked["ada"] = true })
			w.ForgetUser("ada", time.Now().Truncate(time.Second), true, time.Now())
		}()
		w.expect("ada", "worthless")
	})
}

func TestForgettingCredentialsCostsOneQuestion(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("ada", "signed")
		w.expect("opaque", "who")
		time.Sleep(time.Second)
		w.questions(2)
		for _, value := range []string{"ada", "opaque", "bad"} {
			w.Forget(context.Background(), token(value))
		}
		time.Sleep(time.Millisecond) // a tie would count against the answer
		w.questions(0)
		w.expect("ada", "who")
		w.expect("opaque", "who")
		w.expect("ada", "who")
		w.questions(2)
		w.Forget(context.Background(), token("never/seen"))
		time.Sleep(time.Millisecond)
		w.expect("never/seen", "who") // but not on its signature
		if n := len(w.marks.keys); n != 3 {
			t.Errorf("%d marks: strangers must leave none", n)
		}
	})
}

func TestARouteMayAskForAFresherConfirmation(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		ctx := context.Background()
		if s, err := w.Within(5*time.Second).Resolve(ctx, token("ada")); outcome(s, err) != "who" {
			t.Errorf("unseen: %v, %v, want a confirmation", s, err)
		}
		w.questions(1)
		time.Sleep(4 * time.Second)
		w.Within(5*time.Second).Resolve(ctx, token("ada"))
		w.questions(0)
		time.Sleep(2 * time.Second)
		w.Within(5*time.Second).Resolve(ctx, token("ada"))
		w.questions(1)
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				began := time.Now()
				s, err := w.Within(time.Nanosecond).Resolve(ctx, token("ada"))
				if err != nil || s.Confirmed.Before(began) {
					t.Errorf("%v, %v: confirmed before the request", s, err)
				}
			})
		}
		all.Wait()
		w.questions(1)
		w.set(func() { w.down = true })
		time.Sleep(6 * time.Second)
		if s, err := w.Within(5*time.Second).Resolve(ctx, token("ada")); outcome(s, err) != "out" {
			t.Errorf("while Authgear is down: %v, %v", s, err)
		}
		w.expect("ada", "who")
	})
}

func TestAnOutageHasAGrace(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute} {
		o := hybrid
		o.OutageGrace = grace
		inWorld(t, o, func(w *world) {
			w.expect("ada", "signed")
			w.expect("eve", "signed")
			w.expect("opaque", "who")
			time.Sleep(time.Second)
			w.set(func() { w.revoked["eve"] = true })
			w.ForgetUser("eve", epoch, true, time.Now())
			w.expect("eve", "worthless")
			w.set(func() { w.down = true })
			time.Sleep(bound - 3*time.Second)
			w.expect("ada", "who")
			time.Sleep(10 * time.Second)
			want := map[bool]string{false: "out", true: "who"}[grace > 0]
			w.expect("ada", want)
			w.expect("opaque", want)
			w.expect("eve", "out")
			w.expect("unseen", "out")
			time.Sleep(grace)
			w.expect("ada", "out")
			w.set(func() { w.down = false })
			w.expect("ada", "who")
			w.expect("eve", "worthless")
		})
	}
}

// Whoever is asked about may be why a question is refused. That is no outage.
func TestARefusedQuestionHasNoGrace(t *testing.T) {
	o := hybrid
	o.OutageGrace = time.Hour
	inWorld(t, o, func(w *world) {
		w.expect("ada", "signed")
		time.Sleep(time.Second)
		w.set(func() { w.down, w.why = true, fmt.Errorf("answer 400: %w", resolver.ErrRefused) })
		time.Sleep(2 * bound)
		w.expect("ada", "out")
		w.expect("unseen", "out") // it waits for a question that is answered
		time.Sleep(time.Second)
		w.set(func() { w.why = nil })
		w.expect("ada", "who")
		w.expect("nobody", "out")
	})
}

// What Authgear is not asked about, and what it refuses, does not mean that it is back.
func TestAStrangerEndsNoOutage(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("ada", "signed")
		time.Sleep(time.Second)
		w.set(func() { w.down = true })
		w.expect("bob", "signed") // the first to meet it
		time.Sleep(time.Second)
		for stranger, want := range map[string]string{"malformed": "worthless", "opaque": "out"} {
			w.set(func() { w.why = resolver.ErrRefused })
			w.expect(stranger, want)
			w.set(func() { w.why = nil })
			w.expect("revoked since, "+stranger, "out")
		}
	})
}

// A route with a bound of its own is as strict where that is no shorter than the cache's.
func TestARouteIsNoLooserWhereItsBoundIsLonger(t *testing.T) {
	for _, own := range []time.Duration{bound - time.Second, bound, time.Hour} {
		o := hybrid
		o.OutageGrace = time.Hour
		inWorld(t, o, func(w *world) {
			get := func(name string) string {
				s, err := w.Within(own).Resolve(context.Background(), token(name))
				return outcome(s, err)
			}
			w.expect("bob", "signed") // so it is not the resolver that knows no JWT
			time.Sleep(time.Second)
			w.set(func() { w.revoked["eve"] = true })
			if got := get("eve"); got != "worthless" {
				w.Errorf("max_staleness=%s: who was revoked before: %s", own, got)
			}
			if got := get("ada"); got != "who" {
				w.Errorf("max_staleness=%s: %s", own, got)
			}
			w.set(func() { w.down = true })
			time.Sleep(bound + time.Second)
			if got := get("ada"); got != "out" {
				w.Errorf("max_staleness=%s: in an outage: %s", own, got)
			}
			w.expect("ada", "who") // by grace
		})
	}
}

// Without keys nobody can tell whether a token is any good. Its owner may leave all the same.
func TestWhoeverLeavesWithoutKeysHasLeft(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		inWorld(t, hybrid, func(w *world) {
			if !confirmed {
				w.o.Authgear, w.o.Strangers, w.marks.keep = nil, nil, Reach(bound, false)
			}
			w.expect("bob", "signed") // so it is not the resolver that knows no JWT
			time.Sleep(time.Second)
			w.set(func() { w.noKeys = true })
			w.Forget(context.Background(), token("ada"))
			w.set(func() { w.noKeys, w.revoked["ada"] = false, true })
			time.Sleep(10 * time.Minute)
			w.expect("ada", "worthless")
		})
	}
}

// A key may be fetched, or a token become valid, after its owner has left.
func TestWhoeverLeavesBeforeTheTokenIsGoodHasLeft(t *testing.T) {
	for _, reason := range []resolver.Reason{resolver.UnknownKey, resolver.NotYetValid} {
		inWorld(t, Options{}, func(w *world) {
			why := error(&resolver.InvalidError{Reason: reason})
			w.o.Authgear, w.o.Strangers = nil, nil // mode jwt
			w.o.Local = &w.local
			w.local.answer = func(c resolver.Credentials) (*resolver.Session, error) {
				if why != nil {
					return nil, why
				}
				return w.verify(c)
			}
			w.Forget(context.Background(), token("ada"))
			why = nil
			time.Sleep(5 * time.Second)
			w.expect("ada", "worthless")
			w.expect("bob", "signed")
		})
	}
}

// Strangers may have taken all the room there is for tokens that may become good, but not for
// what comes with a session that is known.
func TestWhoLeavesBesideStrangersHasLeftInAnyCompany(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		beside := func(token string) resolver.Credentials {
			return resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: token}, {Slot: resolver.IDPSession, Value: "ada"}}}
		}
		for _, token := range []string{"ada/1", "ada/2"} {
			if _, err := w.Resolve(context.Background(), beside(token)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		w.local.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			if len(c.List) == 1 && c.List[0].Slot == resolver.Bearer {
				return nil, &resolver.InvalidError{Reason: resolver.UnknownKey}
			}
			return nil, resolver.ErrNotMine
		}
		for i := range maxDoubtful {
			w.Forget(context.Background(), token(fmt.Sprint("made up ", i)))
		}
		w.set(func() { w.revoked["ada"] = true })
		w.Forget(context.Background(), beside("ada/1"))
		if s, err := w.Resolve(context.Background(), beside("ada/2")); err == nil {
			t.Errorf("%s passes", s.UserID)
		}
	})
}

// The end of a token may be beyond what a duration can tell.
func TestATokenThatLastsForCenturiesIsAskedAboutOnce(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.local.answer = func(c resolver.Credentials) (*resolver.Session, error) {
			s, err := w.verify(c)
			s.Expiry = resolver.UnixTime(epoch.AddDate(300, 0, 0).Unix())
			return s, err
		}
		for range 20 {
			w.expect("ada", map[bool]string{true: "signed", false: "who"}[w.authgear.calls.Load() == 0])
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.authgear.calls.Load(); n != 1 {
			t.Errorf("%d questions in 2 s, want 1", n)
		}
	})
}

// Machines have no user, and are not all the same one.
func TestMachinesAreRemembered(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		for range 3 {
			for i := range 100 {
				w.expect("robot/"+strconv.Itoa(i), "who")
			}
		}
		if n := w.local.calls.Load(); n != 100 {
			t.Errorf("%d verifications of 100 tokens", n)
		}
	})
}

func TestAResolverThatKnowsNoJWTIsAWrongSetUp(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.set(func() { w.revoked = map[string]bool{"ada": true, "bob": true, "eve": true} })
		w.expect("ada", "signed")
		for _, user := range []string{"ada", "bob", "eve"} {
			time.Sleep(time.Second)
			w.expect(user, "out") // not "worthless": it is no sign-out
			if w.Troubles() == nil {
				w.Error("no word about the trouble")
			}
		}
		w.set(func() { w.revoked = map[string]bool{"eve": true} })
		w.expect("ada", "who")
		w.expect("eve", "worthless")
		if s := w.Troubles(); s != nil {
			w.Errorf("trouble, although a JWT was confirmed: %q", s)
		}
	})
}

// A tab that nobody looks at goes on for hours with a token that was revoked.
func TestADeadTokenCostsOneQuestionAtATime(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.expect("eve", "signed")
		w.expect("ada", "signed")
		w.set(func() { w.revoked["ada"] = true })
		time.Sleep(2 * bound)
		w.expect("ada", "worthless")
		w.authgear.calls.Store(0)
		for range 10 {
			time.Sleep(worthlessFor)
			w.expect("ada", "worthless")
		}
		w.questions(10)
	})
}

func TestWithoutAuthgearAnEventRefusesTheTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t}
		w.local.answer = w.verify
		c, err := New(Options{Local: &w.local, MaxStaleness: bound, Wait: time.Second, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.Cache = c
		w.expect("ada", "signed")
		if _, _, err := w.get("opaque"); !errors.Is(err, resolver.ErrNotMine) {
			t.Errorf("opaque: %v", err)
		}
		time.Sleep(time.Minute)
		w.expect("ada", "signed")
		w.ForgetUser("ada", epoch.Add(-time.Second), true, time.Now())
		time.Sleep(time.Millisecond)
		w.expect("ada", "signed") // issued later
		w.ForgetUser("ada", epoch, false, time.Now())
		time.Sleep(time.Millisecond)
		w.expect("ada", "signed") // nothing ended
		w.ForgetUser("ada", epoch, true, time.Now())
		w.expect("ada", "worthless")
		time.Sleep(50 * time.Minute)
		w.expect("ada", "worthless")
		w.expect("eve", "signed")
		w.Forget(context.Background(), token("eve"))
		w.expect("eve", "worthless")
		w.expect("eve/2", "signed")
	})
}
