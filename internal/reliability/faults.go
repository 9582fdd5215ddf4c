package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A fault befalls the way to Authgear, or Authgear itself, for longer than the bound.
type fault struct {
	name    string
	tls     bool // the service asks over TLS
	begin   func(*faulty) error
	end     func(*faulty) error // nil: as it was, there is nothing to undo
	outcome outcome
}

// An outcome is what users get when the bound has passed too.
type outcome string

const (
	served  outcome = "200"
	away    outcome = "503"
	partly  outcome = "200 or 503"
	timeout         = time.Second // AUTHGEAR_RESOLVER_TIMEOUT
)

func harmed(h harm) func(*faulty) error { return func(f *faulty) error { return f.between.set(h) } }

var faults = []fault{
	{name: "answers 100 ms late, and up to 300 ms more", begin: harmed(harm{latency: 100 * time.Millisecond, jitter: 300 * time.Millisecond}), outcome: served},
	{name: "answers later than the timeout", begin: harmed(harm{latency: 2 * timeout}), outcome: away},
	{name: "connections refused", begin: harmed(harm{refuses: true}), outcome: away},
	{name: "connections reset by each question", begin: harmed(harm{resets: 100}), outcome: away},
	{name: "a third of the questions reset", begin: harmed(harm{resets: 33}), outcome: partly},
	{name: "half-open connections: nothing comes back", begin: harmed(harm{silent: true}), outcome: away},
	{name: "answers cut after 40 bytes", begin: harmed(harm{most: 40}), outcome: away},
	{name: "answers in pieces of 16 bytes, within the timeout", begin: harmed(harm{trickle: time.Millisecond}), outcome: served},
	{name: "answers in pieces of 16 bytes, beyond it", begin: harmed(harm{trickle: timeout / 10}), outcome: away},
	{name: "TLS: the certificate of another name", tls: true, begin: changed(&otherName), outcome: away},
	{name: "TLS: an expired certificate", tls: true, begin: changed(&expired), outcome: away},
	{name: "TLS: a handshake that is never answered", tls: true, begin: harmed(harm{silent: true}), outcome: away},
	{name: "Authgear restarted", begin: func(f *faulty) error { f.authgear.Close(); return nil }, end: func(f *faulty) error { return f.authgear.Reopen() }, outcome: away},
	{name: "a key put before the others", begin: func(f *faulty) error { f.authgear.RotateKey(); return nil }, outcome: served},
	{name: "a key removed", begin: removed, outcome: served},
}

// A faulty is a stand on which a fault is played.
type faulty struct {
	*stand
	*oracle
	certificate atomic.Pointer[tls.Certificate]
	steady, bad []*person

	until    atomic.Int64 // beyond the bound: Unix nanoseconds, from when on; 0: not yet
	mu       sync.Mutex
	beyond   map[int]int           // answers beyond the bound :: status → how many
	back     map[*person]time.Time // when somebody was first served after the end
	ended    time.Time
	recovery time.Duration // of the last of them
	of       *fault
}

// removed ends the tokens of the key. Who has one is signed out.
func removed(f *faulty) error {
	for _, p := range f.steady {
		if p.IsJWT {
			p.mu.Lock()
			p.revoking = time.Now()
			p.mu.Unlock()
		}
	}
	f.authgear.RotateKey()
	f.authgear.DropOldKeys()
	for _, p := range f.steady {
		if p.IsJWT {
			p.mu.Lock()
			p.revoked = time.Now()
			p.mu.Unlock()
		}
	}
	return nil
}

func (of *fault) play(ctx context.Context, binary, dir string) (*faulty, error) {
	f := &faulty{oracle: newOracle(bound, timeout), of: of, beyond: map[int]int{}, back: map[*person]time.Time{}}
	settings := []string{"AUTHGEAR_RESOLVER_TIMEOUT=" + timeout.String()}
	var certificate func() *tls.Certificate
	if of.tls {
		roots, err := writeRoots(dir)
		if err != nil {
			return nil, err
		}
		settings = append(settings, "SSL_CERT_FILE="+roots)
		f.certificate.Store(&valid)
		certificate = f.certificate.Load
	}
	st, err := newStandBehindProxy(binary, certificate, settings...)
	if err != nil {
		return nil, err
	}
	f.stand = st
	defer f.close()
	for i := range 15 {
		f.steady = append(f.steady, f.newPerson(fmt.Sprintf("user %d", i), i))
	}
	for i := range 3 {
		f.bad = append(f.bad, f.newPerson(fmt.Sprintf("signed out %d", i), i))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = f.run(ctx, cancel)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", of.name, err, f.service.Output())
	}
	return f, nil
}

