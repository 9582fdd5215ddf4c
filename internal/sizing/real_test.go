package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/fleet"
	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/resolver"
)

// info returns a number that Redis tells of itself.
func info(t *testing.T, addr, what string) int {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command("redis-cli", "-p", port, "info", "everything").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + what + `(\d+)`).FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// everybody is a session such as Authgear tells.
type everybody struct{}

func (everybody) Resolve(context.Context, resolver.Credentials) (*resolver.Session, error) {
	return &resolver.Session{UserID: "4098a1a2-805e-4235-9698-8708fb27df95", Roles: "admin,editor", Verified: resolver.True, AMR: "pwd mfa", AuthenticatedAt: 1795186069, Confirmed: time.Now()}, nil
}

func TestAValueTakesSoMuchOfRedis(t *testing.T) {
	addr, _ := proxytest.Redis(t)
	f, err := fleet.New(fleet.Options{
		URL: "redis://" + addr, Secret: strings.Repeat("s", 32), Lifetime: time.Hour, Reach: time.Hour, Question: time.Second, Skew: time.Minute,
		Warn: func(err error) { t.Log(err) }, Count: func(string, string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Run(func(fleet.Event) {})
	defer f.Close()
	proxytest.Eventually(t, "it takes part", func() bool { return len(f.Troubles()) == 0 })
	const values, sides = 3_000, 8
	asking, known, before := f.Asking(everybody{}), f.Known(), info(t, addr, "used_memory:")
	var all sync.WaitGroup
	for side := range sides {
		all.Go(func() {
			for i := range values / sides {
				c := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: fmt.Sprint(side, "-", i)}}}
				for t.Context().Err() == nil {
					if _, err := known.Resolve(t.Context(), c); err == nil {
						break
					}
					asking.Resolve(t.Context(), c)
				}
			}
		})
	}
	all.Wait()
	held := info(t, addr, "db0:keys=")
	each := float64(info(t, addr, "used_memory:")-before) / float64(held)
	t.Logf("a value takes %.0f bytes", each)
	if math.Abs(each-redisBytes) > 0.2*redisBytes {
		t.Errorf("a value takes %.0f bytes, the model says %d", each, redisBytes)
	}
}

// The same requests, at the same times, come to three real replicas and to the model.
func TestTheModelIsWhatThreeReplicasDo(t *testing.T) {
	const replicas, sessions, bound, every, length = 3, 120, 2.0, 1.0, 12.0
	plans := make([][]request, sessions)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range plans {
		for at := r.ExpFloat64() * every; at < length; at += r.ExpFloat64() * every {
			plans[i] = append(plans[i], request{at, r.IntN(replicas)})
		}
	}
	for name, redis := range map[string]bool{"without Redis": false, "with Redis": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want counts
			r := rand.New(rand.NewPCG(5, 6))
			for _, plan := range plans {
				m := newModel(r, replicas, bound, redis)
				m.play(plan, length)
				want.questions += m.questions
				want.looks += m.looks + m.leases // who takes a lease looks once more
			}
			questions, looks := playReal(t, plans, replicas, redis)
			t.Logf("Authgear was asked %d times, the model says %d; Redis for %d confirmations, the model says %d", questions, want.questions, looks, want.looks)
			for _, n := range [][2]int{{questions, want.questions}, {looks, want.looks}} {
				if math.Abs(float64(n[0]-n[1])) > 0.07*float64(n[1]) {
					t.Errorf("%d is not what the model says, %d", n[0], n[1])
				}
			}
		})
	}
}

// playReal plays them with real replicas and returns what Authgear and Redis were asked.
func playReal(t *testing.T, plans [][]request, replicas int, redis bool) (questions, looks int) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	settings := []string{"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_MAX_STALENESS=2s", "AUTHGEAR_LOG_DECISIONS=none"}
	if redis {
		addr, _ := proxytest.Redis(t)
		settings = append(settings, "AUTHGEAR_REDIS_URL=redis://"+addr, "AUTHGEAR_FLEET_SECRET="+strings.Repeat("s", 32))
	}
	services := make([]*proxytest.Service, replicas)
	for i := range services {
		services[i] = proxytest.NewService(t, settings...)
		services[i].Start()
		proxytest.Eventually(t, "it is ready, and takes part", func() bool {
			_, body := proxytest.Raw(t, services[i].Admin, "GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n")
			return body == "ready\n"
		})
	}
	type planned struct {
		request
		token string
	}
	var all []planned
	for i, plan := range plans {
		token := authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: fmt.Sprint("user-", i)}))
		for _, q := range plan {
			all = append(all, planned{q, token})
		}
	}
	slices.SortFunc(all, func(a, b planned) int { return int(math.Copysign(1, a.at-b.at)) })
	begin := time.Now()
	var open sync.WaitGroup
	for _, q := range all {
		time.Sleep(time.Until(begin.Add(time.Duration(q.at * float64(time.Second)))))
		open.Go(func() {
			resp, _ := proxytest.Raw(t, services[q.replica].Addr, "GET /nginx HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer "+q.token+"\r\nConnection: close\r\n\r\n")
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	open.Wait()
	questions = authgear.ResolverCalls()
	for _, s := range services {
		_, text := proxytest.Raw(t, s.Admin, "GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n")
		for _, m := range regexp.MustCompile(`fleet_operations_total{operation="look",outcome="\w+"} (\d+)`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[1])
			looks += n
		}
	}
	return questions, looks
}
