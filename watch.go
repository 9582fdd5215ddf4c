package main

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A watch is a listener that closes connections which stand still for too long. It
// looks once a second. Deadlines would be set three times for each request, at a
// twentieth of what a remembered answer costs.
type watch struct {
	net.Listener
	now   atomic.Int64 // in seconds since it began
	mu    sync.Mutex
	conns map[*watchedConn]bool
	ended chan struct{}
}

// A phase is what a connection waits for.
type phase int64

const (
	idle      phase = iota // the next request
	reading                // the rest of a request
	answering              // us; whom we ask has a deadline
	writing                // the peer, who does not read
	phases
)

// patience is how many seconds a phase may take. A proxy keeps an idle connection for
// less, so that it closes first.
var patience = [phases]int64{idle: 120, reading: 10, answering: 1 << 62, writing: 10}

func newWatch(l net.Listener) *watch {
	w := &watch{Listener: l, conns: make(map[*watchedConn]bool), ended: make(chan struct{})}
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
			c.Conn.Close()
		}
	}
}

// stop ends the watch over connections; none is closed.
func (w *watch) stop() { close(w.ended) }

func (w *watch) Accept() (net.Conn, error) {
	under, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &watchedConn{Conn: under, watch: w}
	c.enter(idle)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = true
	return c, nil
}

// A watchedConn knows since when it is in its phase.
type watchedConn struct {
	net.Conn
	watch *watch
	since atomic.Int64 // seconds × phases + phase
}

func (c *watchedConn) enter(p phase) { c.since.Store(c.watch.now.Load()*int64(phases) + int64(p)) }

func (c *watchedConn) Read(b []byte) (int, error) {
	if phase(c.since.Load()%int64(phases)) == idle {
		// Those whose request is there go first. Meanwhile the next one may come, and
		// need not be waited for, which costs more than anything that we do with it.
		runtime.Gosched()
	}
	n, err := c.Conn.Read(b)
	if n > 0 && phase(c.since.Load()%int64(phases)) == idle {
		c.enter(reading)
	}
	return n, err
}

func (c *watchedConn) Write(b []byte) (int, error) {
	c.enter(writing)
	n, err := c.Conn.Write(b)
	c.enter(idle)
	return n, err
}

func (c *watchedConn) Close() error {
	c.watch.mu.Lock()
	delete(c.watch.conns, c)
	c.watch.mu.Unlock()
	return c.Conn.Close()
}
