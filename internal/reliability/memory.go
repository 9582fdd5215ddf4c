package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

// overhead is what a process may take beyond what it may remember, in the cache alone and in
// the service: the program, what is being worked on, and what waits to be collected.
const overhead = 192 << 20

// A stuffing is what was counted while more was to be remembered than has room.
type stuffing struct {
	name               string
	room               int64 // AUTHGEAR_CACHE_BYTES
	credentials, wrong int64
	evictions          float64
	remembered         float64 // bytes
	memory, most       int64
	kept               float64 // of the last ones, as many as have room at most, those that are still remembered
	took               time.Duration
}

func (s *stuffing) problems() (list []string) {
	problem := func(format string, args ...any) { list = append(list, s.name+": "+fmt.Sprintf(format, args...)) }
	if s.wrong > 0 {
		problem("%d wrong answers", s.wrong)
	}
	if s.remembered > float64(s.room) || s.most > s.room+overhead {
		problem("%s are remembered in %s", mib(int64(s.remembered)), mib(s.most))
	}
	return list
}

// playMemory stuffs the cache in this process, and then the service over HTTP.
func playMemory(ctx context.Context, o options, table, _ io.Writer) (problems []string, err error) {
	var all []*stuffing
	for _, f := range []func(context.Context, options) (*stuffing, error){stuffCache, stuffService} {
		s, err := f(ctx, o)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		problems = append(problems, s.problems()...)
	}
	fmt.Fprintln(table, "| What | Distinct credentials | Wrong answers | Remembered at the end | Forgotten for want of room | Of the last 20,000 still remembered | Memory of the process, before → most | Time |")
	fmt.Fprintln(table, "|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		fmt.Fprintf(table, "| %s | %d | %d | %s | %.0f | %.1f %% | %s → %s | %s |\n", s.name, s.credentials, s.wrong, mib(int64(s.remembered)), s.evictions,
			100*s.kept, mib(s.memory), mib(s.most), s.took.Round(time.Second))
	}
	return problems, nil
}

// watch looks at the memory until the function that it returns is called.
func (s *stuffing) watch(ctx context.Context, memory func() int64) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for ; ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
			s.most = max(s.most, memory())
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// vouching knows everybody: a token is its user's name.
type vouching struct{ asked atomic.Int64 }

func (v *vouching) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	v.asked.Add(1)
	return &resolver.Session{UserID: c.List[0].Value, Roles: "admin,editor", Confirmed: time.Now()}, nil
}

// last are asked about once more at the end.
const last = 20_000

func token(i int64) string { return fmt.Sprintf("%032d", i) }

func stuffCache(ctx context.Context, o options) (*stuffing, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the service does with so much, memory.go
	authgear := &vouching{}
	c, err := cache.New(cache.Options{Authgear: authgear, Strangers: authgear, MaxStaleness: time.Hour, Wait: time.Minute, Bytes: o.room})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := &stuffing{name: "the cache, by itself", room: o.room, credentials: o.credentials, memory: lab.Resident(os.Getpid())}
	var wrong, next atomic.Int64
	ask := func(i int64) {
		name := token(i)
		got, err := c.Resolve(ctx, resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: name}}})
		if err != nil || got.UserID != name {
			wrong.Add(1)
		}
	}
	watched := s.watch(ctx, func() int64 { return lab.Resident(os.Getpid()) })
	began := time.Now()
	var all sync.WaitGroup
	for range 4 * runtime.NumCPU() {
		all.Go(func() {
			for i := next.Add(1); i <= o.credentials && ctx.Err() == nil; i = next.Add(1) {
				ask(i)
			}
		})
	}
	all.Wait()
	watched()
	s.took = time.Since(began)
	before := authgear.asked.Load()
	n := min(last, o.credentials)
	for i := range n {
		ask(o.credentials - i)
	}
	s.kept = 1 - float64(authgear.asked.Load()-before)/float64(n)
	s.remembered, s.evictions, s.wrong = float64(c.Bytes()), float64(c.Evictions()), wrong.Load()
	return s, ctx.Err()
}

func stuffService(ctx context.Context, o options) (*stuffing, error) {
	st, err := newStand(o.binary, fmt.Sprintf("AUTHGEAR_CACHE_BYTES=%d", o.room), "AUTHGEAR_MAX_STALENESS=1h")
	if err != nil {
		return nil, err
	}
	defer st.close()
	st.authgear.Slow(0)
	var asked atomic.Int64
	st.authgear.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h := w.Header()
		h.Set("X-Authgear-Session-Valid", "true")
		h.Set("X-Authgear-User-Id", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		for _, name := range []string{"Anonymous", "Verified", "Can-Reauthenticate"} {
			h.Set("X-Authgear-User-"+name, "true")
		}
	})
	s := &stuffing{name: "the service, over HTTP", room: o.room, credentials: o.credentials / 33, memory: st.service.Resident()}
	var wrong, next atomic.Int64
	ask := func(i int64) {
		who := lab.Bearer(token(i))
		who.User = &authgeartest.User{ID: token(i)}
		if a := st.service.Ask(who); a.Status != http.StatusOK || a.Wrong {
			wrong.Add(1)
		}
	}
	watched := s.watch(ctx, st.service.Resident)
	began := time.Now()
	var all sync.WaitGroup
	for range resolver.MaxStrangers {
		all.Go(func() {
			for i := next.Add(1); i <= s.credentials && ctx.Err() == nil; i = next.Add(1) {
				ask(i)
			}
		})
	}
	all.Wait()
	watched()
	s.took = time.Since(began)
	before := asked.Load()
	n := min(last, s.credentials)
	for i := range n {
		ask(s.credentials - i)
	}
	s.kept = 1 - float64(asked.Load()-before)/float64(n)
	figures, err := st.service.Figures()
	s.remembered, s.evictions = figures["authgear_forward_auth_cache_bytes"], figures["authgear_forward_auth_cache_evictions_total"]
	s.wrong = wrong.Load()
	return s, err
}
