package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

func isStopping(t *testing.T, s *proxytest.Service) bool {
	t.Helper()
	status, body := operator(t, s, "/readyz")
	return status == 503 && body == "stopping\n"
}

func TestReadinessEndsFirst(t *testing.T) {
	t.Parallel()
	s, authgear := start(t, "AUTHGEAR_DRAIN_DELAY=3s")
	text := question(authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"})))
	kept := connect(t, s.Addr)
	if err := kept.ask(text); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGTERM)
	proxytest.Eventually(t, "/readyz says stopping", func() bool { return isStopping(t, s) })
	if status, _ := operator(t, s, "/healthz"); status != 200 {
		t.Errorf("/healthz: status %d, want 200", status)
	}
	for name, c := range map[string]*client{"kept": kept, "new": connect(t, s.Addr)} {
		for range 2 { // the first answer does not end the connection
			if err := c.ask(text); err != nil {
				t.Errorf("on a %s connection: %v", name, err)
			}
		}
	}
	endsWell(t, s)
}

// A balancer looks twice a second who is ready, and sends connections
// there alone.
func TestARollingRestartBehindABalancerRefusesNobody(t *testing.T) {
	t.Parallel()
	authgear := authgeartest.Start(t, authgeartest.Options{})
	services := make([]*proxytest.Service, 2)
	for i := range services {
		services[i] = proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_DRAIN_DELAY=2s")
		services[i].Start()
	}
	var ready atomic.Pointer[[]string]
	look := func() {
		var list []string
		for _, s := range services {
			if isReady(s) {
				list = append(list, s.Addr)
			}
		}
		ready.Store(&list)
	}
	isTarget := func(s *proxytest.Service) func() bool {
		return func() bool { return slices.Contains(*ready.Load(), s.Addr) }
	}
	look()
	for _, s := range services {
		proxytest.Eventually(t, "it is ready", func() bool { look(); return isTarget(s)() })
	}
	ended := make(chan struct{})
	var balancer sync.WaitGroup
	balancer.Go(func() {
		tick := time.NewTicker(time.Second / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-ended:
				return
			}
		}
	})
	tr := &traffic{token: authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))}
	tr.dial = func() (net.Conn, error) {
		list := *ready.Load()
		if len(list) == 0 {
			return nil, errors.New("nobody is ready")
		}
		return proxytest.Dial(list[rand.IntN(len(list))])
	}
	for range 2 {
		tr.run(tr.raw())
		tr.run(tr.once)
	}
	for _, s := range services {
		s.Signal(syscall.SIGTERM)
		endsWell(t, s)
		s.Start()
		proxytest.Eventually(t, "the balancer has it again", isTarget(s))
		tr.answers(t, 1000)
	}
	tr.end(t)
	close(ended)
	balancer.Wait()
	if n := tr.refused.Load(); n > 0 {
		t.Errorf("%d connections were refused, want 0", n)
	}
}

// isReady asks as a balancer does, for which no answer is one.
func isReady(s *proxytest.Service) bool {
	resp, err := http.Get("http://" + s.Admin + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		authgear := authgeartest.Start(t, authgeartest.Options{})
		s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_DRAIN_DELAY=1m")
		p := proxytest.Start(t, s.Command(), s.Addr, s.Admin)
		p.Signal(syscall.SIGTERM)
		proxytest.Eventually(t, "it is stopping", func() bool { return isStopping(t, s) })
		p.Signal(second)
		if err := p.Wait(); err == nil || err.Error() != "signal: "+second.String() {
			t.Errorf("after a second signal, %v, it ends with: %v", second, err)
		}
	}
}
