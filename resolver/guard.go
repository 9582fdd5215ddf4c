package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"authgear-forward-auth/internal/deadline"
	"authgear-forward-auth/internal/turn"
)

// A Guard spares Authgear: it bounds how many questions are put at a time, and
// while Authgear cannot be reached it puts one now and then, to see whether it
// is back.
//
// Credentials that nobody has vouched for yet are asked about through
// [Guard.Strangers], which has a smaller share: a flood of made-up tokens
// cannot keep Authgear from confirming sessions.
type Guard struct {
	next    Resolver
	warn    func(error)
	all     *lane
	few     *lane
	turns   *turn.Turns // strangers'; apart, so that a crowd of tokens does not keep a question from being put in time
	breaker *gobreaker.CircuitBreaker[*Session]

	begun    time.Time
	answered atomic.Int64 // when Authgear last gave an answer, as time since begun
	probed   atomic.Int64 // when a stranger last saw whether it is back, likewise
}

// Bounds of a Guard.
const (
	// MaxQuestions are put to Authgear at a time. More would only wait there:
	// two cores answer some 900 a second, in 3 ms each.
	MaxQuestions = 128

	// MaxStrangers are those of them that concern credentials never seen before.
	MaxStrangers = 32

	waitingPerSlot = 32 // so many wait for each slot; more are told to come back
	failuresToOpen = 5  // one after another
	probeEvery     = 500 * time.Millisecond
	leastTime      = 2 * time.Millisecond // of a question; with less it would fail, whoever is asked
)

// NewGuard returns a Guard in front of next. warn is told of each question that
// found nothing out.
func NewGuard(next Resolver, warn func(error)) *Guard {
	return &Guard{
		next:  next,
		warn:  warn,
		begun: time.Now(),
		all:   newLane(MaxQuestions),
		few:   newLane(MaxStrangers),
		turns: turn.New(),
		breaker: gobreaker.NewCircuitBreaker[*Session](gobreaker.Settings{
			Timeout:     probeEvery,
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= failuresToOpen },
			// That credentials are worthless is as good an answer as any. That this
			// question is not taken tells nothing of the next one.
			IsSuccessful: func(err error) bool { return !outOf(err) },
			IsExcluded:   func(err error) bool { return errors.Is(err, ErrRefused) || errors.Is(err, ErrNotAsked) },
		}),
	}
}

// Away tells whether Authgear is asked only now and then, to see whether it is back.
func (g *Guard) Away() bool { return g.breaker.State() != gobreaker.StateClosed }

// Strangers resolves credentials that nobody has vouched for.
func (g *Guard) Strangers() Resolver { return strangers{g} }

type strangers struct{ *Guard }

func (s strangers) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	away := s.Away()
	if away && !s.mayProbe() {
		return nil, errAway
	}
	if err := s.few.enter(ctx); err != nil {
		return nil, err
	}
	defer s.few.leave()
	// To put a question takes a processor longer than several remembered answers do, and so
	// does what comes of it.
	if err := s.giveWay(ctx); err != nil {
		return nil, err
	}
	defer s.giveWay(ctx)
	if away {
		return s.probe(ctx, c)
	}
	asked := s.now()
	return s.ask(ctx, c, func(err error) error {
		// Nobody vouches for what they put into a question: something on the way may end its
		// connection, or let it vanish while others are answered.
		if mayBeItsOwnDoing(err) || outOf(err) && s.answered.Load() > asked {
			return fmt.Errorf("%w (%w)", err, ErrRefused)
		}
		return err
	})
}

// giveWay waits for a turn, and leaves it at once.
func (s strangers) giveWay(ctx context.Context) error {
	t := turn.Turn{Of: s.turns}
	if !t.TakeBefore(deadline.Halfway(ctx)) {
		return errNoTime
	}
	t.Leave()
	return nil
}

// mayProbe lets one stranger, now and then, see whether Authgear is back.
func (g *Guard) mayProbe() bool {
	now, last := g.now(), g.probed.Load()
	return now-last >= int64(probeEvery) && g.probed.CompareAndSwap(last, now)
}

// probe asks for a stranger while Authgear is away. An answer ends that, unless somebody who is
// vouched for is seeing for himself just then. No answer tells nothing.
func (g *Guard) probe(ctx context.Context, c Credentials) (*Session, error) {
	if err := g.all.enter(ctx); err != nil {
		return nil, err
	}
	defer g.all.leave()
	if lacksTime(ctx) {
		return nil, errNoTime
	}
	s, err := g.put(ctx, c)
	if !outOf(err) {
		g.breaker.Execute(func() (*Session, error) { return s, err })
	}
	return s, err
}

func (g *Guard) now() int64 { return int64(time.Since(g.begun)) }

// Resolve waits for its turn until ctx ends.
func (g *Guard) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	return g.ask(ctx, c, func(err error) error { return err })
}

func (g *Guard) ask(ctx context.Context, c Credentials, judge func(error) error) (*Session, error) {
	if g.breaker.State() == gobreaker.StateOpen {
		return nil, errAway
	}
	if err := g.all.enter(ctx); err != nil {
		return nil, err
	}
	defer g.all.leave()
	if lacksTime(ctx) {
		return nil, errNoTime // Authgear has no part in it
	}
	s, err := g.breaker.Execute(func() (*Session, error) {
		s, err := g.put(ctx, c)
		return s, judge(err)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return nil, errAway
	}
	return s, err
}

// put puts a question to Authgear.
func (g *Guard) put(ctx context.Context, c Credentials) (*Session, error) {
	s, err := g.next.Resolve(ctx, c)
	switch {
	case outOf(err):
		g.warn(err)
	case !errors.Is(err, ErrNotAsked):
		g.answered.Store(g.now())
	}
	return s, err
}

// outOf tells whether nothing was found out.
func outOf(err error) bool { return err != nil && !errors.Is(err, ErrInvalid) }

var (
	errAway       = &UnavailableError{ResolverUnavailable, errors.New("no answer to the last questions; Authgear is asked again in a moment")}
	errNoTime     = &UnavailableError{Overloaded, errors.New("no time was left for a question to Authgear: is the machine too busy?")}
	errOverloaded = &UnavailableError{Overloaded, fmt.Errorf("more questions to Authgear than %d at a time (%d for new credentials)", MaxQuestions, MaxStrangers)}
)

// lacksTime tells whether ctx ends before a question could be answered.
func lacksTime(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(d) < leastTime
}

// A lane lets so many pass at a time. A bounded number waits, and for half of its time: the other
// half is for the question itself.
type lane struct {
	free    chan struct{}
	waiting atomic.Int64
}

func newLane(width int) *lane {
	l := &lane{free: make(chan struct{}, width)}
	for range width {
		l.leave()
	}
	return l
}

func (l *lane) leave() { l.free <- struct{}{} }

// enter is to be followed by leave, unless it returns an error.
func (l *lane) enter(ctx context.Context) error {
	select {
	case <-l.free:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > int64(cap(l.free)*waitingPerSlot) {
		return errOverloaded
	}
	if _, ok := deadline.Await(ctx, deadline.Halfway(ctx), l.free); !ok {
		return errOverloaded
	}
	return nil
}
