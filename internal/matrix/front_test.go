//go:debug x509usefallbackroots=1
package matrix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A front is one of Authgear's addresses. What answers there changes.
type front struct {
	t           *testing.T
	addr        string
	certificate *tls.Certificate // nil: plain HTTP
	server      *httptest.Server
}

var fronts atomic.Int32

func newFront(t *testing.T, certificate *tls.Certificate) *front {
	f := &front{t: t, addr: "127.0.0.1:0", certificate: certificate}
	if n := fronts.Add(1); certificate == nil { // of its own: nobody else comes to its port when it has left
		f.addr = fmt.Sprintf("127.1.%d.%d:0", n/250, n%250+1)
	}
	f.serve(http.NotFoundHandler())
	t.Cleanup(f.refuse)
	return f
}

func (f *front) url() string {
	if f.certificate != nil {
		return "https://" + f.addr
	}
	return "http://" + f.addr
}

// serve makes another server answer, on new connections alone. It takes its time,
// as over a network: what is answered without it is answered before.
func (f *front) serve(h http.Handler) {
	f.refuse()
	s := httptest.NewUnstartedServer(after(pace, h))
	s.Listener.Close()
	var err error
	for range 100 { // until the connections of the last one have gone
		if s.Listener, err = net.Listen("tcp", f.addr); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr, f.server = s.Listener.Addr().String(), s
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if f.certificate == nil {
		s.Start()
		return
	}
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{*f.certificate},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			time.Sleep(pace)
			return nil, nil
		},
		SessionTicketsDisabled: true, // nobody goes on with the certificate of the last one
	}
	s.StartTLS()
}

func after(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		h.ServeHTTP(w, r)
	})
}

// refuse leaves nobody at the address.
func (f *front) refuse() {
	if f.server != nil {
		f.server.CloseClientConnections()
		f.server.Close()
		f.server = nil
	}
}

// A fault is what is wrong with a front, where all was well before.
type fault struct {
	name        string
	certificate *tls.Certificate // of the front before; nil: plain HTTP
	befall      func(f *front, well http.Handler)
}

var faults = []fault{
	{"connection refused", nil, func(f *front, _ http.Handler) { f.refuse() }},
	{"500", nil, answers(broken)},
	{"200 with garbage", nil, answers(garbage)},
	{"200 with an HTML page", nil, answers(page)},
	{"TLS certificate expired", &valid, func(f *front, well http.Handler) {
		f.certificate = &expired
		f.serve(well)
	}},
	{"no answer", nil, answers(hang)},
	{slowly, nil, func(f *front, well http.Handler) { f.serve(after(slow, well)) }},
}

const slowly = "slow, but within the timeout"

func answers(h http.HandlerFunc) func(*front, http.Handler) {
	return func(f *front, _ http.Handler) { f.serve(h) }
}

func broken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusInternalServerError)
	io.WriteString(w, `{"error":{"name":"InternalError","reason":"UnexpectedError","code":500}}`)
}

// garbage is fields that cannot be read, or JSON that is no key set.
func garbage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth2/jwks" {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"keys":"none"}`)
		return
	}
	w.Header().Set("X-Authgear-Session-Valid", "true")
	w.Header().Set("X-Authgear-User-Id", "mallory")
	w.Header().Set("X-Authgear-User-Verified", "perhaps")
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, "<!DOCTYPE html><title>Sign in to the network</title>")
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// valid and expired differ in their dates alone.
var (
	valid   = certificate(time.Now().Add(time.Hour))
	expired = certificate(time.Now().Add(-time.Hour))
)

func certificate(until time.Time) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(until.Unix()),
		NotBefore:    until.Add(-24 * time.Hour),
		NotAfter:     until,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// trustTheFronts makes their certificates the roots of this process, which it
// takes instead of the system's by the line at the top.
func trustTheFronts() {
	roots := x509.NewCertPool()
	roots.AddCert(valid.Leaf)
	roots.AddCert(expired.Leaf)
	x509.SetFallbackRoots(roots)
}
