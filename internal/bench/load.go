//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stream is a load of one kind, on connections that are kept. It costs less than
// any server: requests are rendered before, one thread serves all connections, and
// of an answer it reads the status and the length.
type stream struct {
	*requests
	conns int

	// once sends each request once, in order. Otherwise they come at random,
	// each as often as any other.
	once bool

	// rate is how many requests begin in a second, at random times, however
	// long answers take: the time of a request counts from when it was to begin.
	// 0: a connection asks again as soon as it has its answer.
	rate float64

	// awake keeps the load from sleeping while there is no answer. On a virtual
	// machine it costs the server as much as an answer to wake the other core.
	awake bool
}

// window is how long answers are measured together: that the machine does something
// else for a moment then spoils few of the windows.
const window = 100 * time.Millisecond

// An outcome is what became of a stream.
type outcome struct {
	answers int
	not200  int
	took    time.Duration
	latency []*histogram // of each window
}

// add notes an answer to a request that was to begin so long after the first one.
func (o *outcome) add(begun, took time.Duration) {
	i := int(begun / window)
	for len(o.latency) <= i {
		o.latency = append(o.latency, new(histogram))
	}
	o.latency[i].add(took)
}

// pooled is the percentile of all.
func (o *outcome) pooled(of float64) time.Duration {
	var all histogram
	for _, h := range o.latency {
		for i, n := range h.counts {
			all.counts[i] += n
		}
		all.n += h.n
	}
	return all.percentile(of)
}

// percentile is the median of those of the windows.
func (o *outcome) percentile(of float64) time.Duration {
	var each []float64
	whole := o.latency
	if len(whole) > 1 {
		whole = whole[:len(whole)-1] // the last one is short
	}
	for _, h := range whole {
		if h.n > 0 {
			each = append(each, float64(h.percentile(of)))
		}
	}
	if len(each) == 0 {
		return 0
	}
	return time.Duration(spreadOf(each).median)
}

func (o *outcome) perSecond() float64 { return float64(o.answers) / o.took.Seconds() }

// drive sends the streams to a server for so long, or until all of those that
// are sent once have been.
func drive(s server, d time.Duration, streams ...stream) ([]outcome, error) {
	return driveBetween(s, d, func() {}, func() {}, streams...)
}

// driveBetween calls before when all connections are there, and after before any of them
// ends.
func driveBetween(s server, d time.Duration, before, after func(), streams ...stream) ([]outcome, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dr, err := newDriver(s, streams)
	if err != nil {
		return nil, err
	}
	defer dr.close()
	before()
	if err := dr.run(d); err != nil {
		return nil, fmt.Errorf("load on %s: %w", s.addr, err)
	}
	after()
	outcomes := make([]outcome, len(streams))
	for i, s := range dr.streams {
		outcomes[i] = s.outcome
	}
	return outcomes, nil
}

type driver struct {
	epoll   int
	addr    unix.SockaddrInet4
	byFD    []func() error // what is to be done when there is something to read
	conns   []*conn
	streams []*sending
	random  *rand.Rand
	begin   time.Time
	end     time.Time
	waiting int // requests without their answer
}

// sending is a stream on its way.
type sending struct {
	stream
	outcome
	sent int
	next time.Time // when the next request is to begin
	idle []*conn
}

type conn struct {
	fd    int
	of    *sending
	begun time.Time
	buf   [8 << 10]byte
	n     int
}

func newDriver(of server, streams []stream) (*driver, error) {
	at, err := netip.ParseAddrPort(of.addr)
	if err != nil {
		return nil, err
	}
	dr := &driver{
		addr:   unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()},
		random: rand.New(rand.NewPCG(1, 2)),
	}
	if dr.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if of.asks != nil {
		if err := of.asks.serve(dr); err != nil {
			dr.close()
			return nil, err
		}
	}
	for _, s := range streams {
		on := &sending{stream: s}
		dr.streams = append(dr.streams, on)
		for range s.conns {
			c := &conn{of: on}
			if err := dr.connect(c); err != nil {
				dr.close()
				return nil, fmt.Errorf("connect to %s: %w", of.addr, err)
			}
			on.idle = append(on.idle, c)
		}
	}
	return dr, nil
}

