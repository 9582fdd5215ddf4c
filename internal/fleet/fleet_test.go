package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/proxytest"
	"authgear-forward-auth/resolver"
)

// A redis is a real redis-server.
type redis struct {
	url     string
	dir     string
	process *os.Process
}

func startRedis(t *testing.T) *redis {
	t.Helper()
	r := &redis{dir: t.TempDir()}
	socket := filepath.Join(r.dir, "redis.sock")
	r.url = "unix://" + socket
	r.process = runRedis(t, "unix", socket, "--port", "0", "--unixsocket", socket,
		"--save", "", "--appendonly", "no", "--dir", r.dir)
	return r
}

// runRedis runs a redis-server until the test ends.
func runRedis(t *testing.T, network, addr string, args ...string) *os.Process {
	t.Helper()
	cmd := exec.Command(proxytest.Installed(t, "redis-server"), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(t, "Redis answers", func() bool {
		c, err := net.Dial(network, addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return cmd.Process
}

// do runs a command by redis-cli.
func (r *redis) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-s", filepath.Join(r.dir, "redis.sock")}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
	}
}

// A replica is one of a fleet, and what happened to it.
type replica struct {
	*Fleet
	mu     sync.Mutex
	counts map[string]int
	events []Event
}

const testSecret = "0123456789abcdef0123456789abcdef"

// join returns a replica that takes part until the test ends.
func join(t *testing.T, r *redis, change ...func(*Options)) *replica {
	t.Helper()
	it := start(t, r, change...)
	eventually(t, "the replica takes part", func() bool { return len(it.Troubles()) == 0 })
	return it
}

func start(t *testing.T, r *redis, change ...func(*Options)) *replica {
	t.Helper()
	it := newReplica(t, r, change...)
	it.run(t)
	return it
}

func newReplica(t *testing.T, r *redis, change ...func(*Options)) *replica {
	t.Helper()
	it := &replica{counts: make(map[string]int)}
	o := Options{
		URL: r.url, Secret: testSecret, Issuer: "https://example.com", Lifetime: 30 * time.Second, Reach: time.Hour, Question: 2 * time.Second, Skew: 30 * time.Second,
		Warn: func(err error) { t.Log(err) },
		Count: func(operation, outcome string) {
			it.mu.Lock()
			defer it.mu.Unlock()
			it.counts[operation+" "+outcome]++
		},
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if it.Fleet, err = New(o); err != nil {
		t.Fatal(err)
	}
	return it
}

func (r *replica) run(t *testing.T) {
	r.Run(func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
	t.Cleanup(r.Close)
}

func (r *replica) heard() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Event(nil), r.events...)
}

func (r *replica) counted(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[what]
}

// An authgear vouches for everybody.
type authgear struct {
	calls atomic.Int64
	take  time.Duration
}

func (a *authgear) Resolve(context.Context, resolver.Credentials) (*resolver.Session, error) {
	a.calls.Add(1)
	asked := time.Now()
	time.Sleep(a.take)
	return &resolver.Session{UserID: "ada", Roles: "admin", Verified: resolver.True, AuthenticatedAt: 1795186069, Confirmed: asked}, nil
}

func bearer(token string) resolver.Credentials {
	return resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: token}}}
}

func notBefore(c resolver.Credentials, at time.Time) resolver.Credentials {
	c.NotBefore = at
	return c
}

func TestWhatOneReplicaWasToldAnotherKnows(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	ada := &authgear{}
	begin := time.Now()
	if _, err := one.Asking(ada).Resolve(t.Context(), notBefore(bearer("secret-token-of-ada"), begin)); err != nil {
		t.Fatal(err)
	}
	var s *resolver.Session
	eventually(t, "the other replica knows", func() bool {
		var err error
		s, err = two.Known().Resolve(t.Context(), bearer("secret-token-of-ada"))
		return err == nil
	})
	if s.UserID != "ada" || s.Roles != "admin" || s.Verified != resolver.True || s.AuthenticatedAt != 1795186069 {
		t.Errorf("it knows %+v", s)
	}
	if s.Confirmed.After(time.Now()) || s.Confirmed.Before(begin.Add(-maxDifference)) {
		t.Errorf("confirmed %s after it began", s.Confirmed.Sub(begin))
	}
	if _, err := two.Known().Resolve(t.Context(), notBefore(bearer("secret-token-of-ada"), time.Now())); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("a later confirmation is wanted: %v, want ErrNotMine", err)
	}
	if _, err := two.Known().Resolve(t.Context(), bearer("another")); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("another token: %v, want ErrNotMine", err)
	}
	if n := ada.calls.Load(); n != 1 {
		t.Errorf("Authgear was asked %d times", n)
	}
}

