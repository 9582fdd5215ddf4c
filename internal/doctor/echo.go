package doctor

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
)

// NonceField carries the nonce by which the echo knows a request of the doctor.
const NonceField = "Doctor-Nonce"

// An Echo stands in the application's place and keeps what arrives of the doctor's
// requests. To all others it answers 404 and keeps nothing. The zero value is ready.
type Echo struct {
	mu       sync.Mutex
	expected map[string]*expectation // by nonce
}

type expectation struct {
	page    pageKind
	arrived []arrival
}

// A pageKind is what the echo answers.
type pageKind int

const (
	notKept    pageKind = iota // a page that no cache may keep
	mayBeKept                  // a page of which nothing is said to caches
	withCookie                 // the same, with a cookie that has the nonce
)

// An arrival is a request as it reached the application.
type arrival struct {
	method          string
	header, trailer http.Header
	length          int64
	sum             [sha256.Size]byte // of the body
}

// page is how the echo's answer begins; the nonce follows.
const page = "authgear-forward-auth doctor "

const cookieName = "authgear_doctor"

func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nonce := r.Header.Get(NonceField)
	x := e.expectation(nonce)
	if x == nil {
		http.NotFound(w, r)
		return
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(r.Body, 2*bodySize))
	a := arrival{method: r.Method, header: r.Header, trailer: r.Trailer, length: n}
	hash.Sum(a.sum[:0])
	if err == nil {
		e.keep(x, a)
	}
	switch x.page {
	case notKept:
		w.Header().Set("Cache-Control", "no-store")
	case withCookie:
		w.Header().Set("Set-Cookie", cookieName+"="+nonce)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, page+nonce)
}

// expect makes the echo know a new nonce until it is taken.
func (e *Echo) expect(page pageKind) (nonce string) {
	nonce = rand.Text()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expected == nil {
		e.expected = map[string]*expectation{}
	}
	e.expected[nonce] = &expectation{page: page}
	return nonce
}

func (e *Echo) expectation(nonce string) *expectation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.expected[nonce]
}

func (e *Echo) keep(x *expectation, a arrival) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.arrived = append(x.arrived, a)
}

// take returns what arrived with a nonce and forgets it.
func (e *Echo) take(nonce string) []arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	arrived := e.expected[nonce].arrived
	delete(e.expected, nonce)
	return arrived
}
