package main

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A proxy stands between the service and Authgear, and harms what passes.
type proxy struct {
	addr   string
	target atomic.Pointer[string] // the address of Authgear; nil: it has none yet
	harm   atomic.Pointer[harm]

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
}

// A harm is what becomes of connections, those that are open already too. The zero harm is
// none.
type harm struct {
	refuses bool // nobody listens
	resets  int  // of a hundred connections, as soon as a question comes
	silent  bool // the peer is gone, and did not say so
	most    int  // bytes of an answer; then the connection ends
	latency time.Duration
	jitter  time.Duration // more than the latency, at random
	trickle time.Duration // between two pieces of an answer
}

func newProxy() (*proxy, error) {
	p := &proxy{addr: "127.0.0.1:0", open: map[net.Conn]bool{}}
	p.harm.Store(&harm{})
	if err := p.listen(); err != nil {
		return nil, err
	}
	p.addr = p.listener.Addr().String()
	return p, nil
}

func (p *proxy) listen() (err error) {
	for range 100 {
		if p.listener, err = net.Listen("tcp", p.addr); err == nil {
			go p.serve(p.listener)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// set makes the harm come, and the last one go.
func (p *proxy) set(h harm) error {
	before := p.harm.Swap(&h)
	switch {
	case h.refuses:
		p.listener.Close()
		p.reset()
	case before.refuses:
		return p.listen()
	case before.silent: // what was lost on them stays lost
		p.reset()
	}
	return nil
}

func (p *proxy) close() {
	p.listener.Close()
	p.reset()
}

func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (p *proxy) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go p.pass(c)
	}
}

func (p *proxy) pass(client net.Conn) {
	defer p.track(client)()
	target := p.target.Load()
	if target == nil {
		return
	}
	authgear, err := net.Dial("tcp", *target)
	if err != nil {
		client.(*net.TCPConn).SetLinger(0)
		return
	}
	defer p.track(authgear)()
	done := make(chan struct{}, 2)
	go func() {
		p.copy(authgear, client, p.ask)
		done <- struct{}{}
	}()
	go func() {
		p.copy(client, authgear, p.answer)
		done <- struct{}{}
	}()
	<-done
}

func (p *proxy) track(c net.Conn) (closed func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, c)
		c.Close()
	}
}

// copy passes on what comes, by way of f, which tells whether the connection goes on.
func (p *proxy) copy(to, from net.Conn, f func(to, from net.Conn, b []byte) bool) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !f(to, from, b[:n]) || err != nil {
			return
		}
	}
}

func (p *proxy) ask(to, from net.Conn, b []byte) bool {
	h := p.harm.Load()
	if rand.N(100) < h.resets {
		from.(*net.TCPConn).SetLinger(0)
		return false
	}
	if h.silent {
		return true
	}
	_, err := to.Write(b)
	return err == nil
}

func (p *proxy) answer(to, _ net.Conn, b []byte) bool {
	h := p.harm.Load()
	if h.silent {
		return true
	}
	time.Sleep(h.latency)
	if h.jitter > 0 {
		time.Sleep(rand.N(h.jitter))
	}
	if h.most > 0 {
		to.Write(b[:min(len(b), h.most)])
		return false
	}
	if h.trickle == 0 {
		_, err := to.Write(b)
		return err == nil
	}
	for piece := range slices.Chunk(b, 16) {
		if _, err := to.Write(piece); err != nil {
			return false
		}
		time.Sleep(h.trickle)
	}
	return true
}
