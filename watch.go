package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/direct"
	"authgear-forward-auth/internal/turn"
	"authgear-forward-auth/resolver"
)

// A watch is a listener that closes connections which stand still for too long. It
// looks once a second. Deadlines would be set three times for each request, at a
// twentieth of what a remembered answer costs. TLS is inside of what it watches, so
// that a phase is one of requests, and not of what TLS makes of them.
type watch struct {
	net.Listener
	tls     *tls.Config  // nil: without TLS
	refused func(error)  // is told why a handshake failed
	most    int          // connections at a time; 0: any number
	crowded func(error)  // is told that there are too many
	now     atomic.Int64 // in seconds since it began
	mu      sync.Mutex
	conns   map[*watchedConn]bool
	ended   chan struct{}
}

// A phase is what a connection waits for.
type phase int64

const (
	idle      phase = iota // the next request
	reading                // the rest of a request
	answering              // us; whom we ask has a deadline
	writing                // the peer, who does not read
	shaking                // the rest of the TLS handshake
	phases
)

// patience is how many seconds a phase may take. A proxy keeps an idle connection for
// less, so that it closes first.
var patience = [phases]int64{idle: 120, reading: 10, answering: 1 << 62, writing: 10, shaking: 10}

func newWatch(l net.Listener, secure *tls.Config, refused func(error)) *watch {
	w := &watch{Listener: l, tls: secure, refused: refused, conns: make(map[*watchedConn]bool), ended: make(chan struct{})}
	go w.run()
	return w
}

func (w *watch) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look()
		case <-w.ended:
			return
		}
	}
}

// look closes those whose patience has ended.
func (w *watch) look() {
	now := w.now.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if since := c.since.Load(); now-since/int64(phases) > patience[since%int64(phases)] {
			c.under.Close() // TLS would say goodbye, and wait until that is taken
		}
	}
}

// stop ends the watch over connections; none is closed.
func (w *watch) stop() { close(w.ended) }

func (w *watch) Accept() (net.Conn, error) {
	under, err := w.accept()
	if err != nil {
		return nil, err
	}
	c := &watchedConn{under: under, watch: w}
	if w.tls == nil {
		c.Conn = direct.Conn(under)
		c.under = c.Conn
		c.enter(idle)
	} else {
		c.Conn = tls.Server(under, w.tls)
		c.enter(shaking)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.most > 0 && len(w.conns) >= w.most {
		w.makeRoom()
	}
	w.conns[c] = true
	return c, nil
}

// accept waits until there is a file for the connection. That there is none passes, and is
// no reason to stop serving.
func (w *watch) accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := w.Listener.Accept()
		if !isShortage(err) {
			return c, err
		}
		w.crowded(err)
		time.Sleep(pause)
	}
}

func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// makeRoom closes the connection whose peer has been waited for the longest.
func (w *watch) makeRoom() {
	var idlest *watchedConn
	for c := range w.conns {
		if c.phase() != answering && (idlest == nil || c.since.Load() < idlest.since.Load()) {
			idlest = c
		}
	}
	w.crowded(fmt.Errorf("%d are taken, so that there are files for all else (see LimitNOFILE): the idlest one is closed for each new one", w.most))
	if idlest != nil {
		delete(w.conns, idlest)
		idlest.under.Close()
	}
}

// mostFiles is how many the connections of each listener may take. That leaves files for questions
// to Authgear and a fleet's Redis, and neither listener can take those of the other one.
func mostFiles() (main, admin int) {
	const reserved, forAdmin = 2 * resolver.MaxQuestions, 64
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, forAdmin
	}
	files := int(min(limit.Cur, 1<<30))
	files -= min(files/2, reserved)
	admin = min(files/4, forAdmin)
	return files - admin, admin
}

// A watchedConn knows since when it is in its phase.
type watchedConn struct {
	net.Conn
	under net.Conn // below TLS
	watch *watch
	since atomic.Int64 // seconds × phases + phase

	used    bool // an answer was begun
	came    bool // something, since then
	round   uint // of letting others go
	crowded bool // it took long
}

func (c *watchedConn) enter(p phase) { c.since.Store(c.watch.now.Load()*int64(phases) + int64(p)) }

func (c *watchedConn) phase() phase { return phase(c.since.Load() % int64(phases)) }

func (c *watchedConn) Read(b []byte) (int, error) {
	switch c.phase() {
	case shaking:
		if err := c.shake(); err != nil {
			return 0, err
		}
	case idle:
		// Those whose request is there go first. Meanwhile the next one may come, and
		// need not be waited for, which costs more than anything that we do with it.
		c.letOthersGo()
	}
	n, err := c.Conn.Read(b)
	if n > 0 && c.phase() == idle {
		c.enter(reading)
	}
	c.came = c.came || n > 0
	return n, err
}

// begun is told by the server that the first byte of a request is there, which may have come
// with the one before; of the first request, it is told too early.
func begun(conn net.Conn, state fasthttp.ConnState) {
	if c := conn.(*watchedConn); state == fasthttp.StateActive && c.used {
		c.enter(reading)
	}
}

// answer begins one. A request that came together with the one before it, as no proxy sends
// them, lets others go first: one connection may bring thousands at a time.
func (c *watchedConn) answer() {
	if !c.came {
		turn.Pass()
	}
	c.came, c.used = false, true
	c.enter(answering)
}

// letOthersGo does so; where that takes long, as one time in so many tells, every other time
// only. Then there is always somebody who can go on, and nobody looks at the network, where
// others wait, until those who have been answered wait there as well.
func (c *watchedConn) letOthersGo() {
	const long, rounds = time.Millisecond, 16
	if c.round++; c.round%rounds == 0 {
		begin := time.Now()
		runtime.Gosched()
		c.crowded = time.Since(begin) > long
	} else if !c.crowded || c.round%2 == 0 {
		runtime.Gosched()
	}
}

// shake makes the TLS handshake. That somebody connects and leaves, as some health checks
// do, is no failure.
func (c *watchedConn) shake() error {
	err := c.Conn.(*tls.Conn).Handshake()
	if err == nil {
		c.enter(idle)
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
		c.watch.refused(err)
	}
	return err
}

func (c *watchedConn) Write(b []byte) (int, error) {
	next := c.phase()
	if next == answering {
		next = idle
	}
	c.enter(writing)
	n, err := c.Conn.Write(b)
	c.enter(next) // if something of the next request is here, its rest is still waited for
	return n, err
}

func (c *watchedConn) Close() error {
	c.watch.mu.Lock()
	delete(c.watch.conns, c)
	c.watch.mu.Unlock()
	return c.Conn.Close()
}
