// Package fleet lets several replicas share, by Redis, what Authgear confirmed and who
// has left.
//
// Redis is never waited for longer than a budget, and nothing depends on it: without it,
// each replica asks Authgear itself, and keeps the bound by itself.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/sony/gobreaker/v2"
)

// Options say which Redis, and what the fleet keeps in it.
type Options struct {
	URL    string // redis://, rediss:// or unix://, as of ParseURL of rueidis
	Secret string // of the fleet, the same for each replica
	Issuer string // whose sessions they are; what concerns those of another is not read

	Lifetime time.Duration // of a confirmation: the bound and the grace
	Reach    time.Duration // how far back events matter
	Question time.Duration // the most that one to Authgear takes
	Skew     time.Duration // by which the clock of Redis may be off

	Warn  func(error)
	Count func(operation, outcome string) // of closed sets: see the constants
}

// Operations and outcomes that are counted.
const (
	Look    = "look"    // for a confirmation
	Lease   = "lease"   // the right to ask Authgear
	Share   = "share"   // a confirmation
	Publish = "publish" // an event
	Receive = "receive" // an event

	OK    = "ok"
	None  = "none"  // there was no confirmation, or none that is late enough
	Held  = "held"  // another replica has the lease
	Error = "error" // Redis did not answer as it should, or not in time
	Clock = "clock" // the clocks disagree
	Lost  = "lost"  // an event was not told to the other replicas
)

const (
	budget   = 25 * time.Millisecond  // the most that a request waits for Redis in one go
	patience = 300 * time.Millisecond // the most that it waits for the answer that another replica asks for
	rest     = 250 * time.Millisecond // for so long nobody tries when Redis does not answer
	patrol   = time.Second            // between two looks at the clock of Redis
	demoted  = 3 * time.Second        // between two connections while what is reached is a replica
	most     = 512                    // commands under way at a time
)

// Beginning is how long a replica that starts may wait for what the others know.
const Beginning = time.Second

type breaker = *gobreaker.CircuitBreaker[[]rueidis.RedisResult]

func newBreaker() breaker {
	return gobreaker.NewCircuitBreaker[[]rueidis.RedisResult](gobreaker.Settings{
		Timeout:     rest,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= 5 },
		// Somebody put something else under one of our names: that is an answer.
		IsSuccessful: func(err error) bool { return err == nil || strings.HasPrefix(err.Error(), "WRONGTYPE") },
	})
}

// A Fleet is this replica's part of one.
type Fleet struct {
	o       Options
	options rueidis.ClientOption
	secrets secrets
	stream  string // its name
	self    string // this replica's name in the stream

	client atomic.Pointer[rueidis.Client]
	front  breaker // for what a request waits for
	behind breaker // for the rest, which may take longer
	slots  chan struct{}
	clock  clock
	outbox chan event

	knows    chan struct{} // closed when all events so far are known here
	caughtUp func()        // closes it
	reads    atomic.Bool   // events, at the moment, and has read all

	eventsRead atomic.Pointer[time.Time] // when all events were known here last
	refusal    refusal
	connected  time.Time // when the client was made, for the patrol

	end  context.CancelFunc
	live sync.WaitGroup
}

// New returns this replica's part of a fleet, which does nothing before it runs.
func New(o Options) (*Fleet, error) {
	options, err := rueidis.ParseURL(o.URL)
	if err != nil {
		return nil, errors.New("must be like redis://user:password@host:6379, rediss://… or unix:///path") // the error may quote the password
	}
	options.DisableCache = true
	options.DisableRetry = true
	options.AlwaysPipelining = true
	options.Dialer.Timeout = time.Second
	options.ConnWriteTimeout = 2 * time.Second
	boundReplies(&options)
	f := &Fleet{
		o: o, options: options, secrets: newSecrets(o.Secret, o.Issuer), slots: make(chan struct{}, most), outbox: make(chan event, 1024),
		front: newBreaker(), behind: newBreaker(), knows: make(chan struct{}),
	}
	f.caughtUp = sync.OnceFunc(func() { close(f.knows) })
	f.stream, f.self = f.names()
	return f, nil
}

// Run takes part until Close. It connects as often as it takes; receive is told of each
// event of the others.
func (f *Fleet) Run(receive func(Event)) {
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	follower := &follower{Fleet: f, receive: receive, known: make(map[string]time.Time)}
	f.live.Go(func() { f.patrol(ctx) })
	f.live.Go(func() { follower.follow(ctx) })
	f.live.Go(func() { f.publish(ctx) })
}

// Await waits until the replica knows what the others do, but no longer than that.
func (f *Fleet) Await(most time.Duration) {
	select {
	case <-f.knows:
	case <-time.After(most):
	}
}

// isReady tells whether the events of the others are known here. Otherwise what they share
// may concern somebody who left.
func (f *Fleet) isReady() bool { return f.reads.Load() }

// Close ends it. Nobody may ask meanwhile.
func (f *Fleet) Close() {
	f.end()
	f.live.Wait()
	if client := f.client.Load(); client != nil {
		(*client).Close()
	}
}

