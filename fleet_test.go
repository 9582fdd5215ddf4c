package main

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

func TestAStopUnderLoadWhileRedisHangs(t *testing.T) {
	addr, redis := proxytest.Redis(t)
	t.Cleanup(func() { redis.Signal(syscall.SIGCONT) })
	s, authgear := start(t, "AUTHGEAR_REDIS_URL=redis://"+addr, "AUTHGEAR_FLEET_SECRET=0123456789abcdef0123456789abcdef")
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	var all sync.WaitGroup
	var answers atomic.Int64
	for range 10 {
		c := connect(t, s.Addr)
		all.Go(func() {
			for c.ask(question(authgear.OpaqueToken(ada))) == nil { // each another session
				answers.Add(1)
			}
		})
	}
	proxytest.Eventually(t, "there is load", func() bool { return answers.Load() > 100 })
	redis.Signal(syscall.SIGSTOP)
	before := answers.Load()
	proxytest.Eventually(t, "it answers all the same", func() bool { return answers.Load() > before+100 })
	s.Signal(syscall.SIGTERM)
	endsWell(t, s) // or the test takes too long
	all.Wait()
}