func (f *faulty) run(ctx context.Context, cancel context.CancelFunc) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for _, p := range append(f.steady, f.bad...) {
		all.Go(func() {
			for ; ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
				a := f.service.Ask(p.Session)
				f.judge(p, a)
				f.note(p, a)
			}
		})
	}
	sleep(ctx, bound) // and until the keys are older than the least time between two fetches
	for _, p := range f.bad {
		p.mu.Lock()
		p.revoking = time.Now()
		f.authgear.Revoke(p.Credential)
		p.revoked = time.Now()
		p.mu.Unlock()
	}
	sleep(ctx, bound+late)
	for _, p := range f.bad {
		if !p.isDenied() {
			return fmt.Errorf("%s is not denied", p.name)
		}
	}

	ends := f.begins(&f.faults)
	if f.of.outcome == served {
		ends() // it is no outage: nobody may notice
	}
	if err := f.of.begin(f); err != nil {
		return err
	}
	newcomers, stop := context.WithTimeout(ctx, bound+4*timeout+late)
	all.Go(func() { f.newcomers(newcomers) })
	sleep(ctx, bound+2*timeout+late)
	f.until.Store(time.Now().UnixNano())
	sleep(ctx, 2*timeout)
	f.until.Store(0)
	stop()
	f.mu.Lock()
	f.ended = time.Now()
	f.mu.Unlock()
	undo := f.of.end
	if undo == nil {
		undo = func(f *faulty) error { f.certificate.Store(&valid); return f.between.set(harm{}) }
	}
	if err := undo(f); err != nil {
		return err
	}
	if f.of.outcome != served {
		ends()
	}
	return f.awaitAll(ctx)
}

// note keeps what is answered beyond the bound, and when somebody is served again.
func (f *faulty) note(p *person, a lab.Answer) {
	p.mu.Lock()
	revoked := !p.revoking.IsZero()
	p.mu.Unlock()
	if revoked {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := f.until.Load(); since != 0 && a.Start.UnixNano() > since {
		f.beyond[a.Status]++
	}
	if !f.ended.IsZero() && a.Start.After(f.ended) && a.Status == http.StatusOK && f.back[p].IsZero() {
		f.back[p] = a.End
		f.recovery = max(f.recovery, a.End.Sub(f.ended))
	}
}

// awaitAll waits until each user is served again.
func (f *faulty) awaitAll(ctx context.Context) error {
	for end := time.Now().Add(patience); ; sleep(ctx, 50*time.Millisecond) {
		all := true
		f.mu.Lock()
		for _, p := range f.steady {
			if p.revoking.IsZero() && f.back[p].IsZero() {
				all = false
			}
		}
		f.mu.Unlock()
		if all || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s after the fault's end, not all are served", patience)
		}
	}
}

// newcomers sign in while the fault lasts.
func (f *faulty) newcomers(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		p := f.newPerson(fmt.Sprintf("newcomer %d", i), i)
		for range 2 {
			f.judge(p, f.service.Ask(p.Session))
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

func (f *faulty) problems() (list []string) {
	list = f.oracle.problems(f.of.name)
	for status, n := range f.beyond {
		if !strings.Contains(string(f.of.outcome), fmt.Sprint(status)) {
			list = append(list, fmt.Sprintf("%s: %d of the answers beyond the bound are %d", f.of.name, n, status))
		}
	}
	if len(f.beyond) == 0 {
		list = append(list, f.of.name+": nobody asked beyond the bound")
	}
	return list
}

// playFaults plays some faults at a time, each on a stand of its own.
func playFaults(ctx context.Context, o options, table, progress io.Writer) (problems []string, err error) {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	results := make([]*faulty, len(faults))
	failed := make([]error, len(faults))
	var all sync.WaitGroup
	atOnce := make(chan bool, o.atOnce)
	for i := range faults {
		if strings.Contains(faults[i].name, o.only) {
			all.Go(func() {
				atOnce <- true
				defer func() { <-atOnce }()
				results[i], failed[i] = faults[i].play(ctx, o.binary, dir)
			})
		}
	}
	all.Wait()
	fmt.Fprintln(table, "| Fault | Answers | Wrong | Beyond the bound | All served again after |")
	fmt.Fprintln(table, "|---|---|---|---|---|")
	for i, f := range results {
		if failed[i] != nil {
			return nil, failed[i]
		}
		if f != nil {
			fmt.Fprintf(table, "| %s | %d (%s) | %d | %s | %s |\n", f.of.name, f.total(), answers(f.answers), f.wrong, answers(f.beyond), ms(f.recovery))
			problems = append(problems, f.problems()...)
		}
	}
	return problems, nil
}