func TestOneReplicaAsksForAll(t *testing.T) {
	r := startRedis(t)
	ada := &authgear{take: 20 * time.Millisecond}
	var all sync.WaitGroup
	lately := time.Now().Add(-time.Minute)
	for range 3 {
		asking := join(t, r).Asking(ada)
		for i := range 10 {
			all.Go(func() {
				c := notBefore(bearer(fmt.Sprint("token ", i)), lately)
				c.Unhurried = true // so that a busy machine makes no difference
				if _, err := asking.Resolve(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if n := ada.calls.Load(); n != 10 {
		t.Errorf("about 10 credentials, Authgear was asked %d times", n)
	}
}

func TestRedisLearnsNothing(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("secret-token-of-ada"))
	one.Tell(Event{User: "user-of-ada", At: time.Now(), Ends: true})
	eventually(t, "it is written", func() bool { return one.counted("share ok") == 1 && one.counted("publish ok") == 1 })
	var all strings.Builder
	for _, key := range strings.Fields(r.do(t, "keys", "*")) {
		all.WriteString(key)
		if r.do(t, "type", key) == "stream\n" {
			all.WriteString(r.do(t, "xrange", key, "-", "+"))
		} else {
			all.WriteString(r.do(t, "get", key))
		}
	}
	if all.Len() < 200 {
		t.Fatalf("Redis holds only %q", all.String())
	}
	for _, word := range []string{"ada", "admin", "secret-token", "User", "Session"} {
		if strings.Contains(all.String(), word) {
			t.Errorf("Redis holds %q", word)
		}
	}
}

func TestWhoHasNotTheSecretForgesNothing(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	stranger := join(t, r, func(o *Options) { o.Secret = strings.Repeat("x", 32) })
	stranger.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("other"))
	eventually(t, "both are written", func() bool { return stranger.counted("share ok") == 1 && one.counted("share ok") == 1 })
	sealed := func(f *Fleet, token string) string { return valueKey(f.secrets.name(bearer(token).Key())) }
	for what, copied := range map[string]string{
		"sealed with another secret": sealed(stranger.Fleet, "t"),
		"of another credential":      sealed(one.Fleet, "other"),
	} {
		r.do(t, "copy", copied, sealed(one.Fleet, "t"), "replace")
		if s, err := one.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, resolver.ErrNotMine) {
			t.Errorf("%s: %v %v, want ErrNotMine", what, s, err)
		}
	}
	r.do(t, "set", sealed(one.Fleet, "t"), "garbage")
	if _, err := one.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("garbage: %v, want ErrNotMine", err)
	}
	r.do(t, "xadd", one.stream, "*", "e", "garbage")
	eventually(t, "the made-up event is counted", func() bool { return one.counted("receive error") == 1 })
	if len(one.heard()) != 0 {
		t.Errorf("it was told of %v", one.heard())
	}
}

func TestEventsReachAll(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	at, until := time.Now().Truncate(time.Second), time.Now().Add(time.Hour).Truncate(time.Second)
	key := bearer("t").Key()
	one.Tell(Event{User: "ada", At: at, Ends: true})
	two.Tell(Event{Key: key, Until: until})
	late := join(t, r)
	eventually(t, "all are told", func() bool { return len(one.heard()) == 1 && len(two.heard()) == 1 && len(late.heard()) == 2 })
	if e := two.heard()[0]; e.User != "ada" || !e.At.Equal(at) || !e.Ends || time.Since(e.Told) > time.Minute || e.Told.After(time.Now()) {
		t.Errorf("the second was told %+v", e)
	}
	if e := one.heard()[0]; e.Key != key || !e.Until.Equal(until) || e.User != "" {
		t.Errorf("the first was told %+v", e)
	}
}

func TestAReplicaThatWasAwayReadsWhatItMissed(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	one.Tell(Event{User: "before"})
	r.process.Signal(syscall.SIGSTOP)
	one.Tell(Event{User: "meanwhile"})
	eventually(t, "it is noticed", func() bool { return one.counted("publish error") > 0 })
	r.process.Signal(syscall.SIGCONT)
	two := join(t, r)
	eventually(t, "all is told", func() bool {
		told := map[string]bool{}
		for _, e := range two.heard() {
			told[e.User] = true
		}
		return told["before"] && told["meanwhile"]
	})
}

func TestWithoutRedisAuthgearIsAsked(t *testing.T) {
	for _, fault := range []struct {
		name string
		harm func(*redis)
	}{
		{"paused", func(r *redis) { r.process.Signal(syscall.SIGSTOP) }},
		{"killed", func(r *redis) { r.process.Kill() }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			r := startRedis(t)
			one := join(t, r)
			fault.harm(r)
			ada := &authgear{}
			for i := range 50 {
				c := bearer(fmt.Sprint(i))
				if _, err := one.Known().Resolve(t.Context(), c); !errors.Is(err, errAlone) {
					t.Errorf("known: %v, want that nobody knows", err)
				}
				if s, err := one.Asking(ada).Resolve(t.Context(), c); err != nil || s.UserID != "ada" {
					t.Errorf("asked: %v %v", s, err)
				}
			}
			if n := ada.calls.Load(); n != 50 {
				t.Errorf("Authgear was asked %d times, want 50", n)
			}
			// Those who waited for Redis are few: then nobody tries for a while.
			eventually(t, "it is said", func() bool { return len(one.Troubles()) == 1 })
		})
	}
}

