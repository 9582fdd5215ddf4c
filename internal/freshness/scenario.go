package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/lab"
)

// Size says how much is measured.
type size struct {
	bound       time.Duration // AUTHGEAR_MAX_STALENESS
	stall       time.Duration // of the resolver
	revocations int           // in each scenario
	atOnce      int           // so many subjects at a time
	bystanders  int           // who are never revoked
}

// timeout is for one question to Authgear: 2 s, the default, unless the bound is
// smaller.
func (z size) timeout() time.Duration { return min(2*time.Second, z.bound) }

// period is the shortest time between two confirmations of one session, as
// cache/entry.go has it.
func (z size) period() time.Duration { return z.bound * 6 / 10 }

func (z size) env() []string {
	return []string{"AUTHGEAR_MAX_STALENESS=" + z.bound.String(), "AUTHGEAR_RESOLVER_TIMEOUT=" + z.timeout().String()}
}

// A scenario is a way in which sessions end.
type scenario struct {
	name string
	env  []string // settings besides the size's

	// revoke ends a session and does what follows from it. It returns when
	// Authgear had ended it.
	revoke func(*stand, *lab.Session) (time.Time, error)

	// during happens while sessions end, if anything does. It returns when
	// the process was dead, if it was killed.
	during func(context.Context, *stand) (dead time.Time, err error)

	stalls      bool // during takes as much longer
	tells       bool // revoke tells the service, so no later request may pass
	onSignature bool // the process dies, and the next one believes a JWT for one round trip
	isFleet     bool // three replicas share a Redis; each request goes to one of them

	soon time.Duration // that is how soon the last 200 is to come in 99 of 100 cases, if not 0
}

var scenarios = []scenario{
	{name: "polling only", revoke: signOut},
	{name: "webhook", revoke: disable, tells: true, soon: 50 * time.Millisecond},
	{name: "`/forget`", revoke: signOutAndForget, tells: true},
	{name: "polling, resolver slow and then stalled", revoke: signOut, during: stall, stalls: true},
	{name: "polling, SIGKILL and restart, `AUTHGEAR_CONFIRM=before`", revoke: signOut, during: crash, env: []string{"AUTHGEAR_CONFIRM=before"}},
	{name: "polling, SIGKILL and restart, `AUTHGEAR_CONFIRM=after`", revoke: signOut, during: crash, onSignature: true},
	{name: "fleet, polling only", revoke: signOut, isFleet: true},
	{name: "fleet, webhook to one replica", revoke: disable, isFleet: true, soon: 100 * time.Millisecond},
	{name: "fleet, `/forget` to one replica", revoke: signOutAndForget, isFleet: true, soon: 100 * time.Millisecond},
	{name: "fleet, polling, Redis fails", revoke: signOut, isFleet: true, during: harmRedis},
	{name: "fleet, all three ways, Redis fails", revoke: anyWay, isFleet: true, during: harmRedis},
}

// signOut is no event of Authgear's.
func signOut(st *stand, s *lab.Session) (time.Time, error) {
	st.authgear.Revoke(s.Credential)
	return time.Now(), nil
}

// disable is an event.
func disable(st *stand, s *lab.Session) (done time.Time, err error) {
	delivered := st.authgear.Expect(s.User.ID)
	st.authgear.Disable(s.User)
	done = time.Now()
	select {
	case <-delivered:
		return done, nil
	case <-time.After(lab.MostPatience):
		return done, errors.New("the service took no event")
	}
}

func signOutAndForget(st *stand, s *lab.Session) (time.Time, error) {
	done, _ := signOut(st, s)
	return done, st.any().Forget(s)
}

func anyWay(st *stand, s *lab.Session) (time.Time, error) {
	return []func(*stand, *lab.Session) (time.Time, error){signOut, disable, signOutAndForget}[rand.IntN(3)](st, s)
}

// stall lets answers arrive long after they were worked out, and then none.
func stall(ctx context.Context, st *stand) (dead time.Time, err error) {
	st.authgear.Slow(st.bound * 3 / 10)
	sleep(ctx, st.window()-st.stall)
	st.authgear.Slow(st.stall)
	sleep(ctx, st.stall)
	st.authgear.Slow(lab.Usual)
	return dead, nil
}

// crash ends the process at a random moment and starts another one. By then, some
// sessions were revoked a moment ago.
func crash(ctx context.Context, st *stand) (dead time.Time, err error) {
	sleep(ctx, st.window()/4+rand.N(st.window()/2))
	st.services[0].Kill()
	dead = time.Now()
	return dead, st.services[0].Start()
}

// A stand is what a scenario is played with.
type stand struct {
	size
	authgear *lab.Authority
	services []*replica
	redis    *redis // nil: there is none
}

const replicas = 3 // of a fleet

func newStand(z size, binary string, sc *scenario) (st *stand, err error) {
	st = &stand{size: z}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	if st.authgear, err = lab.NewAuthority("", nil); err != nil {
		return nil, err
	}
	n, env := 1, append(z.env(), sc.env...)
	if sc.isFleet {
		if st.redis, err = startRedis(); err != nil {
			return nil, err
		}
		n, env = replicas, append(env, st.redis.env(sc.during != nil)...)
	}
	return st, st.start(n, binary, env)
}

