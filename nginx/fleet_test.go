package nginx_test

import (
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// What docker-compose.yml runs with the profile fleet, without Docker: three replicas and a
// Redis behind nginx, of which replicas die at any moment.
func TestAReplicaOfAFleetMayDie(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	redis, _ := proxytest.Redis(t)
	replicas := make([]*proxytest.Service, 3)
	front := proxytest.FreeAddr(t)
	edits := []string{"listen 8080;", "listen " + front + ";", "server app:8000;", "server " + proxytest.Upstream(t) + ";", "/tmp/authgear-nginx", proxytest.Dir(t) + "/nginx"}
	for i := range replicas {
		s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_REDIS_URL=redis://"+redis, "AUTHGEAR_FLEET_SECRET="+strings.Repeat("s", 32),
			"AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_RESOLVER_TIMEOUT=30s", "AUTHGEAR_LOG_DECISIONS=all")
		s.Start()
		replicas[i] = s
		takesPart(t, s)
		edits = append(edits, "server replica-"+string(rune('1'+i))+":4180", "server "+s.Addr)
	}
	conf := proxytest.Conf(t, "../deploy/compose/fleet.conf", edits...)
	proxytest.Start(t, exec.Command(proxytest.Installed(t, "nginx"), "-c", conf, "-g", "daemon off;"), front)
	st := &proxytest.Stand{URL: "http://" + front, Authgear: authgear}
	ada := proxytest.Bearer(authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"})))

	var left atomic.Int64
	left.Store(300)
	st.Crowd(t, func() bool { return left.Add(-1) >= 0 }, ada...)
	for i, s := range replicas {
		if !strings.Contains(s.Log(), `"message":"decided"`) {
			t.Errorf("replica %d was asked nothing", i+1)
		}
	}
	if n := authgear.ResolverCalls(); n != 1 {
		t.Errorf("for one session and three replicas Authgear was asked %d times", n)
	}

	var done atomic.Bool
	var crowd sync.WaitGroup
	crowd.Go(func() { st.Crowd(t, func() bool { return !done.Load() }, ada...) })
	for _, s := range replicas {
		s.Signal(syscall.SIGKILL)
		s.Wait()
		s.Start()
		takesPart(t, s)
	}
	done.Store(true)
	crowd.Wait()
}

// takesPart waits until a replica shares with the others.
func takesPart(t *testing.T, s *proxytest.Service) {
	t.Helper()
	proxytest.Eventually(t, "the replica takes part", func() bool {
		_, body := proxytest.Raw(t, s.Admin, "GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n")
		return body == "ready\n"
	})
}
