package resolver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/turn/turntest"
)

// busy is an Authgear that takes a while, and may be down.
type busy struct {
	latency             time.Duration
	down                atomic.Bool
	calls, atOnce, most atomic.Int32
}

func (b *busy) Resolve(ctx context.Context, _ Credentials) (*Session, error) {
	b.calls.Add(1)
	n := b.atOnce.Add(1)
	defer b.atOnce.Add(-1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	select {
	case <-time.After(b.latency):
	case <-ctx.Done():
		return nil, unavailable("too slow")
	}
	if b.down.Load() {
		return nil, unavailable("down")
	}
	return &Session{UserID: "ada"}, nil
}

func guarded(t *testing.T, story func(*busy, *Guard)) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{latency: 100 * time.Millisecond}
		story(b, NewGuard(b, func(error) {}))
	})
}

func reasonOf(err error) Reason {
	var out *UnavailableError
	if errors.As(err, &out) {
		return out.Reason
	}
	return ""
}

// What is to be confirmed needs no turn.
func TestStrangersAskInTurn(t *testing.T) {
	g := NewGuard(new(busy), func(error) {})
	ask := func(r Resolver) func() {
		return func() {
			if _, err := r.Resolve(t.Context(), Credentials{}); err != nil {
				t.Error(err)
			}
		}
	}
	turntest.Waits(t, ask(g), ask(g.Strangers()))
}

// Who waited in vain was not asked about, so that is no outage of Authgear.
func TestWhoCannotAskInTimeIsNoOutage(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		leave := turntest.TakeAll(t)
		for range 2 * failuresToOpen {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if _, err := g.Strangers().Resolve(ctx, Credentials{}); err != errNoTime || time.Since(begin) != time.Second/2 {
				t.Errorf("without a turn for %s: %v", time.Since(begin), err)
			}
			cancel()
		}
		leave()
		for range 2 * failuresToOpen {
			ctx, cancel := context.WithTimeout(context.Background(), leastTime-1)
			for _, r := range []Resolver{g, g.Strangers()} {
				if _, err := r.Resolve(ctx, Credentials{}); err != errNoTime {
					t.Errorf("without any time: %v", err)
				}
			}
			cancel()
		}
		if n := b.calls.Load(); n > 0 || g.Away() {
			t.Errorf("asked %d times, away: %v", n, g.Away())
		}
	})
}

// While Authgear is away, nobody is asked, and nobody waits.
func TestStrangersNeedNoTurnWhileAuthgearIsAway(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		b.down.Store(true)
		for range failuresToOpen {
			g.Resolve(context.Background(), Credentials{})
		}
		g.Strangers().Resolve(context.Background(), Credentials{}) // sees for himself
		turntest.TakeAll(t)
		if _, err := g.Strangers().Resolve(context.Background(), Credentials{}); err != errAway {
			t.Error(err)
		}
	})
}

// A token that comes to its turn must have time left for the question about it.
func TestATokenWaitsForItsTurnNoLongerThanHalfOfItsTime(t *testing.T) {
	var in admission
	turntest.Waits(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := in.enter(ctx); reasonOf(err) != Overloaded || ctx.Err() != nil {
			t.Errorf("%v, %v", err, ctx.Err())
		}
	}, func() {
		if err := in.enter(t.Context()); err != nil {
			t.Error(err)
		}
	})
	in.leave()
}

