package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// A subject is a session that is revoked while it is in use. Two clients poll
// with it, so that one is free while the other waits.
type subject struct {
	*session
	from, end time.Time // planned: when it is used first, and when it is revoked

	mu       sync.Mutex
	revoking time.Time // just before Authgear was told
	revoked  time.Time // just after: the change is done
	told     time.Time // when what follows from it was done, such as telling the service
	denied   bool      // since then
	answers  []answer
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
		pause, over = s.note(st.ask(s.session), st.bound)
		sleep(ctx, pause/2+rand.N(pause))
	}
}

// note keeps an answer. It returns how long to pause, and whether there were
// enough.
func (s *subject) note(a answer, bound time.Duration) (pause time.Duration, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, a)
	revoked := !s.revoked.IsZero()
	since := a.end.Sub(s.revoked)
	s.denied = s.denied || revoked && isDenial(a.status) && a.start.After(s.revoked)
	switch {
	case s.denied:
		return pauseDenied, since > bound+bound/5
	case a.end.Sub(s.end).Abs() < near:
		return pauseNear, false
	case !revoked:
		return pauseBefore, false
	}
	return pauseWhile, since > mostPatience+2*bound
}

// revoke ends the session when that is planned, by f.
func (s *subject) revoke(ctx context.Context, st *stand, f func(*stand, *session) (time.Time, error)) error {
	sleep(ctx, time.Until(s.end))
	s.mu.Lock()
	s.revoking = time.Now()
	s.mu.Unlock()
	done, err := f(st, s.session)
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
		switch before := a.end.Before(s.revoking); {
		case a.wrong:
			o.wrong++
		case a.status == http.StatusOK && before:
			accepted = true
		case a.status == http.StatusOK && sight.After(s.revoked) && !a.start.Before(sight):
			o.onSignature++
			o.onSignatureFor = max(o.onSignatureFor, a.end.Sub(sight))
		case a.status == http.StatusOK:
			o.last = max(o.last, a.start.Sub(s.revoked))
			o.lastEnd = max(o.lastEnd, a.end.Sub(s.revoked))
			if a.start.After(s.told) {
				o.afterTold++
			}
		case isDenial(a.status) && !before:
			denied = true
		case a.status == http.StatusServiceUnavailable:
			o.unavailable++
		case a.status == 0:
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
	if dead.IsZero() || !s.isJWT {
		return first
	}
	for _, a := range s.answers {
		if a.status != 0 && !a.start.Before(dead) && (first.IsZero() || a.start.Before(first)) {
			first = a.start
		}
	}
	return first
}
