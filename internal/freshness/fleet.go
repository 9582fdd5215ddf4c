package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A setUp is replicas under load, and what it cost.
type setUp struct {
	size
	name     string
	replicas int
	isFleet  bool

	requests  int64
	questions float64 // to the resolver, for each session and period
	most      int     // of one session
	periods   float64
	rate      float64 // questions in a second
	hits      float64 // of all looks at what is remembered
	p99       time.Duration
	commands  float64 // to Redis, for each session and period
	bad       int64   // answers

	restarted float64 // questions while all replicas were restarted: so many times the rate
}

type setUps []*setUp

// sideBySide measures a replica alone, three of those, and three that share a Redis.
func sideBySide(ctx context.Context, z size, binary string) (setUps, error) {
	all := setUps{{name: "one replica", replicas: 1}, {name: "three replicas", replicas: replicas}, withRedis()}
	for _, s := range all {
		s.size = z
		if err := s.measure(ctx, binary); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return all, nil
}

func withRedis() *setUp {
	return &setUp{name: "three replicas with Redis", replicas: replicas, isFleet: true}
}

// measured is how long one is measured: some periods.
func (z size) measured() time.Duration { return 4 * z.bound }

func (s *setUp) measure(ctx context.Context, binary string) (err error) {
	st := &stand{size: s.size}
	defer st.close()
	if st.authgear, err = lab.NewAuthority("", nil); err != nil {
		return err
	}
	env := s.env()
	if s.isFleet {
		if st.redis, err = startRedis(); err != nil {
			return err
		}
		env = append(env, st.redis.env(false)...)
	}
	if err := st.start(s.replicas, binary, env); err != nil {
		return err
	}
	b := st.bystanders(ctx)
	defer b.end(&result{scenario: &scenario{}, size: s.size})
	if err := s.steady(ctx, st, b); err != nil {
		return err
	}
	if s.isFleet {
		err = s.restart(ctx, st)
	}
	s.bad = b.wrong.Load() + b.unavailable.Load() + b.nothing.Load()
	return err
}

// steady counts while nothing else happens.
func (s *setUp) steady(ctx context.Context, st *stand, b *bystanders) error {
	looked, hit, err := st.looks()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.times = nil
	b.mu.Unlock()
	begin, before, commands, requests := time.Now(), st.authgear.Asked(b.sessions), st.commands(), b.answers.Load()
	sleep(ctx, s.measured())
	took := time.Since(begin)
	s.requests = b.answers.Load() - requests
	s.periods = float64(took) / float64(s.period())
	var sum int
	for i, n := range st.authgear.Asked(b.sessions) {
		sum += n - before[i]
		s.most = max(s.most, n-before[i])
	}
	s.rate = float64(sum) / took.Seconds()
	s.questions = float64(sum) / float64(len(before)) / s.periods
	s.commands = float64(st.commands()-commands) / float64(len(before)) / s.periods
	all, hits, err := st.looks()
	s.hits = (hits - hit) / (all - looked)
	b.mu.Lock()
	defer b.mu.Unlock()
	s.p99 = lab.Percentile(b.times, 99)
	return err
}

// restart restarts one replica after another, in as much time, and counts the questions.
func (s *setUp) restart(ctx context.Context, st *stand) error {
	begin, before := time.Now(), st.authgear.ResolverCalls()
	for i, one := range st.services {
		if err := one.restart(); err != nil {
			return err
		}
		sleep(ctx, time.Until(begin.Add(s.measured()*time.Duration(i+1)/time.Duration(len(st.services)))))
	}
	s.restarted = float64(st.authgear.ResolverCalls()-before) / time.Since(begin).Seconds() / s.rate
	return ctx.Err()
}

func (st *stand) looks() (all, hits float64, err error) {
	for _, s := range st.services {
		a, h, err := s.looks()
		if err != nil {
			return 0, 0, err
		}
		all, hits = all+a, hits+h
	}
	return all, hits, nil
}

// problems tells what breaks the promise. restarted is how much more may be asked while all
// are restarted.
func (all setUps) problems(restarted float64) (list []string) {
	for _, s := range all {
		problem := func(format string, args ...any) { list = append(list, s.name+": "+fmt.Sprintf(format, args...)) }
		if s.bad > 0 {
			problem("%d answers were wrong, or none", s.bad)
		}
		if most := int(s.periods) + 1; (s.isFleet || s.replicas == 1) && s.most > most {
			problem("a session was asked about %d times in %.1f periods", s.most, s.periods)
		}
		// Each replica looks once in a period, and the one that asks does some more.
		if most := float64(2*s.replicas + 6); s.commands > most {
			problem("%.1f commands to Redis for each session and period", s.commands)
		}
		if s.restarted > restarted {
			problem("while all were restarted, Authgear was asked %.2f times as much", s.restarted)
		}
	}
	if !slices.ContainsFunc(all, func(s *setUp) bool { return s.restarted > 0 }) {
		list = append(list, "nothing was restarted")
	}
	return list
}

func (all setUps) print(w io.Writer) {
	z := all[0].size
	fmt.Fprintf(w, "\n%d sessions in use, a bound of %s, so a period of %s or more:\n\n", z.bystanders, z.bound, z.period())
	fmt.Fprintln(w, "| | Requests | Resolver calls a second | per session and period | Hit ratio | p99 | Commands to Redis per session and period | Wrong answers, or none |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		fmt.Fprintf(w, "| %s | %d | %.1f | %.2f | %.2f %% | %s | %.1f | %d |\n", s.name, s.requests, s.rate, s.questions, 100*s.hits, ms(s.p99), s.commands, s.bad)
	}
	for _, s := range all {
		if s.restarted > 0 {
			fmt.Fprintf(w, "\nWhile all replicas of %q were restarted, one after another, Authgear was asked %.2f times as much.\n", s.name, s.restarted)
		}
	}
}
