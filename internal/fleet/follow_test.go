package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// A Redis whose clock is behind, though not too far, gives out ids that are behind.
func TestEventsAreReadAgainByTheClockOfRedis(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	add := func(user string, ago time.Duration) {
		r.put(t, one.seal(event{From: one.self, Clock: time.Now().Add(-ago).UnixNano(), Event: Event{User: user}}), "xadd", one.stream, fmt.Sprint(time.Now().Add(-ago).UnixMilli()), "e")
	}
	add("first", 25*time.Second)
	eventually(t, "the first is told", func() bool { return len(two.heard()) == 1 })
	r.do(t, "client", "kill", "type", "normal")
	add("second", 24*time.Second)
	eventually(t, "the second is told", func() bool { return len(two.heard()) == 2 })
	if e := two.heard()[1]; e.User != "second" || time.Since(e.Told) > 24*time.Second {
		t.Errorf("it was told %+v, %s ago", e, time.Since(e.Told))
	}
}

// A Redis came up with another clock: by it, an event is of half a minute ago.
func TestTheClockOfRedisAloneMakesNoEventOlder(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), newReplica(t, r)
	two.turn(20 * time.Second)
	two.run(t)
	one.Tell(Event{User: "ada"})
	eventually(t, "it is told", func() bool { return len(two.heard()) == 1 })
	if ago := time.Since(two.heard()[0].Told); ago > 10*time.Second {
		t.Errorf("it was told %s ago", ago)
	}
}

// Where this machine is hours ahead of Redis, or Redis behind, no event is lost for it.
func TestEventsOfAClockThatIsFarBehindAreKept(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), newReplica(t, r)
	const many, by = 300, 3 * time.Hour // a few are not worth it to Redis to be taken away
	for i := range many {
		e := event{From: one.self, Clock: time.Now().UnixNano(), Event: Event{User: fmt.Sprint(i)}}
		r.put(t, one.seal(e), "xadd", one.stream, fmt.Sprint(time.Now().Add(-by).UnixMilli(), "-", i), "e")
	}
	two.turn(-by)
	two.run(t)
	eventually(t, "they are told", func() bool { return len(two.heard()) == many })
	two.Tell(Event{User: "ada"})
	eventually(t, "another one is added", func() bool { return two.counted("publish ok") == 1 })
	if n := r.do(t, "xlen", one.stream); n != fmt.Sprintln(many+1) {
		t.Errorf("in the stream: %s", n)
	}
}

// An off is a connection to a Redis whose clock is off by some seconds.
type off struct {
	net.Conn
	by int64
}

var seconds = regexp.MustCompile(`\$10\r\n([0-9]{10})\r\n`) // in the answer to TIME alone

func (o *off) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	copy(b, seconds.ReplaceAllFunc(b[:n], func(m []byte) []byte {
		is, _ := strconv.ParseInt(string(m[5:15]), 10, 64)
		return fmt.Appendf(nil, "$10\r\n%d\r\n", is+o.by)
	}))
	return n, err
}

// A late connection is one to a Redis that takes its time.
type late struct {
	net.Conn
	by time.Duration
}

func (l *late) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	time.Sleep(l.by)
	return n, err
}

// A Redis that is too slow for a request to wait for it will do for what is done behind.
func TestASlowRedisServesWhatNobodyWaitsFor(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), newReplica(t, r)
	connect := two.options.DialCtxFn
	two.options.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
		conn, err := connect(ctx, addr, d, c)
		return &late{conn, 3 * budget}, err
	}
	two.run(t)
	two.Await(time.Minute)
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	eventually(t, "it is shared", func() bool { return one.counted("share ok") == 1 })
	behind := bearer("t")
	behind.Unhurried = true
	for range 10 {
		if s, err := two.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, errAlone) {
			t.Errorf("a request waited: %+v %v", s, err)
		}
	}
	for range 10 {
		if _, err := two.Known().Resolve(t.Context(), behind); err != nil {
			t.Errorf("behind the requests: %v", err)
		}
	}
}

// turn makes the clock of Redis another one for this replica alone.
func (f *Fleet) turn(by time.Duration) {
	connect := f.options.DialCtxFn
	f.options.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
		conn, err := connect(ctx, addr, d, c)
		return &off{conn, int64(by / time.Second)}, err
	}
}

func TestARedisWhoseClockIsFarOffSharesNothing(t *testing.T) {
	r := startRedis(t)
	one, two := newReplica(t, r), newReplica(t, r)
	for _, f := range []*replica{one, two} {
		f.turn(-5 * time.Minute)
		f.run(t)
		eventually(t, "it says so", func() bool {
			list := f.Troubles()
			return len(list) == 1 && strings.Contains(list[0], "AUTHGEAR_CLOCK_SKEW")
		})
	}
	ada := &authgear{}
	for _, f := range []*replica{one, two} {
		f.Await(time.Minute)
		if _, err := f.Asking(ada).Resolve(t.Context(), bearer("t")); err != nil {
			t.Error(err)
		}
		if s, err := f.Known().Resolve(t.Context(), bearer("t")); err == nil {
			t.Errorf("it knows %+v", s)
		}
	}
	if n := ada.calls.Load(); n != 2 {
		t.Errorf("Authgear was asked %d times, want 2", n)
	}
	one.Tell(Event{User: "ada"})
	eventually(t, "events are told all the same", func() bool { return len(two.heard()) == 1 })
	if told := two.heard()[0].Told; time.Since(told) > time.Minute {
		t.Errorf("told %s ago", time.Since(told))
	}
}

