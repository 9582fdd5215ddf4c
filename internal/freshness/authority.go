package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// An authority is the development Authgear on a listener of its own, which
// counts the questions to the resolver by whom they are about.
type authority struct {
	*authgeartest.Server
	http *http.Server

	// late is how much later an answer comes than it was worked out: what it
	// says may be wrong when it arrives.
	late atomic.Int64

	services []string // where events are passed on to: each to one of them

	mu           sync.Mutex
	delivered    map[string]chan struct{} // of those whose event is awaited :: user → closed when the service took it
	questions    map[string]int           // about those who signed in :: credential → how many
	strangers    int                      // about others, in flight
	mostAtOnce   int                      // of those
	strangerJWTs int                      // about JWTs that only look like Authgear's
}

// usual is how long the real resolver takes. Contract §2.
const usual = 3 * time.Millisecond

func newAuthority() (*authority, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &authority{
		Server:    authgeartest.New(authgeartest.Options{Origin: "http://" + l.Addr().String()}),
		delivered: map[string]chan struct{}{},
		questions: map[string]int{},
	}
	a.late.Store(int64(usual))
	a.http = &http.Server{Handler: http.HandlerFunc(a.serve)}
	go a.http.Serve(l)
	return a, nil
}

func (a *authority) close() { a.http.Close() }

// slow makes each answer come so much later than it was worked out.
func (a *authority) slow(d time.Duration) { a.late.Store(int64(d)) }

func (a *authority) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_resolver/resolve":
	case eventPath:
		a.passOn(r)
		return
	default:
		a.ServeHTTP(w, r)
		return
	}
	defer a.count(credentialOf(r))()
	a.ServeHTTP(w, r) // its answer is short, and is sent when this function returns
	select {
	case <-time.After(time.Duration(a.late.Load())):
	case <-r.Context().Done():
	}
}

// eventPath is where events are passed on, so that it is known when the service
// took them.
const eventPath = "/events"

// expect returns what is closed when the service took the user's next event.
func (a *authority) expect(user string) <-chan struct{} {
	c := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delivered[user] = c
	return c
}

func (a *authority) passOn(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, a.services[rand.IntN(len(a.services))]+"/hooks/authgear", bytes.NewReader(body))
	if err != nil {
		return
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return
	}
	resp.Body.Close()
	var event struct {
		Context struct {
			UserID string `json:"user_id"`
		}
	}
	if json.Unmarshal(body, &event) != nil || resp.StatusCode != http.StatusOK {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.delivered[event.Context.UserID]; c != nil {
		close(c)
		delete(a.delivered, event.Context.UserID)
	}
}

func credentialOf(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	if c, err := r.Cookie("session"); err == nil {
		return c.Value
	}
	return ""
}

func (a *authority) count(credential string) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.questions[credential]; known {
		a.questions[credential]++
		return func() {}
	}
	if strings.HasPrefix(credential, "eyJ") {
		a.strangerJWTs++
	}
	a.strangers++
	a.mostAtOnce = max(a.mostAtOnce, a.strangers)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.strangers--
	}
}

// asked returns how many questions there were about each of the sessions.
func (a *authority) asked(sessions []*session) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []int
	for _, s := range sessions {
		list = append(list, a.questions[s.credential])
	}
	return list
}

// A session is a user who signed in, and how the requests say so.
type session struct {
	user         *authgeartest.User
	isJWT        bool
	credential   string
	field, value string
}

// signIn returns new sessions of as many users, of each kind in turn.
func (a *authority) signIn(n int) []*session {
	var list []*session
	for i := range n {
		s := &session{user: a.AddUser(authgeartest.User{CanReauthenticate: true})}
		switch i % 3 {
		case 0:
			s.isJWT, s.credential = true, a.JWT(s.user)
		case 1:
			s.credential = a.OpaqueToken(s.user)
		case 2:
			s.credential = a.SessionCookie(s.user)
		}
		s.field, s.value = "Authorization", "Bearer "+s.credential
		if i%3 == 2 {
			s.field, s.value = "Cookie", "session="+s.credential
		}
		a.mu.Lock()
		a.questions[s.credential] = 0
		a.mu.Unlock()
		list = append(list, s)
	}
	return list
}
