package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

// A soak is traffic of all kinds that goes on, while Authgear fails and returns and the
// service is restarted.
type soak struct {
	*stand
	*oracle
	all sync.WaitGroup

	steady                     []*person
	visits, tries              atomic.Int64
	visitsWrong, triesAccepted atomic.Int64
	ended, neverDenied         atomic.Int64 // sessions
	rolesChanged               atomic.Int64
	forgotten, events          atomic.Int64

	harms, authgearRestarts, stops, kills int
	failed                                error

	levels []stamped
}

type stamped struct {
	level
	at time.Time
}

// soakTimeout is AUTHGEAR_RESOLVER_TIMEOUT in a soak.
const soakTimeout = time.Second

func newSoak(binary string) (*soak, error) {
	st, err := newStandBehindProxy(binary, nil, "AUTHGEAR_RESOLVER_TIMEOUT="+soakTimeout.String())
	if err != nil {
		return nil, err
	}
	return &soak{stand: st, oracle: newOracle(bound, soakTimeout)}, nil
}

func (s *soak) run(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	for i := range 60 {
		p := s.newPerson(fmt.Sprintf("steady %d", i), i)
		s.steady = append(s.steady, p)
		s.all.Go(func() { s.use(ctx, p, 200*time.Millisecond) })
	}
	for i := range 9 {
		s.all.Go(func() { s.comeAndGo(ctx, i) })
		s.all.Go(func() { s.changeRoles(ctx, i) })
	}
	s.all.Go(func() { s.visit(ctx) })
	s.all.Go(func() { s.forge(ctx) })
	s.all.Go(func() { s.mention(ctx) })
	s.all.Go(func() { s.measure(ctx) })
	s.disturb(ctx, began, d)
	s.all.Wait()
	return s.failed
}

// use asks in the name of somebody until ctx ends.
func (s *soak) use(ctx context.Context, p *person, pause time.Duration) {
	for ; ctx.Err() == nil; sleep(ctx, pause/2+rand.N(pause)) {
		s.judge(p, s.service.Ask(p.Session))
	}
}

// comeAndGo signs people in, and ends their sessions in one of three ways.
func (s *soak) comeAndGo(ctx context.Context, i int) {
	for n := i; ctx.Err() == nil; n++ {
		way := n / 3 % 3
		p := s.newPerson([]string{"revoked ", "forgotten ", "disabled "}[way]+fmt.Sprint(n), n)
		life, end := context.WithTimeout(ctx, bound/2+rand.N(bound))
		s.use(life, p, 50*time.Millisecond)
		end()
		if ctx.Err() != nil {
			return
		}
		s.end(p, way)
		after, end := context.WithTimeout(ctx, bound+2*late)
		s.use(after, p, 50*time.Millisecond)
		for !p.isDenied() && after.Err() == nil { // an outage may have hidden it
			s.judge(p, s.service.Ask(p.Session))
		}
		end()
		s.ended.Add(1)
		if ctx.Err() == nil && !p.isDenied() && !s.faultSince(p.revoked) {
			s.neverDenied.Add(1)
		}
	}
}

func (s *soak) faultSince(t time.Time) bool {
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	return overlaps(s.faults, t, time.Now(), late) || overlaps(s.downs, t, time.Now(), late)
}

func (p *person) isDenied() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.denied
}

