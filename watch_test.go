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

// seconds lets so many pass for the watch.
func seconds(w *watch, n int) {
	for range n {
		w.look()
	}
}

func TestAConnectionThatStandsStillEnds(t *testing.T) {
	ca := proxytest.NewCA(t)
	certificate, err := tls.X509KeyPair(ca.Sign(t, "the service"))
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{certificate}}
	for _, tt := range []struct {
		name string
		tls  *tls.Config
		do   func(c *watchedConn, peer net.Conn)
		may  int // seconds
	}{
		{"nothing comes", nil, func(*watchedConn, net.Conn) {}, 120},
		{"half a request comes", nil, func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("GET / HT"))
			c.Read(make([]byte, 100))
		}, 10},
		{"a byte comes now and then", nil, func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("G"))
			c.Read(make([]byte, 100))
			seconds(c.watch, 5)
			peer.Write([]byte("E"))
			c.Read(make([]byte, 100))
		}, 5},
		{"nothing comes after an answer", nil, func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			c.Read(make([]byte, 100))
			c.enter(answering)
			seconds(c.watch, 1000) // as long as it takes
			c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		}, 120},
		{"a body stays away, behind a request that is not answered yet", nil, func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"))
			c.Read(make([]byte, 100))
			c.enter(answering)
			seconds(c.watch, 1000)
			go c.Read(make([]byte, 100))
			proxytest.Eventually(t, "the body is read", func() bool { return c.phase() == reading })
		}, 10},
		{"the answer is not read", nil, func(c *watchedConn, _ net.Conn) { c.enter(writing) }, 10},
		{"nothing comes on TLS", secure, func(c *watchedConn, _ net.Conn) { go c.Read(make([]byte, 100)) }, 10},
		{"half a handshake comes", secure, func(c *watchedConn, peer net.Conn) {
			go c.Read(make([]byte, 100))
			tls.Client(&halfConn{Conn: peer}, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}).Handshake()
		}, 10},
		{"nothing comes after the handshake", secure, func(c *watchedConn, peer net.Conn) {
			go c.Read(make([]byte, 100))
			if err := tls.Client(peer, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}).Handshake(); err != nil {
				t.Error(err)
			}
			proxytest.Eventually(t, "the handshake is made", func() bool { return c.phase() == idle })
		}, 120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			w := newWatch(l, tt.tls, func(error) {})
			w.stop() // the test tells the time
			defer l.Close()
			peer, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			accepted, err := w.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c := accepted.(*watchedConn)
			tt.do(c, peer)
			seconds(w, tt.may)
			if _, err := c.under.Write([]byte("still open")); err != nil {
				t.Errorf("it has ended too early: %v", err)
			}
			seconds(w, 1)
			peer.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadAll(peer); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("it has not ended: %v", err)
			}
			c.Close()
			if len(w.conns) != 0 {
				t.Errorf("%d connections are watched after the end, want 0", len(w.conns))
			}
		})
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
	}, nil)
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
