//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A questioned answers in Authgear's place what a service asks about opaque tokens, on the
// thread of the load. A process of its own would share a core with the load: each would
// wait for the other, and it is the load that measures how long an answer takes.
type questioned struct {
	addr     string
	listener int
	askers   map[int]*asker // by their file
	asked    int
}

// An asker is a connection of the service.
type asker struct {
	fd  int
	buf [4 << 10]byte
	n   int
}

func newQuestioned() (*questioned, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	q := &questioned{listener: fd, askers: make(map[int]*asker)}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	var at unix.Sockaddr
	if err == nil {
		at, err = unix.Getsockname(fd)
	}
	if err != nil {
		q.end()
		return nil, fmt.Errorf("listen for questions: %w", err)
	}
	q.addr = fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	return q, nil
}

func (q *questioned) end() {
	unix.Close(q.listener)
	for fd := range q.askers {
		unix.Close(fd)
	}
}

// serve lets a driver answer from now on.
func (q *questioned) serve(dr *driver) error {
	if err := dr.await(q.listener, func() error { return q.accept(dr) }); err != nil {
		return err
	}
	for _, a := range q.askers {
		if err := dr.await(a.fd, func() error { return q.answer(a) }); err != nil {
			return err
		}
	}
	return nil
}

func (q *questioned) accept(dr *driver) error {
	fd, _, err := unix.Accept4(q.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return fmt.Errorf("a connection that asks: %w", err)
	}
	a := &asker{fd: fd}
	q.askers[fd] = a
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return dr.await(fd, func() error { return q.answer(a) })
}

func (q *questioned) answer(a *asker) error {
	n, err := unix.Read(a.fd, a.buf[a.n:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case n <= 0: // the service needs it no more
		delete(q.askers, a.fd)
		return unix.Close(a.fd)
	}
	if a.n += n; a.n == len(a.buf) {
		return fmt.Errorf("a question of more than %d bytes", a.n)
	}
	if !bytes.HasSuffix(a.buf[:a.n], []byte("\r\n\r\n")) {
		return nil
	}
	q.asked++
	_, rest, bearer := bytes.Cut(a.buf[:a.n], []byte("\r\nAuthorization: Bearer "))
	token, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if !bearer || len(token) != 32 {
		return fmt.Errorf("not a question about an opaque token: %q", a.buf[:a.n])
	}
	text := nobody
	if !bytes.HasPrefix(token, []byte(unknown)) {
		text = fmt.Appendf(nil, somebody, userOf(string(token)))
	}
	a.n = 0
	if n, err := unix.Write(a.fd, text); err != nil || n < len(text) {
		return fmt.Errorf("answer with %d of %d bytes: %v", n, len(text), err)
	}
	return nil
}

var nobody = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

// somebody is the answer about a user. Authgear does not tell all that a token does.
var somebody = func() string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
	for i, field := range answer[1:] {
		switch {
		case i+1 == idField:
			field[1] = "%s"
		case slices.Contains([]string{"X-Authgear-Session-Amr", "X-Authgear-Client-Id", "X-Authgear-Scope"}, field[0]):
			continue
		}
		fmt.Fprintf(&b, "%s: %s\r\n", field[0], field[1])
	}
	return b.String() + "\r\n"
}()