func TestStrangersCannotKeepOthersFromBeingConfirmed(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		var all sync.WaitGroup
		var overloaded atomic.Int32
		for range 50_000 { // a flood of made-up tokens, all at once
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := g.Strangers().Resolve(ctx, Credentials{}); reasonOf(err) == Overloaded {
					overloaded.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := b.most.Load(); n != MaxStrangers {
			t.Errorf("%d questions at a time for strangers, want %d", n, MaxStrangers)
		}
		began := time.Now()
		if _, err := g.Resolve(context.Background(), Credentials{}); err != nil || time.Since(began) != b.latency {
			t.Errorf("a confirmation beside the flood: %v after %s, want an answer after %s", err, time.Since(began), b.latency)
		}
		all.Wait()
		if asked := b.calls.Load() - 1; asked+overloaded.Load() != 50_000 || asked > MaxStrangers*11 {
			t.Errorf("%d asked about, %d told to come back, of 50000", asked, overloaded.Load())
		}
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		var all sync.WaitGroup
		for range 10 * MaxQuestions {
			all.Go(func() {
				if _, err := g.Resolve(context.Background(), Credentials{}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := b.most.Load(); n != MaxQuestions {
			t.Errorf("%d questions at a time, want %d", n, MaxQuestions)
		}
	})
}

func TestADeadAuthgearIsAskedNowAndThen(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		b.down.Store(true)
		ask := func() error {
			_, err := g.Resolve(context.Background(), Credentials{})
			return err
		}
		for range failuresToOpen {
			if reasonOf(ask()) != ResolverUnavailable {
				t.Error("it answers")
			}
		}
		before := b.calls.Load()
		for range 1000 { // 10 s
			began := time.Now()
			if err := ask(); reasonOf(err) != ResolverUnavailable {
				t.Errorf("while it is down: %v", err)
			}
			time.Sleep(10*time.Millisecond - min(time.Since(began), 10*time.Millisecond))
		}
		if n := b.calls.Load() - before; n < 10 || n > 20 {
			t.Errorf("%d questions in 10 s, want about one in %s", n, probeEvery)
		}
		b.down.Store(false)
		time.Sleep(probeEvery)
		for range 10 {
			if err := ask(); err != nil {
				t.Errorf("when it is back: %v", err)
			}
		}
	})
}

// Who waited long for a turn still has time for the question.
func TestAFloodDoesNotLookLikeAnOutage(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		b.latency = 150 * time.Millisecond
		ask := func(r Resolver) error {
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			defer cancel()
			_, err := r.Resolve(ctx, Credentials{})
			return err
		}
		var all sync.WaitGroup
		for range 1000 { // 10 s of 5,000 made-up tokens a second
			for range 50 {
				all.Go(func() {
					if err := ask(g.Strangers()); err != nil && reasonOf(err) != Overloaded {
						t.Errorf("a stranger: %v", err)
					}
				})
			}
			time.Sleep(10 * time.Millisecond)
			if err := ask(g); err != nil {
				t.Errorf("a confirmation: %v", err)
			}
		}
		all.Wait()
	})
}

// Only one question finds out whether Authgear is back; that others are not put is the same
// outage as before.
func TestOneQuestionFindsOutWhetherAuthgearIsBack(t *testing.T) {
	guarded(t, func(b *busy, g *Guard) {
		b.down.Store(true)
		for range failuresToOpen {
			g.Resolve(context.Background(), Credentials{})
		}
		time.Sleep(probeEvery + time.Nanosecond)
		before := b.calls.Load()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := g.Resolve(context.Background(), Credentials{}); reasonOf(err) != ResolverUnavailable {
					t.Errorf("%v, want an outage", err)
				}
			})
		}
		all.Wait()
		if n := b.calls.Load() - before; n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
	})
}

// said is what Authgear says of everybody.
type said struct{ error }

func (s said) Resolve(context.Context, Credentials) (*Session, error) { return nil, s.error }

// That credentials are no good is as good an answer as any: who sends bad ones ends nothing.
func TestBadCredentialsAreNoOutage(t *testing.T) {
	for _, bad := range []error{invalid(UnknownToken, ""), invalid(SessionInvalid, "")} {
		g := NewGuard(said{bad}, func(err error) { t.Errorf("warned of %v", err) })
		for range 4 * failuresToOpen {
			if _, err := g.Strangers().Resolve(t.Context(), Credentials{}); err != bad {
				t.Fatalf("got %v", err)
			}
		}
		if g.Away() {
			t.Error("Authgear is taken to be away")
		}
	}
}

