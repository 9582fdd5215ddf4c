package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// onEachNetwork runs a story with a service on TCP, and with one on a unix
// socket.
func onEachNetwork(t *testing.T, story func(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server)) {
	for network, listen := range map[string]string{"tcp": proxytest.FreeAddr(t), "unix": "unix:" + t.TempDir() + "/auth.sock"} {
		t.Run(network, func(t *testing.T) {
			s, authgear := start(t, "AUTHGEAR_LISTEN="+listen)
			story(t, s, authgear)
		})
	}
}

// question is what a proxy sends on a connection that it keeps.
func question(token string) string {
	return "GET /nginx HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer " + token + "\r\n\r\n"
}

// A client has one connection, on which it asks one question after another.
type client struct {
	net.Conn
	answers *bufio.Reader
}

func connect(t *testing.T, addr string) *client {
	t.Helper()
	c, err := proxytest.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &client{c, bufio.NewReader(c)}
}

func (c *client) send(text string) error {
	_, err := io.WriteString(c, text)
	return err
}

// answer reads one answer, which must be 200.
func (c *client) answer() error {
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	return whole(resp)
}

// ask sends a question and reads the answer.
func (c *client) ask(text string) error {
	if err := c.send(text); err != nil {
		return err
	}
	return c.answer()
}

// whole reads an answer, which must be 200, to its end.
func whole(resp *http.Response) error {
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// Half of the connections were used before, the others are new. On a few of each
// a question has arrived only in part.
func TestWhatWasSentBeforeAStopIsAnswered(t *testing.T) {
	onEachNetwork(t, func(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server) {
		text := question(authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"})))
		now, later := make([]string, 400), make([]string, 400)
		for i := range now {
			now[i] = text
			if i%10 == 0 {
				now[i], later[i] = text[:40], text[40:]
			}
		}
		clients := make([]*client, 200, 400)
		for i := range clients {
			clients[i] = connect(t, s.Addr)
			if err := clients[i].ask(text); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			clients = append(clients, connect(t, s.Addr))
		}
		for i, c := range clients {
			if err := c.send(now[i]); err != nil {
				t.Fatal(err)
			}
		}
		s.Signal(syscall.SIGTERM)
		proxytest.Eventually(t, "nobody listens", func() bool { return !proxytest.Accepts(s.Addr) })
		lost := map[string]int{}
		for i, c := range clients {
			var err error
			if later[i] != "" {
				err = c.send(later[i])
			}
			if err == nil {
				err = c.answer()
			}
			if err != nil {
				lost[fmt.Sprintf("used before %v: %s", i < 200, cause(err))]++
			}
		}
		if len(lost) > 0 {
			t.Errorf("of %d questions were lost: %v", len(clients), lost)
		}
		endsWell(t, s)
	})
}

// cause is an error without the addresses.
func cause(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// endsWell waits for the end of a service that was told to stop.
func endsWell(t *testing.T, s *proxytest.Service) {
	t.Helper()
	if err := s.Wait(); err != nil {
		t.Errorf("the service ends with: %v", err)
	}
}

// takeOver starts the next process as soon as a service that was told to stop
// is off its address.
func takeOver(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server) {
	t.Helper()
	proxytest.Eventually(t, "nobody listens", func() bool { return !proxytest.Accepts(s.Addr) })
	next := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LISTEN="+s.Addr, "AUTHGEAR_RESOLVER_TIMEOUT=30s")
	next.Start()
}

// The new process serves before the old one has ended.
func TestWhatAuthgearIsStillAskedAboutIsAnswered(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 30} {
		t.Run(fmt.Sprintf("%d in flight", n), func(t *testing.T) {
			onEachNetwork(t, func(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server) {
				stopInFlight(t, s, authgear, n)
			})
		})
	}
}

func stopInFlight(t *testing.T, s *proxytest.Service, authgear *authgeartest.Server, n int) {
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	asked := make(chan struct{})
	answer := sync.OnceFunc(func() { close(asked) })
	defer answer()
	authgear.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		<-asked
		authgear.Fail("resolver", nil)
		authgear.ServeHTTP(w, r)
	})
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = connect(t, s.Addr)
		if err := clients[i].send(question(authgear.OpaqueToken(ada))); err != nil {
			t.Fatal(err)
		}
	}
	proxytest.Eventually(t, "Authgear is asked about all", func() bool { return authgear.ResolverCalls() == n })
	s.Signal(syscall.SIGTERM)
	takeOver(t, s, authgear)
	c := connect(t, s.Addr)
	if err := c.ask(question(authgear.JWT(ada))); err != nil {
		t.Errorf("of the new process: %v", err)
	}

	time.Sleep(2 * time.Second) // Authgear is slow; whoever waits for less gives up
	answer()
	for _, c := range clients {
		if err := c.answer(); err != nil {
			t.Errorf("of the old process: %v", err)
		}
	}
	endsWell(t, s)
	if err := c.ask(question(authgear.JWT(ada))); err != nil {
		t.Errorf("of the new process, after the old one's end: %v", err)
	}
}

// A proxy may hold a connection on which it never asked.
func TestASilentConnectionDoesNotMakeAStopFail(t *testing.T) {
	t.Parallel()
	s, _ := start(t)
	connect(t, s.Addr)
	s.Stop()
}

func TestAStopThatCutsARequestSaysSo(t *testing.T) {
	t.Parallel()
	authgear := authgeartest.Start(t, authgeartest.Options{})
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_RESOLVER_TIMEOUT=30s")
	p := proxytest.Start(t, s.Command(), s.Addr, s.Admin)
	answer := make(chan struct{})
	authgear.Fail("resolver", func(http.ResponseWriter, *http.Request) { <-answer })
	defer close(answer)
	c := connect(t, s.Addr)
	if err := c.send(question(authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"})))); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "Authgear is asked", func() bool { return authgear.ResolverCalls() == 1 })
	if err := p.Stop(); err == nil || !strings.Contains(p.Output(), "stop: 1 requests were not answered within 10s") {
		t.Errorf("the service ends with %v: %s", err, p.Output())
	}
}
