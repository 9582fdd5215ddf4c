package main

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// startRedis runs a real redis-server until the test ends.
func startRedis(t *testing.T) (url string, process *os.Process) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not installed: make redis-server")
	}
	addr := proxytest.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	proxytest.Eventually(t, "Redis listens", func() bool { return proxytest.Accepts(addr) })
	return "redis://" + addr, cmd.Process
}

func TestAStopUnderLoadWhileRedisHangs(t *testing.T) {
	url, redis := startRedis(t)
	s, authgear := start(t, "AUTHGEAR_REDIS_URL="+url, "AUTHGEAR_FLEET_SECRET=0123456789abcdef0123456789abcdef")
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