func (s *soak) end(p *person, way int) {
	p.mu.Lock()
	p.revoking = time.Now()
	p.mu.Unlock()
	told := false
	switch way {
	case 0:
		s.authgear.Revoke(p.Credential)
	case 1:
		s.authgear.Revoke(p.Credential)
		told = s.service.Forget(p.Session) == nil
		s.forgotten.Add(1)
	case 2:
		delivered := s.authgear.Expect(p.User.ID)
		s.authgear.Disable(p.User)
		select {
		case <-delivered:
			told = true
			s.events.Add(1)
		case <-time.After(late): // it is lost where the service is away
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked = time.Now()
	if told {
		p.told = p.revoked
	}
}

// changeRoles gives somebody other roles now and then, a third of the times by an event.
func (s *soak) changeRoles(ctx context.Context, i int) {
	p := s.newPerson(fmt.Sprintf("role %d", i), i)
	s.all.Go(func() { s.use(ctx, p, 100*time.Millisecond) })
	for n := 0; ctx.Err() == nil; n++ {
		sleep(ctx, bound+rand.N(bound))
		name := fmt.Sprintf("role%d", n)
		change := func(u *authgeartest.User) { u.Roles = []string{name} }
		p.mu.Lock()
		p.roles = append(p.roles, role{name, time.Now()})
		p.mu.Unlock()
		if i/3 == 0 {
			s.authgear.UpdateProfile(p.User, change)
		} else {
			s.authgear.Edit(p.User, change)
		}
		s.rolesChanged.Add(1)
	}
}

// visit asks without a credential.
func (s *soak) visit(ctx context.Context) {
	visitor := &lab.Session{}
	for ; ctx.Err() == nil; sleep(ctx, 50*time.Millisecond) {
		for path, want := range map[string]int{"/nginx": http.StatusUnauthorized, "/nginx?optional": http.StatusOK} {
			s.visits.Add(1)
			if a := s.service.AskAt(path, visitor); a.Status != 0 && (a.Status != want || a.Wrong) {
				s.visitsWrong.Add(1)
			}
		}
	}
}

// forge sends made-up tokens.
func (s *soak) forge(ctx context.Context) {
	forger := lab.NewForger(s.authgear)
	for i := int64(0); ctx.Err() == nil; i++ {
		s.tries.Add(1)
		if a := s.service.Ask(lab.Bearer(forger.Token(i))); a.Status == http.StatusOK {
			s.triesAccepted.Add(1)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// mention makes the service ask anew about people who stay signed in.
func (s *soak) mention(ctx context.Context) {
	for ; ctx.Err() == nil; sleep(ctx, 500*time.Millisecond) {
		p := s.steady[rand.N(len(s.steady))]
		if rand.N(2) == 0 {
			s.service.Forget(p.Session)
			s.forgotten.Add(1)
		} else {
			s.authgear.UpdateProfile(p.User, func(*authgeartest.User) {})
			s.events.Add(1)
		}
	}
}

func (s *soak) measure(ctx context.Context) {
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		if l, err := s.level(); err == nil && l.goroutines > 0 {
			s.levels = append(s.levels, stamped{l, time.Now()})
		}
	}
}

// soakHarms are what befalls the way to Authgear.
var soakHarms = []harm{
	{resets: 100}, {resets: 30}, {silent: true}, {refuses: true}, {most: 40}, {trickle: soakTimeout / 10}, {latency: 100 * time.Millisecond, jitter: 300 * time.Millisecond},
}

// disturb harms and restarts in turn, the service in the first two thirds of the time only:
// then it is seen whether what it takes stays level.
func (s *soak) disturb(ctx context.Context, began time.Time, d time.Duration) {
	step := min(max(d/60, bound/2), 20*time.Second)
	for n := 0; ctx.Err() == nil && s.failed == nil; n++ {
		sleep(ctx, step)
		early := time.Since(began) < d*2/3
		switch n % 6 {
		case 1:
			if early {
				s.restart(s.service.Stop)
				s.stops++
			}
		case 3:
			if early {
				s.restart(func() error { s.service.Kill(); return nil })
				s.kills++
			}
		case 5:
			s.fault(func() error { s.authgear.Close(); sleep(ctx, step/4); return s.authgear.Reopen() })
			s.authgearRestarts++
		default:
			s.fault(func() error {
				err := s.between.set(soakHarms[s.harms%len(soakHarms)])
				sleep(ctx, rand.N(min(2*bound, d/8)))
				if e := s.between.set(harm{}); err == nil {
					err = e
				}
				return err
			})
			s.harms++
		}
	}
}

func (s *soak) fault(f func() error) {
	ends := s.begins(&s.faults)
	defer ends()
	if err := f(); err != nil {
		s.failed = err
	}
}

func (s *soak) restart(end func() error) {
	ends := s.begins(&s.downs)
	defer ends()
	err := end()
	s.oracle.mu.Lock()
	s.started = time.Now() // before the next process answers anybody: what it sees, it sees first
	s.oracle.mu.Unlock()
	if err == nil {
		err = s.service.Start()
	}
	if err != nil {
		s.failed = err
	}
}

// sinceRestart are the levels of the last process, without its first half minute or tenth.
func (s *soak) sinceRestart() []stamped {
	warm := s.started.Add(min(30*time.Second, time.Since(s.started)/10))
	i := slices.IndexFunc(s.levels, func(l stamped) bool { return l.at.After(warm) })
	return s.levels[max(i, 0):]
}

// medians are of the first and of the last third of the levels.
func medians(levels []stamped) (first, last level) {
	third := max(len(levels)/3, 1)
	return median(levels[:min(third, len(levels))]), median(levels[len(levels)-min(third, len(levels)):])
}

func median(levels []stamped) (m level) {
	if len(levels) == 0 {
		return m
	}
	middle := func(of func(stamped) int64) int64 {
		var all []int64
		for _, l := range levels {
			all = append(all, of(l))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	m.memory = middle(func(l stamped) int64 { return l.memory })
	m.goroutines = int(middle(func(l stamped) int64 { return int64(l.goroutines) }))
	m.files = int(middle(func(l stamped) int64 { return int64(l.files) }))
	return m
}

func (s *soak) problems() (list []string) {
	list = s.oracle.problems("soak")
	problem := func(format string, args ...any) { list = append(list, "soak: "+fmt.Sprintf(format, args...)) }
	if n := s.visitsWrong.Load(); n > 0 {
		problem("%d wrong answers to visitors", n)
	}
	if n := s.triesAccepted.Load(); n > 0 {
		problem("%d made-up tokens were accepted", n)
	}
	if n := s.neverDenied.Load(); n > 0 {
		problem("%d sessions were never denied after their end", n)
	}
	first, last := medians(s.sinceRestart())
	files := first.files + 30
	if time.Since(s.started) < time.Minute {
		files += resolver.MaxQuestions // connections to Authgear that a fault has opened stay for ten seconds
	}
	if last.memory > first.memory*6/5+(16<<20) || last.goroutines > first.goroutines+30 || last.files > files {
		problem("what it takes grows: %+v, then %+v", first, last)
	}
	if s.answers[200] == 0 || s.answers[401] == 0 || s.ended.Load() == 0 {
		problem("it did not take place: %v", s.answers)
	}
	return list
}

func (s *soak) print(w io.Writer, took time.Duration) {
	first, last := medians(s.sinceRestart())
	fmt.Fprintln(w, "| What | How much |")
	fmt.Fprintln(w, "|---|---|")
	for _, line := range [][2]string{
		{"time", took.Round(time.Second).String()},
		{"answers that were judged", fmt.Sprintf("%d (%s)", s.total(), answers(s.answers))},
		{"wrong answers, verdicts that flipped", fmt.Sprint(s.wrong)},
		{"requests of visitors; wrong", fmt.Sprintf("%d; %d", s.visits.Load(), s.visitsWrong.Load())},
		{"made-up tokens; accepted", fmt.Sprintf("%d; %d", s.tries.Load(), s.triesAccepted.Load())},
		{"sessions that ended; never denied after", fmt.Sprintf("%d; %d", s.ended.Load(), s.neverDenied.Load())},
		{"roles changed, `/forget`, events taken or sent", fmt.Sprintf("%d, %d, %d", s.rolesChanged.Load(), s.forgotten.Load(), s.events.Load())},
		{"faults on the way, restarts of Authgear", fmt.Sprintf("%d, %d", s.harms, s.authgearRestarts)},
		{"restarts of the service: SIGTERM, SIGKILL", fmt.Sprintf("%d, %d", s.stops, s.kills)},
		{"memory since the last restart, its first third → its last", mib(first.memory) + " → " + mib(last.memory)},
		{"goroutines, likewise", fmt.Sprintf("%d → %d", first.goroutines, last.goroutines)},
		{"open files, likewise", fmt.Sprintf("%d → %d", first.files, last.files)},
	} {
		fmt.Fprintf(w, "| %s |\n", strings.Join(line[:], " | "))
	}
}

// playSoak soaks for so long.
func playSoak(ctx context.Context, o options, table, _ io.Writer) (problems []string, err error) {
	s, err := newSoak(o.binary)
	if err != nil {
		return nil, err
	}
	defer s.close()
	began := time.Now()
	if err := s.run(ctx, o.duration); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.service.Output())
	}
	s.print(table, time.Since(began))
	return s.problems(), nil
}