// Troubles returns, in words, why the replica does without the others; nothing if it
// does not.
func (f *Fleet) Troubles() []string {
	why := f.refusal.why()
	switch _, _, err := f.clock.now(f.o.Skew); {
	case why != nil && err == nil && f.isReady():
		return []string{"Redis (AUTHGEAR_REDIS_URL) takes nothing: " + *why + ": the other replicas are not told who leaves here"}
	case f.client.Load() == nil || f.behind.State() != gobreaker.StateClosed:
		return []string{"Redis (AUTHGEAR_REDIS_URL) does not answer: this replica asks Authgear by itself, and is told of no events but its own"}
	case err != nil:
		return []string{err.Error()}
	case f.eventsRead.Load() == nil:
		return []string{"the events of the other replicas are not read yet: this replica asks Authgear by itself"}
	case !f.isReady():
		return []string{"the events of the other replicas cannot be read: this replica asks Authgear by itself, and who left is known here within the bound, but no sooner"}
	}
	return nil
}

var errAway = errors.New("no answer from Redis (AUTHGEAR_REDIS_URL)")

// do sends commands, unless Redis did not answer lately. What is too slow for a request
// may do for what is done behind it, so those are judged apart.
func (f *Fleet) do(ctx context.Context, wait time.Duration, commands func(rueidis.Builder) rueidis.Commands) ([]rueidis.RedisResult, error) {
	b := f.behind
	if wait <= budget {
		b = f.front
	}
	return b.Execute(func() ([]rueidis.RedisResult, error) { return f.send(ctx, wait, commands) })
}

// send sends commands, and waits for the answers no longer than that, whatever the
// connection does.
func (f *Fleet) send(ctx context.Context, wait time.Duration, commands func(rueidis.Builder) rueidis.Commands) ([]rueidis.RedisResult, error) {
	client := f.client.Load()
	if client == nil {
		return nil, errAway
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errAway
	}
	done := make(chan []rueidis.RedisResult, 1)
	go func() {
		defer func() { <-f.slots }()
		done <- (*client).DoMulti(ctx, commands((*client).B())...)
	}()
	select {
	case results := <-done:
		return results, failure(results)
	case <-ctx.Done():
		return nil, errAway
	}
}

// failure is the first one of the results. That there is nothing is none.
func failure(results []rueidis.RedisResult) error {
	for _, r := range results {
		var late net.Error
		switch err := r.Error(); {
		case err == nil, rueidis.IsRedisNil(err):
		case errors.As(err, &late) && late.Timeout():
			return errAway
		default:
			return err
		}
	}
	return nil
}

// patrol connects, and looks at the clock of Redis, as long as ctx lasts.
func (f *Fleet) patrol(ctx context.Context) {
	for {
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.o.Warn(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(patrol):
		}
	}
}

func (f *Fleet) look(ctx context.Context) error {
	if f.client.Load() == nil || f.isDemoted() {
		switch client, err := f.connect(ctx); {
		case err == nil:
			f.connected = time.Now()
			if old := f.client.Swap(&client); old != nil {
				(*old).Close()
			}
		case f.client.Load() == nil:
			return fmt.Errorf("connect to Redis (AUTHGEAR_REDIS_URL): %w", err)
		}
	}
	begin := time.Now()
	// Not by a breaker: what is first to try again may have less time than a new connection
	// takes.
	results, err := f.send(ctx, time.Second, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Time().Build()}
	})
	if err != nil {
		return fmt.Errorf("ask Redis (AUTHGEAR_REDIS_URL): %w", err)
	}
	if err := f.clock.set(begin, time.Now(), results[0]); err != nil {
		return err
	}
	return f.tell(ctx)
}

// tell tells Redis something, where events are, to see whether it takes that: it may be full, or a
// replica. If it does, nobody else need find out.
func (f *Fleet) tell(ctx context.Context) error {
	something := func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Set().Key(leaseKey(f.stream)).Value("").PxMilliseconds(1).Build()}
	}
	_, err := f.do(ctx, time.Second, something)
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		_, err = f.send(ctx, time.Second, something) // what others failed at does not say why
	}
	if ctx.Err() == nil {
		f.refusal.something.note(err)
	}
	if err != nil {
		return fmt.Errorf("tell Redis (AUTHGEAR_REDIS_URL) something: %w", err)
	}
	return nil
}

// A refusal is why Redis takes nothing: neither something, as it is told now and then, nor events.
type refusal struct{ something, events reason }

func (r *refusal) why() *string {
	if why := r.events.Load(); why != nil {
		return why
	}
	return r.something.Load()
}

// A reason is nil if there is none.
type reason struct{ atomic.Pointer[string] }

func (r *reason) note(err error) {
	if err == nil {
		r.Store(nil)
		return
	}
	why := err.Error()
	r.Store(&why)
}

// isDemoted tells whether the Redis that was connected to became a replica of another one, to
// which a new connection may lead.
func (f *Fleet) isDemoted() bool {
	no := f.refusal.something.Load()
	return no != nil && strings.HasPrefix(*no, "READONLY") && time.Since(f.connected) > demoted
}