// While Authgear is away, what strangers ask is asked no more often, whatever becomes of it.
func TestStrangersFindOutNowAndThenWhetherAuthgearIsBack(t *testing.T) {
	for name, err := range map[string]error{
		"down":    unavailable("down"),
		"dropped": dropped{unavailable("dropped")},
		"refused": unavailable("(%w)", ErrRefused),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &counted{said: said{unavailable("down")}}
				g := NewGuard(a, func(error) {})
				for range failuresToOpen {
					g.Resolve(t.Context(), Credentials{})
				}
				a.error = err
				for probe := range int32(3) {
					time.Sleep(probeEvery + time.Nanosecond)
					for range 50 {
						if _, err := g.Strangers().Resolve(t.Context(), Credentials{}); reasonOf(err) != ResolverUnavailable {
							t.Fatalf("%v, want an outage", err)
						}
					}
					if n := a.calls - failuresToOpen; n != probe+1 {
						t.Errorf("%d questions, want %d", n, probe+1)
					}
				}
			})
		})
	}
}

type counted struct {
	said
	calls int32
}

func (c *counted) Resolve(ctx context.Context, creds Credentials) (*Session, error) {
	c.calls++
	return c.said.Resolve(ctx, creds)
}

// An outage is seen by strangers' questions, too.
func TestStrangersMeetAnOutageOnce(t *testing.T) {
	a := &counted{said: said{unavailable("the resolver answers 503")}}
	g := NewGuard(a, func(error) {})
	for range 100 {
		g.Strangers().Resolve(t.Context(), Credentials{})
	}
	if a.calls != failuresToOpen || !g.Away() {
		t.Errorf("%d questions, want %d; away: %v", a.calls, failuresToOpen, g.Away())
	}
}

// Something on the way to Authgear may let questions vanish for what is in them.
func TestStrangersWhoseQuestionsVanishEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(vanishing{}, func(error) {})
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		defer pester(ctx, g, MaxStrangers)()
		for ctx.Err() == nil {
			if _, err := g.Resolve(context.Background(), Credentials{}); err != nil {
				t.Errorf("a question about a user: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// Nor do they keep an outage from ending.
func TestStrangersWhoseQuestionsVanishProlongNothing(t *testing.T) {
	for _, strangers := range []int{1, MaxStrangers} {
		synctest.Test(t, func(t *testing.T) {
			back := time.Now().Add(10 * time.Second)
			g := NewGuard(vanishing{until: back}, func(error) {})
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			defer pester(ctx, g, strangers)()
			for ctx.Err() == nil {
				_, err := g.Resolve(context.Background(), Credentials{})
				if since := time.Since(back); err != nil && since > 3*time.Second {
					t.Errorf("%d strangers: %s after it is back: %v", strangers, since, err)
				}
				time.Sleep(300 * time.Millisecond)
			}
		})
	}
}

// pester puts questions about strangers that vanish, until ctx ends.
func pester(ctx context.Context, g *Guard, strangers int) (wait func()) {
	var all sync.WaitGroup
	for range strangers {
		all.Go(func() {
			for ctx.Err() == nil {
				g.Strangers().Resolve(context.Background(), Credentials{List: []Credential{{Bearer, "vanishes"}}})
				time.Sleep(time.Millisecond)
			}
		})
	}
	return all.Wait
}

// vanishing is an Authgear that answers from then on, but for some.
type vanishing struct{ until time.Time }

func (v vanishing) Resolve(_ context.Context, c Credentials) (*Session, error) {
	if len(c.List) > 0 || time.Now().Before(v.until) {
		time.Sleep(2 * time.Second)
		return nil, unavailable("timeout")
	}
	time.Sleep(3 * time.Millisecond)
	return &Session{}, nil
}