func (dr *driver) connect(c *conn) (err error) {
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	dr.conns = append(dr.conns, c)
	if err := unix.Connect(c.fd, &dr.addr); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return err
	}
	return dr.await(c.fd, func() error { return dr.receive(c) })
}

// await does something whenever a file has something to read.
func (dr *driver) await(fd int, do func() error) error {
	for len(dr.byFD) <= fd {
		dr.byFD = append(dr.byFD, nil)
	}
	dr.byFD[fd] = do
	return unix.EpollCtl(dr.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (dr *driver) close() {
	for _, c := range dr.conns {
		unix.Close(c.fd)
	}
	unix.Close(dr.epoll)
}

func (dr *driver) run(d time.Duration) error {
	begin := time.Now()
	dr.begin, dr.end = begin, begin.Add(d)
	spins := false
	for _, s := range dr.streams {
		s.next = begin
		spins = spins || s.rate > 0 || s.awake
	}
	events := make([]unix.EpollEvent, 256)
	for now := begin; ; now = time.Now() {
		if err := dr.sendDue(now); err != nil {
			return err
		}
		if dr.waiting == 0 && (now.After(dr.end) || dr.allSent()) {
			break
		}
		if now.Sub(dr.end) > patience {
			return fmt.Errorf("%d requests without an answer", dr.waiting)
		}
		timeout := 100 // milliseconds
		if spins {
			timeout = 0 // a sleep is coarser than an answer takes
		}
		n, err := unix.EpollWait(dr.epoll, events, timeout)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n <= 0 && spins {
			syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // to a helper on this core
		}
		for _, e := range events[:max(n, 0)] {
			if err := dr.byFD[e.Fd](); err != nil {
				return err
			}
		}
	}
	for _, s := range dr.streams {
		s.took = min(time.Since(begin), d)
	}
	return nil
}

func (dr *driver) allSent() bool {
	for _, s := range dr.streams {
		if !s.once || s.sent < s.len() {
			return false
		}
	}
	return true
}

// sendDue sends what is to begin by now, as far as there are connections.
func (dr *driver) sendDue(now time.Time) error {
	for _, s := range dr.streams {
		for len(s.idle) > 0 && !s.next.After(now) && s.next.Before(dr.end) && !(s.once && s.sent == s.len()) {
			c := s.idle[len(s.idle)-1]
			s.idle = s.idle[:len(s.idle)-1]
			c.begun = now
			if s.rate > 0 {
				c.begun = s.next
				s.next = s.next.Add(time.Duration(dr.random.ExpFloat64() / s.rate * float64(time.Second)))
			} else if now.After(dr.end) {
				return nil
			}
			i := s.sent
			if !s.once {
				i = int(dr.random.Uint32N(uint32(s.len())))
			}
			s.sent++
			dr.waiting++
			request := s.get(i)
			if n, err := unix.Write(c.fd, request); err != nil || n < len(request) {
				return fmt.Errorf("send %d of %d bytes: %v", n, len(request), err)
			}
		}
	}
	return nil
}

func (dr *driver) receive(c *conn) error {
	n, err := unix.Read(c.fd, c.buf[c.n:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.New("the server ended a connection")
	}
	c.n += n
	whole, err := isWhole(c.buf[:c.n])
	if err != nil || !whole {
		return err
	}
	s := c.of
	s.answers++
	if string(c.buf[9:12]) != "200" {
		s.not200++
	}
	s.add(c.begun.Sub(dr.begin), time.Since(c.begun))
	dr.waiting--
	c.n = 0
	s.idle = append(s.idle, c)
	return nil
}

// isWhole tells whether all of an answer is there.
func isWhole(b []byte) (bool, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return false, nil
	}
	_, rest, ok := bytes.Cut(b[:end+2], []byte("\r\nContent-Length: "))
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(digits))
	if !ok || err != nil {
		return false, fmt.Errorf("an answer without a length: %q", b)
	}
	return len(b) >= end+4+length, nil
}
