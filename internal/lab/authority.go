// Package lab is where the real service is tried: as a process, beside a development
// Authgear that counts what it is asked.
package lab

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// An Authority is the development Authgear on a listener of its own, which
// counts the questions to the resolver by whom they are about.
type Authority struct {
	*authgeartest.Server

	addr        string
	http        *http.Server
	certificate func() *tls.Certificate // nil: without TLS
	services    []string                // the URLs of those to which events are passed on: each to one of them

	// late is how much later an answer comes than it was worked out: what it
	// says may be wrong when it arrives.
	late atomic.Int64

	mu           sync.Mutex
	delivered    map[string]chan struct{} // of those whose event is awaited :: user → closed when the service took it
	questions    map[string]int           // about those who signed in :: credential → how many
	known        int                      // questions about those, in flight
	mostKnown    int                      // of those at a time
	strangers    int                      // questions about others, in flight
	mostAtOnce   int                      // of those at a time
	strangerJWTs int                      // questions about JWTs that only look like Authgear's
}

// Usual is how long the real resolver takes. Contract §2.
const Usual = 3 * time.Millisecond

// NewAuthority listens on loopback. Its origin is its own URL if none is given: then
// nobody stands between it and the service. It speaks TLS if there is a certificate, which
// may change.
func NewAuthority(origin string, certificate func() *tls.Certificate) (*Authority, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &Authority{
		addr:        l.Addr().String(),
		certificate: certificate,
		delivered:   map[string]chan struct{}{},
		questions:   map[string]int{},
	}
	if origin == "" {
		origin = "http://" + a.addr
	}
	a.Server = authgeartest.New(authgeartest.Options{Origin: origin})
	a.late.Store(int64(Usual))
	a.JWT(a.AddUser(authgeartest.User{})) // makes its key, which takes a while
	a.serveAt(l)
	return a, nil
}

func (a *Authority) serveAt(l net.Listener) {
	a.http = &http.Server{Handler: http.HandlerFunc(a.serve), ErrorLog: log.New(io.Discard, "", 0)}
	if a.certificate == nil {
		go a.http.Serve(l)
		return
	}
	a.http.TLSConfig = &tls.Config{
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.certificate(), nil },
		SessionTicketsDisabled: true, // nobody goes on with the certificate of before
	}
	go a.http.ServeTLS(l, "", "")
}

// Addr is where it listens.
func (a *Authority) Addr() string { return a.addr }

// Close leaves nobody at the address. What it knows stays, as in its databases.
func (a *Authority) Close() { a.http.Close() }

// Reopen listens at the same address again.
func (a *Authority) Reopen() error {
	l, err := net.Listen("tcp", a.addr)
	for range 100 {
		if err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
		l, err = net.Listen("tcp", a.addr)
	}
	if err == nil {
		a.serveAt(l)
	}
	return err
}

// Slow makes each answer come so much later than it was worked out.
func (a *Authority) Slow(d time.Duration) { a.late.Store(int64(d)) }

func (a *Authority) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_resolver/resolve":
	case EventPath:
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

// EventPath is where events are passed on, so that it is known when the service
// took them.
const EventPath = "/events"

// PassEventsOn makes each event reach one of the services, any of them, by way of
// EventPath. It is for an Authority without TLS.
func (a *Authority) PassEventsOn(services ...string) {
	a.services = services
	a.Webhook("http://"+a.addr+EventPath, WebhookSecret)
}

// Expect returns what is closed when the service took the user's next event.
func (a *Authority) Expect(user string) <-chan struct{} {
	c := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delivered[user] = c
	return c
}

func (a *Authority) passOn(r *http.Request) {
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

func (a *Authority) count(credential string) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.questions[credential]; known {
		a.questions[credential]++
		a.known++
		a.mostKnown = max(a.mostKnown, a.known)
		return func() { a.leave(&a.known) }
	}
	if strings.HasPrefix(credential, "eyJ") {
		a.strangerJWTs++
	}
	a.strangers++
	a.mostAtOnce = max(a.mostAtOnce, a.strangers)
	return func() { a.leave(&a.strangers) }
}

func (a *Authority) leave(inFlight *int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*inFlight--
}

// Questions is what the resolver was asked.
type Questions struct {
	MostStrangers int // at a time, about credentials that are nobody's
	MostKnown     int // at a time, about others
	StrangerJWTs  int // about JWTs that only look like Authgear's
}

// Questions returns what the resolver was asked so far.
func (a *Authority) Questions() Questions {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Questions{a.mostAtOnce, a.mostKnown, a.strangerJWTs}
}

// Asked returns how many questions there were about each of the sessions.
func (a *Authority) Asked(sessions []*Session) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []int
	for _, s := range sessions {
		list = append(list, a.questions[s.Credential])
	}
	return list
}
