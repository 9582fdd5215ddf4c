package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
)

// The users are a process of their own, which goes before all others, so that the times that
// they see are the service's.

// asUsers is the argument by which this program is told to be the users.
const asUsers = "users"

// crowd are the users of a service.
type crowd struct {
	Addr  string
	First bool // before other processes
	Users []user
}

type user struct{ ID, Field, Value string }

// A sample is what became of the users' requests for some time.
type sample struct {
	Answers, Wrong, Unavailable, Nothing int

	// P99 is the median of those of each tenth of a second: a shared machine stands
	// still now and then.
	P99     time.Duration
	Slowest time.Duration // answer

	hits int // of the answers, those from memory
}

// A tally is a sample that is not complete.
type tally struct {
	sample
	window    time.Time // when the present tenth of a second began
	latencies []time.Duration
	p99s      []time.Duration
}

// serveUsers lets users ask all the time, and prints what became of that whenever a line
// comes, until no more comes.
func serveUsers(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var all crowd
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if all.First {
		if err := schedule(unix.SCHED_RR, 1); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	now := tally{window: time.Now()}
	service := lab.ServiceAt(all.Addr)
	for _, u := range all.Users {
		who := &lab.Session{User: &authgeartest.User{ID: u.ID}, Field: u.Field, Value: u.Value}
		go func() {
			for time.Sleep(rand.N(bound / 5)); ; time.Sleep(pause/2 + rand.N(pause)) {
				a := service.Ask(who)
				mu.Lock()
				now.note(a)
				mu.Unlock()
			}
		}()
	}
	for encoder := json.NewEncoder(out); ; {
		if _, err := lines.ReadBytes('\n'); err != nil {
			return nil
		}
		mu.Lock()
		now.P99 = lab.Percentile(now.p99s, 50)
		was := now.sample
		now = tally{window: time.Now()}
		mu.Unlock()
		if err := encoder.Encode(was); err != nil {
			return err
		}
	}
}

// pause is between two requests of a user, on average.
const pause = 20 * time.Millisecond

func (s *tally) note(a lab.Answer) {
	if a.End.Sub(s.window) > 100*time.Millisecond && len(s.latencies) > 0 {
		s.p99s = append(s.p99s, lab.Percentile(s.latencies, 99))
		s.window, s.latencies = a.End, s.latencies[:0]
	}
	s.Answers++
	s.latencies = append(s.latencies, a.End.Sub(a.Start))
	s.Slowest = max(s.Slowest, a.End.Sub(a.Start))
	switch {
	case a.Status == http.StatusServiceUnavailable:
		s.Unavailable++
	case a.Status == 0:
		s.Nothing++
	case a.Status != http.StatusOK || a.Wrong:
		s.Wrong++
	}
}

// hitRatio counts as hits no more than there were answers: some were on their way when
// they were counted.
func (s *sample) hitRatio() float64 {
	if s.Answers == 0 {
		return 0
	}
	return float64(min(s.hits, s.Answers)) / float64(s.Answers)
}

// stepBack leaves the machine to the service and its users, as far as they need it, until
// back is called: who floods a service has other machines. The development Authgear, which
// is in this process, steps back as well.
func stepBack() (back func() error, err error) {
	return func() error { return schedule(unix.SCHED_NORMAL, 0) }, schedule(unix.SCHED_IDLE, 0)
}

// schedule sets by what all threads are scheduled.
func schedule(policy, priority uint32) error {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	if err := lab.EachThread(func(id int) error { return unix.SchedSetAttr(id, attr, 0) }); err != nil {
		return fmt.Errorf("who goes first on this machine cannot be said (are you root?), so let floods -share it: %w", err)
	}
	return nil
}

// good is the traffic of users who are signed in all the time, and must stay so.
type good struct {
	*stand
	process *exec.Cmd
	ask     io.WriteCloser
	told    *json.Decoder
}

// newGood returns traffic of n users, each of whom asks again a moment after each answer. It
// has gone on until all are remembered.
func (st *stand) newGood(ctx context.Context, n int, first bool) (*good, error) {
	all := crowd{Addr: st.service.Addr, First: first}
	for _, who := range st.authgear.SignIn(n) { // the keys are fetched, all are asked about
		st.service.Ask(who)
		all.Users = append(all.Users, user{who.User.ID, who.Field, who.Value})
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &good{stand: st, process: exec.Command(program, asUsers)}
	g.process.Stderr = os.Stderr
	out, err := g.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if g.ask, err = g.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := g.process.Start(); err != nil {
		return nil, err
	}
	g.told = json.NewDecoder(out)
	if err = json.NewEncoder(g.ask).Encode(all); err == nil {
		sleep(ctx, bound/5)
		err = ctx.Err()
	}
	if err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// sleep ends early when ctx does.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// soFar returns what became of the traffic since it was called last.
func (g *good) soFar() (s sample, err error) {
	if _, err = io.WriteString(g.ask, "\n"); err == nil {
		err = g.told.Decode(&s)
	}
	return s, err
}

// during returns what becomes of the traffic while f goes on.
func (g *good) during(f func()) (sample, error) {
	before, err := g.hits()
	if err != nil {
		return sample{}, err
	}
	if _, err := g.soFar(); err != nil {
		return sample{}, err
	}
	f()
	s, err := g.soFar()
	if err != nil {
		return s, err
	}
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
	g.ask.Close()
	g.process.Wait()
}
