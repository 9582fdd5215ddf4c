package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/proxytest"
)

// A halfConn sends once, and reads nothing.
type halfConn struct {
	net.Conn
	sent int
}

func (c *halfConn) Write(b []byte) (int, error) {
	if c.sent++; c.sent > 1 {
		return 0, errors.New("it sends no more")
	}
	return c.Conn.Write(b)
}

func (*halfConn) Read([]byte) (int, error) { return 0, errors.New("it reads nothing") }

func TestAConnectionThatStandsStillEnds(t *testing.T) {
	const get, half = "GET / HTTP/1.1\r\nHost: auth\r\n\r\n", "GET / HTTP/1.1\r\nHo"
	const body = "POST /body HTTP/1.1\r\nHost: auth\r\nContent-Length: 9\r\n"
	ca := proxytest.NewCA(t)
	certificate, err := tls.X509KeyPair(ca.Sign(t, "the service"))
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{certificate}}
	trusts := &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
	for _, tt := range []struct {
		name string
		tls  *tls.Config
		do   func(*standing)
		then phase
		may  int // seconds
	}{
		{"nothing comes", nil, func(*standing) {}, idle, 120},
		{"half a request comes", nil, func(s *standing) { s.send(half) }, reading, 10},
		{"a byte comes now and then", nil, func(s *standing) {
			s.send("G")
			s.await(reading)
			s.seconds(5)
			s.send("E")
		}, reading, 5},
		{"nothing comes after an answer", nil, func(s *standing) { s.send(get); s.receive("200 OK") }, idle, 120},
		{"half a request comes behind another", nil, func(s *standing) { s.send(get + half); s.receive("200 OK") }, reading, 10},
		{"a body stays away", nil, func(s *standing) { s.send(body + "\r\n") }, reading, 10},
		{"a body stays away behind another request", nil, func(s *standing) { s.send(get + body + "\r\n") }, reading, 10},
		{"a body stays away that is asked for", nil, func(s *standing) {
			s.send(body + "Expect: 100-continue\r\n\r\n")
			s.receive("100 Continue")
		}, reading, 10},
		{"the answer takes its time", nil, func(s *standing) {
			s.send(strings.Replace(get, "/", "/slow", 1))
			s.await(answering)
			s.seconds(1000)
			s.slow <- true
			s.receive("200 OK")
		}, idle, 120},
		{"the answer is not read", nil, func(s *standing) { s.send(strings.Replace(get, "/", "/large", 1)) }, writing, 10},
		{"nothing comes on TLS", secure, func(*standing) {}, shaking, 10},
		{"half a handshake comes", secure, func(s *standing) {
			tls.Client(&halfConn{Conn: s.peer}, trusts).Handshake()
		}, shaking, 10},
		{"nothing comes after the handshake", secure, func(s *standing) {
			if err := tls.Client(s.peer, trusts).Handshake(); err != nil {
				t.Error(err)
			}
		}, idle, 120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStanding(t, tt.tls)
			tt.do(s)
			s.await(tt.then)
			s.seconds(tt.may)
			if err := s.conn().under.SetDeadline(time.Time{}); err != nil { // as one that is closed tells
				t.Errorf("it has ended too early: %v", err)
			}
			s.seconds(1)
			s.peer.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, s.peer); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("it has not ended: %v", err)
			}
			proxytest.Eventually(t, "it is not watched any more", func() bool { return s.conn() == nil })
		})
	}
}

// A standing is one connection to a server, and whoever made it. The test tells the time.
type standing struct {
	*testing.T
	watch *watch
	peer  net.Conn
	slow  chan bool // lets an answer at /slow go on
}

func newStanding(t *testing.T, secure *tls.Config) *standing {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &standing{T: t, watch: newWatch(l, secure, func(error) {}), slow: make(chan bool)}
	s.watch.stop()
	server := newServer(l, func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/slow":
			<-s.slow
		case "/large":
			ctx.SetBody(make([]byte, 64<<20))
		}
	}, forwardauth.Body{Path: "/body", Most: 1 << 10})
	served := make(chan error)
	go func() { served <- server.Serve(s.watch) }()
	if s.peer, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.peer.Close(); l.Close(); <-served })
	proxytest.Eventually(t, "the connection is there", func() bool { return s.conn() != nil })
	return s
}

func (s *standing) conn() *watchedConn {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for c := range s.watch.conns {
		return c
	}
	return nil
}

func (s *standing) await(p phase) {
	s.Helper()
	proxytest.Eventually(s, fmt.Sprintf("the connection is in phase %d", p), func() bool { return s.conn().phase() == p })
}

func (s *standing) send(text string) { io.WriteString(s.peer, text) }

func (s *standing) receive(text string) {
	s.Helper()
	b := make([]byte, 4<<10)
	s.peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := s.peer.Read(b); !strings.Contains(string(b[:n]), text) {
		s.Fatalf("%q came, and %v; want %q", b[:n], err, text)
	}
}

// seconds lets so many pass for the watch.
func (s *standing) seconds(n int) {
	for range n {
		s.watch.look()
	}
}

// Who has been answered lets others go first; every other time, if there are so many that
// nobody would look at the network.
func TestOthersGoFirstAndACrowdLessOften(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var takes, went atomic.Int64
	defer takes.Store(-1)
	go func() {
		for takes.Load() >= 0 {
			went.Add(1)
			for begin := time.Now(); time.Since(begin) < time.Duration(takes.Load()); {
			}
			runtime.Gosched()
		}
	}()
	c := new(watchedConn)
	often := func(n int) (others int64) {
		before := went.Load()
		for range n {
			c.letOthersGo()
		}
		return went.Load() - before
	}
	if n := often(160); n < 130 {
		t.Errorf("others went %d of 160 times", n)
	}
	takes.Store(int64(2 * time.Millisecond))
	often(16) // it is noticed
	if n := often(160); n > 110 {
		t.Errorf("of a crowd, others went %d of 160 times", n)
	}
	takes.Store(0)
	often(16)
	if n := often(160); n < 130 {
		t.Errorf("afterwards, others went %d of 160 times", n)
	}
}

// Whoever sends a great many requests at once waits for everybody else.
func TestManyRequestsAtOnceDelayNobodyElse(t *testing.T) {
	const crowd, each, takes = 20, 400, 50 * time.Microsecond
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answers atomic.Int64
	s := newServer(l, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/user" {
			return
		}
		answers.Add(1)
		for begin := time.Now(); time.Since(begin) < takes; {
		}
	}, forwardauth.Body{})
	served := make(chan error)
	go func() { served <- s.serve() }()
	defer func() { s.stop(t.Context()); <-served }()

	user := connect(t, l.Addr().String())
	const request = "GET /%s HTTP/1.1\r\nHost: auth\r\n\r\n"
	for range crowd {
		c := connect(t, l.Addr().String())
		go io.Copy(io.Discard, c)
		if err := c.send(strings.Repeat(fmt.Sprintf(request, "many"), each)); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	for ; answers.Load() < crowd*each; asked++ {
		if err := errors.Join(user.send(fmt.Sprintf(request, "user")), user.answer()); err != nil {
			t.Fatal(err)
		}
	}
	// One connection after the other, with 10 ms each, would let the user in a few times.
	if asked < 100 {
		t.Errorf("%d answers beside %d", asked, crowd*each)
	}
}
