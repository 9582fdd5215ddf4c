package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// twoReplicas are of one fleet, whose Redis is at the port.
func twoReplicas(t *testing.T) (list [2]*proxytest.Service, authgear *authgeartest.Server, port string) {
	t.Helper()
	addr, _ := proxytest.Redis(t)
	authgear = authgeartest.Start(t, authgeartest.Options{})
	for i := range list {
		s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_REDIS_URL=redis://"+addr, "AUTHGEAR_FLEET_SECRET=0123456789abcdef0123456789abcdef")
		s.Start()
		list[i] = s
		proxytest.Eventually(t, "it takes part", func() bool { _, body := operator(t, s, "/readyz"); return body == "ready\n" })
	}
	_, port, _ = net.SplitHostPort(addr)
	return list, authgear, port
}

// operations waits until a replica has done so much with Redis.
func operations(t *testing.T, s *proxytest.Service, operation string, want float64) {
	t.Helper()
	proxytest.Eventually(t, operation, func() bool {
		return scrape(t, s).values("fleet_operations_total")["operation="+operation+" outcome=ok"] >= want
	})
}

// What the replica that is told never heard of may be known to another one, though Redis
// lost it.
func TestWhoeverLeavesHasLeftThoughRedisForgot(t *testing.T) {
	t.Parallel()
	replicas, authgear, port := twoReplicas(t)
	cookie := "Cookie: session=" + authgear.SessionCookie(authgear.AddUser(authgeartest.User{ID: "ada"}))
	if resp := ask(t, replicas[1], cookie); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	operations(t, replicas[1], "share", 1)
	if err := exec.Command("redis-cli", "-p", port, "flushall").Run(); err != nil {
		t.Fatal(err)
	}
	authgear.Revoke(cookie[len("Cookie: session="):])
	leave(t, replicas[0], cookie)
	proxytest.Eventually(t, "the other replica knows", func() bool { return ask(t, replicas[1], cookie).StatusCode == 401 })
}

// Or another one may be asking just now: what Authgear said before does not count.
func TestWhoeverLeavesHasLeftThoughAnotherReplicaAsks(t *testing.T) {
	t.Parallel()
	replicas, authgear, _ := twoReplicas(t)
	cookie := "Cookie: session=" + authgear.SessionCookie(authgear.AddUser(authgeartest.User{ID: "ada"}))
	asked, arrives := make(chan bool, 1), make(chan bool)
	authgear.Fail("resolver", func(w http.ResponseWriter, r *http.Request) { // it says yes, and that takes its time to arrive
		asked <- true
		<-arrives
		for name, value := range map[string]string{"Session-Valid": "true", "User-Id": "ada", "User-Anonymous": "false", "User-Verified": "true", "User-Can-Reauthenticate": "true", "Session-Amr": ""} {
			w.Header().Set("X-Authgear-"+name, value)
		}
	})
	first := make(chan int)
	go func() { first <- ask(t, replicas[1], cookie).StatusCode }()
	<-asked
	authgear.Revoke(cookie[len("Cookie: session="):])
	authgear.Fail("resolver", nil)
	leave(t, replicas[0], cookie)
	operations(t, replicas[1], "receive", 1)
	close(arrives)
	<-first
	time.Sleep(200 * time.Millisecond) // and has shared what it shares
	for i, s := range replicas {
		if resp := ask(t, s, cookie); resp.StatusCode != 401 {
			t.Errorf("replica %d: %d after the sign-out and /forget, want 401", i, resp.StatusCode)
		}
	}
}

// The end of a token may be beyond all that a text of a time can name.
func TestATokenWithoutAnEndMayBeForgotten(t *testing.T) {
	t.Parallel()
	replicas, authgear, _ := twoReplicas(t)
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	for _, s := range replicas { // Authgear knows JWTs, as both see
		ask(t, s, "Authorization: Bearer "+authgear.JWT(ada))
	}
	token := authgear.JWT(ada, func(_, c map[string]any) { c["exp"] = 253402300799 })
	leave(t, replicas[0], "Authorization: Bearer "+token)
	authgear.Revoke(token)
	proxytest.Eventually(t, "the other replica knows", func() bool { return ask(t, replicas[1], "Authorization: Bearer "+token).StatusCode == 401 })
	if resp := ask(t, replicas[0], "Authorization: Bearer "+token); resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

// In mode jwt an event is all that tells, and each replica must know it: one that ended the
// user's sessions refuses the tokens from before, and another refuses none.
func TestAnEventOfOneReplicaIsKnownToAll(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef-webhook"
	addr, _ := proxytest.Redis(t)
	authgear := authgeartest.Start(t, authgeartest.Options{})
	var replicas [2]*proxytest.Service
	for i := range replicas {
		s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_MODE=jwt", "AUTHGEAR_WEBHOOK_SECRET="+secret,
			"AUTHGEAR_REDIS_URL=redis://"+addr, "AUTHGEAR_FLEET_SECRET=0123456789abcdef0123456789abcdef")
		s.Start()
		replicas[i] = s
		proxytest.Eventually(t, "it takes part", func() bool { _, body := operator(t, s, "/readyz"); return body == "ready\n" })
	}
	token := "Authorization: Bearer " + authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	tell := func(kind string) {
		body := fmt.Sprintf(`{"id":%q,"seq":1,"type":%q,"payload":{"user":{"id":"ada","is_disabled":true}},"context":{"timestamp":%d}}`, kind, kind, time.Now().Unix()+1)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		resp, _ := proxytest.Raw(t, replicas[0].Addr, fmt.Sprintf("POST /hooks/authgear HTTP/1.1\r\nHost: auth\r\nContent-Length: %d\r\nX-Authgear-Body-Signature: %x\r\n\r\n%s", len(body), mac.Sum(nil), body))
		if resp.StatusCode != 200 {
			t.Fatalf("%s: status %d", kind, resp.StatusCode)
		}
	}
	tell("user.profile.updated")
	operations(t, replicas[1], "receive", 1)
	for i, s := range replicas {
		if resp := ask(t, s, token); resp.StatusCode != 200 {
			t.Errorf("replica %d: %d after an event that ended nothing", i, resp.StatusCode)
		}
	}
	tell("user.disabled")
	for _, s := range replicas {
		proxytest.Eventually(t, "the token is refused", func() bool { return ask(t, s, token).StatusCode == 401 })
	}
}
