package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A subject is a session that is revoked while it is in use. Two clients poll
// with it, so that one is free while the other waits.
type subject struct {
	*lab.Session
	from, end time.Time // planned: when it is used first, and when it is revoked

	mu       sync.Mutex
	revoking time.Time // just before Authgear was told
	revoked  time.Time // just after: the change is done
	told     time.Time // when what follows from it was done, such as telling the service
	denied   bool      // since then
	answers  []lab.Answer
}

// How long a client pauses between two requests, on average.
const (
	pauseBefore = 40 * time.Millisecond
	pauseNear   = 2 * time.Millisecond // within near of the revocation
	pauseWhile  = 10 * time.Millisecond
	pauseDenied = 40 * time.Millisecond

	near = 100 * time.Millisecond
)

// poll asks until the session was denied and for some longer than the bound
// after its revocation, or until that takes too long.
func (s *subject) poll(ctx context.Context, st *stand) {
	sleep(ctx, time.Until(s.from))
	for over := false; !over && ctx.Err() == nil; {
		var pause time.Duration
		pause, over = s.note(st.ask(s.Session), st.bound)
		sleep(ctx, pause/2+rand.N(pause))
	}
}

// note keeps an answer. It returns how long to pause, and whether there were
// enough.
func (s *subject) note(a lab.Answer, bound time.Duration) (pause time.Duration, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, a)
	revoked := !s.revoked.IsZero()
	since := a.End.Sub(s.revoked)
	s.denied = s.denied || revoked && isDenial(a.Status) && a.Start.After(s.revoked)
	switch {
	case s.denied:
		return pauseDenied, since > bound+bound/5
	case a.End.Sub(s.end).Abs() < near:
		return pauseNear, false
	case !revoked:
		return pauseBefore, false
	}
	return pauseWhile, since > lab.MostPatience+2*bound
}

// revoke ends the session when that is planned, by f.
func (s *subject) revoke(ctx context.Context, st *stand, f func(*stand, *lab.Session) (time.Time, error)) error {
	sleep(ctx, time.Until(s.end))
	s.mu.Lock()
	s.revoking = time.Now()
	s.mu.Unlock()
	done, err := f(st, s.Session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked, s.told = done, time.Now()
	return err
}

func isDenial(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// sleep ends early when ctx does.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// An outcome is what became of a subject.
type outcome struct {
	last, lastEnd time.Duration // from the revocation to the last 200: to its request, and to its answer

	afterTold int // 200s whose request began when the service had been told, if it was

	// A process that sees a JWT for the first time may answer it on its
	// signature for one round trip. Such answers to a token that was revoked
	// before are not in last.
	onSignature    int
	onSignatureFor time.Duration // from the process's first sight of the token to its last such answer

	wrong, unavailable, nothing int  // answers
	unproven                    bool // it was never accepted before, or never denied after
}

// outcome looks at all answers. dead is when the service's process was seen to be
// dead, before another one began; zero if that did not happen.
func (s *subject) outcome(dead time.Time) (o outcome) {
	var accepted, denied bool
	sight := s.firstSight(dead)
	for _, a := range s.answers {
		switch before := a.End.Before(s.revoking); {
		case a.Wrong:
			o.wrong++
		case a.Status == http.StatusOK && before:
			accepted = true
		case a.Status == http.StatusOK && sight.After(s.revoked) && !a.Start.Before(sight):
			o.onSignature++
			o.onSignatureFor = max(o.onSignatureFor, a.End.Sub(sight))
		case a.Status == http.StatusOK:
			o.last = max(o.last, a.Start.Sub(s.revoked))
			o.lastEnd = max(o.lastEnd, a.End.Sub(s.revoked))
			if a.Start.After(s.told) {
				o.afterTold++
			}
		case isDenial(a.Status) && !before:
			denied = true
		case a.Status == http.StatusServiceUnavailable:
			o.unavailable++
		case a.Status == 0:
			o.nothing++
		default: // somebody who is signed in was denied, or it is no answer at all
			o.wrong++
		}
	}
	o.unproven = !accepted || !denied
	return o
}

// firstSight is when a JWT was first shown to the process that came after dead;
// zero if that makes no difference.
func (s *subject) firstSight(dead time.Time) (first time.Time) {
	if dead.IsZero() || !s.IsJWT {
		return first
	}
	for _, a := range s.answers {
		if a.Status != 0 && !a.Start.Before(dead) && (first.IsZero() || a.Start.Before(first)) {
			first = a.Start
		}
	}
	return first
}
