package deadline

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestAContextEndsAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(time.Second)
		for name, look := range map[string]func(*Context){"looked at": func(c *Context) { c.Done() }, "never looked at": func(*Context) {}} {
			c := &Context{At: at}
			look(c)
			if d, ok := c.Deadline(); c.Err() != nil || !d.Equal(at) || !ok {
				t.Errorf("%s, before: %v, %v", name, c.Err(), d)
			}
		}
		waited, quiet := &Context{At: at}, &Context{At: at}
		child, cancel := context.WithTimeout(waited, time.Hour)
		defer cancel()
		<-child.Done()
		if !time.Now().Equal(at) || child.Err() != context.DeadlineExceeded || waited.Err() != context.DeadlineExceeded || quiet.Err() != context.DeadlineExceeded {
			t.Errorf("after %s: %v, %v, %v", time.Until(at), child.Err(), waited.Err(), quiet.Err())
		}
		for _, c := range []*Context{waited, quiet} {
			if c.Release(); c.Err() != context.DeadlineExceeded {
				t.Errorf("released later: %v", c.Err())
			}
		}
	})
}

func TestAReleasedContextHasEnded(t *testing.T) {
	for name, look := range map[string]func(*Context){"looked at": func(c *Context) { c.Done() }, "never looked at": func(*Context) {}} {
		c := &Context{At: time.Now().Add(time.Hour)}
		look(c)
		c.Release()
		c.Release()
		<-c.Done()
		if c.Err() != context.Canceled {
			t.Errorf("%s: %v", name, c.Err())
		}
	}
}

// What is derived from it needs no goroutine that waits for its end.
func TestAChildNeedsNoGoroutine(t *testing.T) {
	c := &Context{At: time.Now().Add(time.Hour)}
	defer c.Release()
	before := runtime.NumGoroutine()
	for range 100 {
		_, cancel := context.WithCancel(c)
		defer cancel()
	}
	if n := runtime.NumGoroutine(); n >= before+100 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		in := func(d time.Duration) time.Time { return begin.Add(d) }
		event, over := make(chan int, 1), make(chan int)
		close(over)
		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		ended, end := context.WithCancel(t.Context())
		end()
		expect := func(name string, ctx context.Context, until time.Time, from chan int, want int, wantOK bool, after time.Duration) {
			if got, ok := Await(ctx, until, from); got != want || ok != wantOK || !time.Now().Equal(in(after)) {
				t.Errorf("%s: %d, %t after %s; want %d, %t after %s", name, got, ok, time.Since(begin), want, wantOK, after)
			}
		}
		expect("a channel that is closed", ended, in(-1), over, 0, true, 0)
		event <- 1
		expect("what is there, though there is no time", ended, in(-1), event, 1, true, 0)
		expect("nothing, and no time", t.Context(), in(-1), event, 0, false, 0)
		expect("nobody waits", ended, in(time.Hour), event, 0, false, 0)
		time.AfterFunc(time.Second, func() { event <- 2 })
		expect("what comes in time", t.Context(), in(time.Hour), event, 2, true, time.Second)
		expect("somebody waits no longer", canceled, in(time.Hour), event, 0, false, 2*time.Second)
		expect("the time comes", t.Context(), in(3*time.Second), event, 0, false, 3*time.Second)
		expect("a deadline before the time", &Context{At: in(4 * time.Second)}, in(time.Hour), event, 0, false, 4*time.Second)
		expect("a deadline after it", &Context{At: in(time.Hour)}, in(5*time.Second), event, 0, false, 5*time.Second)
	})
}

func TestHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for ctx, want := range map[context.Context]time.Duration{
			&Context{At: now.Add(time.Second)}:  time.Second / 2,
			&Context{At: now.Add(-time.Second)}: -time.Second / 2,
			context.Background():                time.Hour,
		} {
			if got := Halfway(ctx).Sub(now); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
	})
}