// One replica sees another time at Redis than the other, as if one of them, or Redis in
// between, had had its clock stepped.
func TestReplicasWhoseClocksDisagreeShareNothing(t *testing.T) {
	for _, by := range []time.Duration{-10 * time.Second, 10 * time.Second} {
		r := startRedis(t)
		one, two := join(t, r), newReplica(t, r)
		two.turn(by)
		two.run(t)
		eventually(t, "it takes part", func() bool { return len(two.Troubles()) == 0 })
		one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
		eventually(t, "it is shared", func() bool { return one.counted("share ok") == 1 })
		if s, err := two.Known().Resolve(t.Context(), bearer("t")); err == nil || two.counted("look clock") != 1 {
			t.Errorf("off by %s: it knows %+v, %v", by, s, err)
		}
	}
}

// A fleet must not ask the more, the slower Authgear is.
func TestASlowAuthgearIsAskedOnceAllTheSame(t *testing.T) {
	r := startRedis(t)
	ada := &authgear{take: 2 * patience}
	var all sync.WaitGroup
	lately := time.Now().Add(-time.Minute)
	for range 3 {
		one := join(t, r)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c := notBefore(bearer("t"), lately)
			c.Unhurried = true
			if _, err := one.Asking(ada).Resolve(ctx, c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := ada.calls.Load(); n != 1 {
		t.Errorf("Authgear was asked %d times", n)
	}
}

// Who needs an answer later than that of the replica that asks does not wait for it.
func TestNobodyWaitsForAnAnswerThatWillNotDo(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := resolverFunc(func() (*resolver.Session, error) {
		close(asked)
		<-answer
		return nil, errors.New("away")
	})
	var all sync.WaitGroup
	all.Go(func() { one.Asking(slow).Resolve(t.Context(), bearer("t")) })
	<-asked
	if _, err := two.Asking(&authgear{}).Resolve(t.Context(), notBefore(bearer("t"), time.Now())); err != nil {
		t.Error(err)
	}
	if n := two.counted("lease held"); n != 1 {
		t.Errorf("it looked %d times whether the other was done", n)
	}
	close(answer)
	all.Wait()
}

func TestWhatIsToldLastIsHeard(t *testing.T) {
	r := startRedis(t)
	one, two := start(t, r), join(t, r)
	eventually(t, "it takes part", func() bool { return len(one.Troubles()) == 0 })
	for i := range 100 {
		one.Tell(Event{User: fmt.Sprint(i)})
	}
	one.Close()
	eventually(t, "all are told", func() bool { return len(two.heard()) == 100 })
}

// While Redis stands still events wait, but only so many.
func TestEventsWaitForRedis(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	r.process.Signal(syscall.SIGSTOP)
	const few = 350 // more than are told in one go
	for i := range few {
		one.Tell(Event{User: fmt.Sprint(i)})
	}
	if n := one.counted("publish lost"); n > 0 {
		t.Errorf("%d of %d were lost", n, few)
	}
	for range 2 * cap(one.outbox) {
		one.Tell(Event{User: "many"})
	}
	if n := one.counted("publish lost"); n == 0 {
		t.Error("any number waits")
	}
	r.process.Signal(syscall.SIGCONT)
	eventually(t, "those that waited are told", func() bool {
		users := make(map[string]bool)
		for _, e := range two.heard() {
			users[e.User] = true
		}
		return len(users) == few+1
	})
}

// As many commands are under way as there may be, and none of them ends.
func TestNobodyWaitsForASlot(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	for range most {
		one.slots <- struct{}{}
	}
	ada := &authgear{}
	if s, err := one.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, errAlone) {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := one.Asking(ada).Resolve(t.Context(), bearer("t")); err != nil || ada.calls.Load() != 1 {
		t.Errorf("Authgear was asked %d times: %v", ada.calls.Load(), err)
	}
	for range most {
		<-one.slots
	}
	eventually(t, "it takes part again", func() bool {
		one.Asking(ada).Resolve(t.Context(), bearer("u"))
		_, err := one.Known().Resolve(t.Context(), bearer("u"))
		return err == nil
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	for name, harm := range map[string]func(*redis){
		"up":     func(*redis) {},
		"paused": func(r *redis) { r.process.Signal(syscall.SIGSTOP) },
		"killed": func(r *redis) { r.process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRedis(t)
			before := runtime.NumGoroutine()
			one := start(t, r)
			eventually(t, "it takes part", func() bool { return len(one.Troubles()) == 0 })
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			asking := one.Asking(&authgear{})
			for i := range 20 {
				all.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						asking.Resolve(ctx, bearer(fmt.Sprint(i, n)))
						one.Tell(Event{User: fmt.Sprint(n)})
					}
				})
			}
			eventually(t, "there is load", func() bool { return one.counted("share ok") > 100 })
			harm(r)
			time.Sleep(3 * budget) // some of it is on the way
			stop()
			all.Wait()
			one.Close()
			eventually(t, "all its goroutines end", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}
