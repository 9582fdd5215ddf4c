package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
)

// An oracle knows what was true when, and looks at each answer.
type oracle struct {
	bound, timeout time.Duration // AUTHGEAR_MAX_STALENESS, AUTHGEAR_RESOLVER_TIMEOUT

	mu      sync.Mutex
	faults  []span // when Authgear could not be reached, or not well
	downs   []span // when the service was being restarted
	started time.Time

	answers map[int]int
	wrong   int
	first   []string // of the wrong ones, in words
}

// A span is a time in which something is so. to is zero until it ends.
type span struct{ from, to time.Time }

// overlaps tells whether it was so at any time between the two, or shortly before.
func overlaps(all []span, from, to time.Time, shortly time.Duration) bool {
	return slices.ContainsFunc(all, func(s span) bool {
		return !s.from.After(to) && (s.to.IsZero() || !s.to.Add(shortly).Before(from))
	})
}

func newOracle(bound, timeout time.Duration) *oracle {
	return &oracle{bound: bound, timeout: timeout, answers: map[int]int{}, started: time.Now()}
}

// begins notes that something is so until the function that it returns is called.
func (o *oracle) begins(list *[]span) (ends func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := len(*list)
	*list = append(*list, span{from: time.Now()})
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		(*list)[i].to = time.Now()
	}
}

// A person is somebody about whom the oracle knows all.
type person struct {
	*lab.Session
	name string

	mu       sync.Mutex
	revoking time.Time // just before Authgear was told
	revoked  time.Time // just after
	told     time.Time // when the service was, too
	roles    []role    // the last is in force
	sighted  time.Time // when this process of the service first answered
	denied   bool      // since the revocation
}

// A role is what a user had from some time on.
type role struct {
	name string
	from time.Time
}

// newPerson signs somebody in.
func (st *stand) newPerson(name string, kind int) *person {
	const first = "first"
	return &person{Session: st.authgear.SignInAs(kind, authgeartest.User{Roles: []string{first}}), name: name, roles: []role{{first, time.Now()}}}
}

// late is how long things take that need no time, where others use the machine too.
const late = time.Second

// judge looks at an answer to somebody.
func (o *oracle) judge(p *person, a lab.Answer) {
	o.mu.Lock()
	o.answers[a.Status]++
	fault := overlaps(o.faults, a.Start, a.End, 2*o.timeout+late) || a.Start.Before(o.started.Add(o.timeout+late))
	down := overlaps(o.downs, a.Start, a.End, late)
	started := o.started
	o.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	if a.Status != 0 && p.sighted.Before(started) && !a.Start.Before(started) {
		p.sighted = a.Start
	}
	// A process may believe a JWT that it never saw for one round trip.
	onSignature := p.IsJWT && a.Start.Sub(p.sighted) <= 2*o.timeout
	revoked := !p.revoked.IsZero()
	switch {
	case a.Status == 0 && !down:
		o.complain(p, a, "no answer")
	case a.Status == http.StatusServiceUnavailable && !fault && !down:
		o.complain(p, a, "nobody is away")
	case a.Status == http.StatusUnauthorized:
		p.denied = p.denied || revoked && a.Start.After(p.revoked)
		if p.revoking.IsZero() || a.End.Before(p.revoking) {
			o.complain(p, a, "is signed in")
		}
	case a.Status == http.StatusOK && a.Wrong:
		o.complain(p, a, "somebody else is named")
	case a.Status == http.StatusOK && revoked && !onSignature && a.Start.After(p.revoked.Add(o.bound)):
		o.complain(p, a, "was signed out longer ago than the bound")
	case a.Status == http.StatusOK && !p.told.IsZero() && !onSignature && a.Start.After(p.told):
		o.complain(p, a, "the service was told of the end")
	case a.Status == http.StatusOK && !p.had(a, o.bound, onSignature):
		o.complain(p, a, "the role is out of date: "+a.Roles)
	case !slices.Contains([]int{0, 200, 401, 503}, a.Status):
		o.complain(p, a, "not an answer to expect")
	}
}

// had tells whether somebody had the roles of an answer, at a time that it may rest on.
func (p *person) had(a lab.Answer, bound time.Duration, onSignature bool) bool {
	for i, r := range p.roles {
		still := i == len(p.roles)-1 || p.roles[i+1].from.After(a.Start.Add(-bound-late))
		if r.name == a.Roles && !r.from.After(a.End) && (still || onSignature && i == 0) {
			return true
		}
	}
	return false
}

func (o *oracle) complain(p *person, a lab.Answer, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrong++
	if len(o.first) < 10 {
		text := fmt.Sprintf("%s %s: %d: %s", a.Start.Format("15:04:05.000"), p.name, a.Status, why)
		if !p.revoked.IsZero() {
			text += fmt.Sprintf(" (signed out %s before)", a.Start.Sub(p.revoked).Round(time.Millisecond))
		}
		o.first = append(o.first, text)
	}
}

func (o *oracle) problems(of string) (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wrong > 0 {
		list = append(list, fmt.Sprintf("%s: %d wrong answers, such as\n  %s", of, o.wrong, strings.Join(o.first, "\n  ")))
	}
	return list
}

func (o *oracle) total() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, of := range o.answers {
		n += of
	}
	return n
}
