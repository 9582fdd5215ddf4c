package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// visitor is a request without a credential, which is answered 401.
const visitor = "GET /nginx HTTP/1.1\r\nHost: auth\r\n\r\n"

// each runs f for as many clients at a time.
func (s *strangers) each(n int, f func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(f)
	}
	all.Wait()
}

// read reads one answer, and returns whom it names.
func (s *strangers) read(r *bufio.Reader) (status int, user string, err error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("X-Authgear-User-Id"), err
}

// pipelined sends many requests of several users at once on each connection. Each answer
// must be the one to its request.
func pipelined(ctx context.Context, st *stand, s *strangers) error {
	var requests strings.Builder
	var users []string
	for i := range 60 {
		user, field := "", ""
		if i%4 > 0 {
			who := st.authgear.SignInAs(i, authgeartest.User{})
			st.service.Ask(who) // remembered from now on
			user, field = who.User.ID, who.Field+": "+who.Value+"\r\n"
		}
		users = append(users, user)
		requests.WriteString("GET /nginx HTTP/1.1\r\nHost: auth\r\n" + field + "\r\n")
	}
	s.each(s.clients, func() {
		c, err := net.Dial("tcp", st.service.Addr)
		if err != nil {
			s.problem("connect: %v", err)
			return
		}
		defer c.Close()
		answers := bufio.NewReader(c)
		for first := true; first || ctx.Err() == nil; first = false {
			go io.WriteString(c, requests.String())
			for i, user := range users {
				status, got, err := s.read(answers)
				if err != nil || got != user {
					s.problem("the %d-th answer names %q, not %q: %v", i, got, user, err)
					return
				}
				if user == "" {
					s.got(status)
				} else {
					s.gotKnown(status)
				}
			}
		}
	})
	return nil
}

// churn asks once on each connection, and drops it without a goodbye.
func churn(ctx context.Context, st *stand, s *strangers) error {
	s.each(s.clients, func() {
		for ctx.Err() == nil {
			c, err := net.Dial("tcp", st.service.Addr)
			if err != nil {
				s.problem("connect: %v", err)
				return
			}
			c.(*net.TCPConn).SetLinger(0)
			io.WriteString(c, visitor)
			status, _, err := s.read(bufio.NewReader(c))
			if err != nil {
				s.problem("no answer: %v", err)
			}
			s.got(status)
			c.Close()
		}
	})
	return nil
}

// idleConnections are opened, used once, and kept.
func idleConnections(ctx context.Context, st *stand, s *strangers) error {
	var mu sync.Mutex
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	each := s.idle / s.clients
	s.each(s.clients, func() {
		for range each {
			c, err := net.Dial("tcp", st.service.Addr)
			if err != nil {
				s.problem("connect: %v", err)
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			io.WriteString(c, visitor)
			status, _, err := s.read(bufio.NewReader(c))
			if err != nil {
				s.problem("no answer: %v", err)
			}
			s.got(status)
		}
	})
	if files := st.service.Files(); files < each*s.clients {
		return fmt.Errorf("%d connections were to be kept, and the service has %d files", each*s.clients, files)
	}
	<-ctx.Done()
	return nil
}

// slowly sends a beginning, and then a byte now and then. The service must end each of the
// connections.
func slowly(beginning string) func(context.Context, *stand, *strangers) error {
	return func(_ context.Context, st *stand, s *strangers) error {
		s.each(2*s.clients, func() {
			s.outlived(st, func(c *net.TCPConn) error {
				_, err := io.WriteString(c, beginning)
				for ; err == nil; time.Sleep(500 * time.Millisecond) {
					_, err = io.WriteString(c, "x")
				}
				return err
			})
		})
		return nil
	}
}

// unread sends one request after the other and reads no answer, until no more goes in. The
// service must end each of the connections.
func unread(_ context.Context, st *stand, s *strangers) error {
	requests := []byte(strings.Repeat(visitor, 1000))
	s.each(s.clients/4, func() {
		s.outlived(st, func(c *net.TCPConn) error {
			err := c.SetReadBuffer(4 << 10)
			for err == nil {
				_, err = c.Write(requests)
			}
			return err
		})
	})
	return nil
}

// longest is for how long a connection may stand still in the end: where all that has come is
// answered, and the answers do not leave, it is an idle one.
const longest = 120*time.Second + patience

// outlived notes a connection that the service ended, as f sees.
func (s *strangers) outlived(st *stand, f func(*net.TCPConn) error) {
	c, err := net.Dial("tcp", st.service.Addr)
	if err != nil {
		s.problem("connect: %v", err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(longest))
	if err := f(c.(*net.TCPConn)); errors.Is(err, os.ErrDeadlineExceeded) {
		s.problem("a connection is still there after %s", longest)
		return
	}
	s.got(0)
}