func TestClocksThatDisagreeShareNothing(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name        string
		wall, redis time.Duration // ago
		want        time.Duration // ago; -1: refused
	}{
		{"they agree", 10 * time.Second, 10 * time.Second, 10 * time.Second},
		{"the older counts", 10 * time.Second, 10*time.Second + 900*time.Millisecond, 10*time.Second + 900*time.Millisecond},
		{"the other is older", 10*time.Second + 900*time.Millisecond, 10 * time.Second, 10*time.Second + 900*time.Millisecond},
		{"a replica is a little ahead", -500 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
		{"a replica is ahead", -5 * time.Second, 0, -1},
		{"a replica is behind", 5 * time.Second, 0, -1},
		{"Redis was stepped back", 10 * time.Second, -10 * time.Minute, -1},
		{"from the future", -5 * time.Second, -5 * time.Second, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			redisNow := now.Add(7 * time.Minute) // its own clock is another
			v := value{Wall: now.Add(-tt.wall).UnixNano(), Redis: redisNow.Add(-tt.redis).UnixNano()}
			asked, err := v.asked(now, redisNow)
			if tt.want < 0 {
				if !errors.Is(err, errClocks) {
					t.Errorf("%v %v, want an error", asked, err)
				}
				return
			}
			if ago := now.Sub(asked); err != nil || (ago-tt.want).Abs() > time.Millisecond {
				t.Errorf("%s ago, %v, want %s", ago, err, tt.want)
			}
		})
	}
}

func TestARedisWhoseClockIsOffIsNotUsed(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	seen := one.clock.seen.Load()
	one.clock.seen.Store(&sight{seen.begin, seen.end, seen.redis.Add(time.Minute)})
	if _, _, err := one.clock.now(30 * time.Second); err == nil || !strings.Contains(err.Error(), "AUTHGEAR_CLOCK_SKEW") {
		t.Errorf("%v, want an error that names the cure", err)
	}
}

func TestARefusalIsShared(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	one.Refuse(bearer("eyJ.revoked"), time.Now().Add(time.Hour))
	eventually(t, "the other replica knows", func() bool {
		_, err := two.Known().Resolve(t.Context(), bearer("eyJ.revoked"))
		return errors.Is(err, resolver.ErrInvalid)
	})
}
