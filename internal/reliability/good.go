package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"authgear-forward-auth/internal/lab"
)

// good is the traffic of users who are signed in all the time, and must stay so.
type good struct {
	*stand
	sessions []*lab.Session
	stop     context.CancelFunc
	all      sync.WaitGroup

	mu  sync.Mutex
	now sample
}

// A sample is what became of the good traffic for some time.
type sample struct {
	answers, wrong, unavailable, nothing int
	hits                                 int // of the answers, those from memory
	latencies                            []time.Duration
}

// newGood returns traffic of n users, each of whom asks again a moment after each answer. It
// has gone on until all are remembered.
func (st *stand) newGood(ctx context.Context, n int) (*good, error) {
	g := &good{stand: st, sessions: st.authgear.SignIn(n)}
	for _, who := range g.sessions { // the keys are fetched, all are asked about
		st.service.Ask(who)
	}
	ctx, g.stop = context.WithCancel(ctx)
	for _, who := range g.sessions {
		g.all.Go(func() {
			for sleep(ctx, rand.N(bound/5)); ctx.Err() == nil; sleep(ctx, pause/2+rand.N(pause)) {
				g.note(st.service.Ask(who))
			}
		})
	}
	sleep(ctx, bound/5)
	return g, ctx.Err()
}

// pause is between two requests of a user, on average.
const pause = 20 * time.Millisecond

func (g *good) note(a lab.Answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.answers++
	g.now.latencies = append(g.now.latencies, a.End.Sub(a.Start))
	switch {
	case a.Status == http.StatusServiceUnavailable:
		g.now.unavailable++
	case a.Status == 0:
		g.now.nothing++
	case a.Status != http.StatusOK || a.Wrong:
		g.now.wrong++
	}
}

// during returns what becomes of the traffic while f goes on.
func (g *good) during(f func()) (sample, error) {
	before, err := g.hits()
	if err != nil {
		return sample{}, err
	}
	g.mu.Lock()
	g.now = sample{}
	g.mu.Unlock()
	f()
	g.mu.Lock()
	s := g.now
	g.mu.Unlock()
	after, err := g.hits()
	s.hits = after - before
	return s, err
}

// hits are the answers of the service that came from memory. Nobody else has any.
func (g *good) hits() (int, error) {
	figures, err := g.service.Figures()
	return int(figures[`authgear_forward_auth_sessions_total{result="hit"}`]), err
}

func (g *good) end() {
	g.stop()
	g.all.Wait()
}

// hitRatio counts as hits no more than there were answers: some were on their way when
// they were counted.
func (s *sample) hitRatio() float64 {
	if s.answers == 0 {
		return 0
	}
	return float64(min(s.hits, s.answers)) / float64(s.answers)
}

// sleep ends early when ctx does.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
