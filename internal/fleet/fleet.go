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
	patrol   = time.Second            // between two looks at the clock of Redis
	most     = 512                    // commands under way at a time
)

// A Fleet is this replica's part of one.
type Fleet struct {
	o       Options
	options rueidis.ClientOption
	secrets secrets
	stream  string // its name
	self    string // this replica's name in the stream

	client     atomic.Pointer[rueidis.Client]
	breaker    *gobreaker.CircuitBreaker[[]rueidis.RedisResult]
	slots      chan struct{}
	clock      clock
	caughtUp   atomic.Bool               // all events so far are known here
	eventsRead atomic.Pointer[time.Time] // when that was so last
	outbox     chan event

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
	f := &Fleet{
		o: o, options: options, secrets: newSecrets(o.Secret), slots: make(chan struct{}, most), outbox: make(chan event, 1024),
		breaker: gobreaker.NewCircuitBreaker[[]rueidis.RedisResult](gobreaker.Settings{
			Timeout:     patrol,
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= 5 },
		}),
	}
	f.stream, f.self = f.names()
	return f, nil
}

// Run takes part until Close. It connects as often as it takes; receive is told of each
// event of the others.
func (f *Fleet) Run(receive func(Event)) {
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	f.live.Go(func() { f.patrol(ctx) })
	f.live.Go(func() { f.follow(ctx, receive) })
	f.live.Go(func() { f.publish(ctx) })
}

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
	switch _, err := f.clock.now(f.o.Skew); {
	case f.client.Load() == nil || f.breaker.State() != gobreaker.StateClosed:
		return []string{"Redis (AUTHGEAR_REDIS_URL) does not answer: this replica asks Authgear by itself, and is told of no events but its own"}
	case err != nil:
		return []string{err.Error()}
	case !f.caughtUp.Load():
		return []string{"the events of the other replicas are not read yet: this replica asks Authgear by itself"}
	}
	return nil
}

var errAway = errors.New("Redis (AUTHGEAR_REDIS_URL) does not answer")

// do sends commands, and waits for the answers no longer than the budget, whatever the
// connection does.
func (f *Fleet) do(ctx context.Context, budget time.Duration, commands func(rueidis.Builder) rueidis.Commands) ([]rueidis.RedisResult, error) {
	client := f.client.Load()
	if client == nil {
		return nil, errAway
	}
	select {
	case f.slots <- struct{}{}:
	default:
		return nil, errAway
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	done := make(chan []rueidis.RedisResult, 1)
	sent := false
	results, err := f.breaker.Execute(func() ([]rueidis.RedisResult, error) {
		sent = true
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
	})
	if !sent {
		<-f.slots
	}
	return results, err
}

// failure is the first one of the results. That there is nothing is none.
func failure(results []rueidis.RedisResult) error {
	for _, r := range results {
		if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
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
	if f.client.Load() == nil {
		client, err := rueidis.NewClient(f.options)
		if err != nil {
			return fmt.Errorf("connect to Redis (AUTHGEAR_REDIS_URL): %w", err)
		}
		f.client.Store(&client)
	}
	begin := time.Now()
	results, err := f.do(ctx, time.Second, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Time().Build()}
	})
	if err != nil {
		return fmt.Errorf("ask Redis (AUTHGEAR_REDIS_URL): %w", err)
	}
	return f.clock.set(begin, time.Now(), results[0])
}