// start starts so many replicas.
func (st *stand) start(n int, binary string, env []string) error {
	var urls []string
	for range n {
		s, err := lab.NewService(binary, st.authgear.Origin(), env)
		if err == nil {
			err = s.Start()
		}
		if err != nil {
			return err
		}
		st.services = append(st.services, &replica{Service: s})
		urls = append(urls, "http://"+s.Addr)
	}
	st.authgear.PassEventsOn(urls...)
	return nil
}

func (st *stand) close() {
	for _, s := range st.services {
		s.Kill()
	}
	if st.redis != nil {
		st.redis.close()
	}
	if st.authgear != nil {
		st.authgear.Close()
	}
}

// any returns one of the services that take requests.
func (st *stand) any() *replica {
	for {
		if s := st.services[rand.IntN(len(st.services))]; !s.isOut.Load() {
			return s
		}
	}
}

// ask sends a request of the session to one of the services, as a balancer does.
func (st *stand) ask(who *lab.Session) lab.Answer { return st.any().Ask(who) }

// output is the end of what the services wrote.
func (st *stand) output() string {
	var all strings.Builder
	for _, s := range st.services {
		fmt.Fprintln(&all, s.Output())
	}
	return all.String()
}

// window is how long revocations go on in a round: two cycles, and the stall.
func (st *stand) window() time.Duration { return 2*st.bound + st.stall }

// play plays a scenario in as many rounds as it takes.
func (sc *scenario) play(ctx context.Context, z size, binary string) (*result, error) {
	if !sc.stalls {
		z.stall = 0
	}
	st, err := newStand(z, binary, sc)
	if err != nil {
		return nil, err
	}
	defer st.close()
	r := &result{scenario: sc, size: z}
	others := st.bystanders(ctx)
	for left := z.revocations; left > 0 && ctx.Err() == nil && err == nil; left -= z.atOnce {
		err = sc.round(ctx, st, min(left, z.atOnce), r)
	}
	others.end(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", sc.name, err, st.output())
	}
	return r, ctx.Err()
}

// round revokes n sessions at random moments. They begin at random moments of one
// cycle too, so the revocations are spread over it.
func (sc *scenario) round(ctx context.Context, st *stand, n int, r *result) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	begin := time.Now()
	revocations := begin.Add(st.bound + st.bound/5)
	var subjects []*subject
	for _, who := range st.authgear.SignIn(n) {
		s := &subject{Session: who, from: begin.Add(rand.N(st.bound)), end: revocations.Add(rand.N(st.window()))}
		subjects = append(subjects, s)
		for range 2 {
			all.Go(func() { s.poll(ctx, st) })
		}
		all.Go(func() {
			if err := s.revoke(ctx, st, sc.revoke); err != nil {
				cancel(err)
			}
		})
	}
	var dead time.Time
	if sc.during != nil {
		sleep(ctx, time.Until(revocations))
		var err error
		if dead, err = sc.during(ctx, st); err != nil {
			cancel(err)
		}
	}
	all.Wait()
	for _, s := range subjects {
		r.add(s.outcome(dead))
	}
	return context.Cause(ctx)
}

// bystanders are signed in all the time, and must stay so.
type bystanders struct {
	*stand
	sessions []*lab.Session
	stop     context.CancelFunc
	all      sync.WaitGroup

	answers, wrong, unavailable, nothing atomic.Int64

	since  time.Time // when their questions were counted first
	before []int

	mu    sync.Mutex
	times []time.Duration // that the answers took
}

// bystanders begin in the course of one cycle; then they are counted.
func (st *stand) bystanders(ctx context.Context) *bystanders {
	b := &bystanders{stand: st, sessions: st.authgear.SignIn(st.size.bystanders)}
	ctx, b.stop = context.WithCancel(ctx)
	for _, who := range b.sessions {
		from := rand.N(st.bound)
		b.all.Go(func() {
			for sleep(ctx, from); ctx.Err() == nil; sleep(ctx, pauseBefore+rand.N(2*pauseBefore)) {
				b.note(st.ask(who))
			}
		})
	}
	sleep(ctx, st.bound+st.bound/5)
	b.since, b.before = time.Now(), st.authgear.Asked(b.sessions)
	return b
}

func (b *bystanders) note(a lab.Answer) {
	b.answers.Add(1)
	b.mu.Lock()
	b.times = append(b.times, a.End.Sub(a.Start))
	b.mu.Unlock()
	switch {
	case a.Status == http.StatusServiceUnavailable:
		b.unavailable.Add(1)
	case a.Status == 0:
		b.nothing.Add(1)
	case a.Status != http.StatusOK || a.Wrong:
		b.wrong.Add(1)
	}
}

// end ends their requests and adds what was seen to the result.
func (b *bystanders) end(r *result) {
	periods := float64(time.Since(b.since)) / float64(b.period())
	after := b.authgear.Asked(b.sessions)
	if r.isFleet && r.during != nil {
		r.faults = b.redis.faults()
	}
	b.stop()
	b.all.Wait()
	var sum int
	for i := range after {
		after[i] -= b.before[i]
		sum += after[i]
	}
	r.questions = float64(sum) / float64(len(after)) / periods
	r.tooMany = slices.Max(after) > int(periods)+1
	r.wrong += int(b.wrong.Load())
	r.unavailable += int(b.unavailable.Load())
	r.nothing += int(b.nothing.Load())
}
