package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// traffic asks one question after another from many sides, on connections that
// are kept, and counts what becomes of them.
type traffic struct {
	addr, token string
	dial        func() (net.Conn, error) // nil: addr
	ended       atomic.Bool
	workers     sync.WaitGroup

	answered atomic.Int64 // 200
	refused  atomic.Int64 // nobody listened; asked again
	closed   atomic.Int64 // a kept connection ended before any answer, and the client asked again: RFC 9112 §9.3.1
	failed   sync.Map     // anything else, by its text
}

var errKept = errors.New("a kept connection ended")

// keptEnded tells whether a kept connection ended instead of bringing even one
// byte of an answer.
func keptEnded(kept bool, err error) bool {
	return kept && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// run asks until the traffic ends.
func (tr *traffic) run(ask func() error) {
	tr.workers.Go(func() {
		for !tr.ended.Load() {
			err := ask()
			switch {
			case err == nil:
				tr.answered.Add(1)
			case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
				tr.refused.Add(1) // reset: the kernel had the new connection when the service stopped to listen
				time.Sleep(time.Millisecond)
			case errors.Is(err, errKept):
				tr.closed.Add(1)
			default:
				tr.failed.Store(err.Error(), true)
			}
		}
	})
}

// answers waits until so many more are answered.
func (tr *traffic) answers(t *testing.T, n int64) {
	t.Helper()
	n += tr.answered.Load()
	proxytest.Eventually(t, "the traffic is answered", func() bool { return tr.answered.Load() >= n })
}

// end ends the traffic, in which no request may have failed.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	tr.ended.Store(true)
	tr.workers.Wait()
	t.Logf("%d answered, %d refused, %d kept connections closed", tr.answered.Load(), tr.refused.Load(), tr.closed.Load())
	tr.failed.Range(func(what, _ any) bool {
		t.Errorf("a request failed: %v", what)
		return true
	})
}

func (tr *traffic) connect() (net.Conn, error) {
	if tr.dial != nil {
		return tr.dial()
	}
	return proxytest.Dial(tr.addr)
}

// raw returns what asks on one connection.
func (tr *traffic) raw() func() error {
	var c net.Conn
	var answers *bufio.Reader
	kept := false
	return func() (err error) {
		if c == nil {
			if c, err = tr.connect(); err != nil {
				c = nil
				return err
			}
			answers, kept = bufio.NewReader(c), false
		}
		resp, err := tr.ask(c, answers, kept)
		if err != nil || resp.Close {
			c.Close()
			c = nil
		}
		kept = true
		return err
	}
}

// once asks on a connection of its own.
func (tr *traffic) once() error {
	c, err := tr.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = tr.ask(c, bufio.NewReader(c), false)
	return err
}

func (tr *traffic) ask(c net.Conn, answers *bufio.Reader, kept bool) (*http.Response, error) {
	c.SetDeadline(time.Now().Add(time.Minute))
	_, err := io.WriteString(c, question(tr.token))
	if err == nil {
		_, err = answers.Peek(1)
	}
	switch {
	case keptEnded(kept, err):
		return nil, errKept
	case err != nil:
		return nil, err
	}
	resp, err := http.ReadResponse(answers, nil)
	if err == nil {
		err = whole(resp)
	}
	return resp, err
}

// netHTTP asks as Go programs do, such as Traefik and Caddy: net/http itself asks
// again where a kept connection has ended.
func (tr *traffic) netHTTP(transport *http.Transport) error {
	kept := false
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { kept = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, "GET", "http://auth/nginx", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+tr.token)
	resp, err := transport.RoundTrip(req)
	switch {
	case err == nil:
		return whole(resp)
	case keptEnded(kept, err):
		return errKept
	}
	return err
}

func TestAStopUnderLoadFailsNoRequest(t *testing.T) {
	onEachNetwork(t, func(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server) {
		tr := &traffic{addr: s.Addr, token: authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))}
		transport := &http.Transport{
			MaxIdleConnsPerHost: 100,
			DialContext:         func(context.Context, string, string) (net.Conn, error) { return proxytest.Dial(tr.addr) },
		}
		defer transport.CloseIdleConnections()
		for range 16 {
			tr.run(tr.raw())
			tr.run(func() error { return tr.netHTTP(transport) })
		}
		tr.answers(t, 1000)
		s.Signal(syscall.SIGTERM)
		takeOver(t, s, authgear)
		endsWell(t, s)
		tr.answers(t, 1000)
		tr.end(t)
	})
}

func TestAStopUnderLoadFailsNoRequestOverTLS(t *testing.T) {
	ca := proxytest.NewCA(t)
	s, authgear, _ := onTLS(t, ca, "CLIENT_CA")
	config := trusting(t, ca, ca)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(100)
	tr := &traffic{token: authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))}
	tr.dial = func() (net.Conn, error) { return tls.Dial("tcp", s.Addr, config) }
	for range 16 {
		tr.run(tr.raw())
	}
	tr.answers(t, 1000)
	s.Signal(syscall.SIGTERM)
	endsWell(t, s)
	s.Start()
	tr.answers(t, 1000)
	tr.end(t)
}
