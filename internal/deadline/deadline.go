// Package deadline waits until a time, for those who are many: nearly all that they wait for comes
// before. A context of the standard library sets a timer when it is made.
package deadline

import (
	"context"
	"sync"
	"time"
)

// A Context ends at a time, and no sooner but by [Context.Release]. It sets a timer when somebody
// asks for its end. It must not be copied.
type Context struct {
	At time.Time // not to be changed once the Context is in use

	mu    sync.Mutex
	whole context.Context
	end   context.CancelFunc
}

func (c *Context) Deadline() (time.Time, bool) { return c.At, true }
func (c *Context) Done() <-chan struct{}       { return c.made().Done() }
func (c *Context) Value(key any) any           { return c.made().Value(key) } // that of the standard library finds its own kind so

func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.whole != nil:
		return c.whole.Err()
	case time.Now().Before(c.At):
		return nil
	}
	return context.DeadlineExceeded
}

func (c *Context) made() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole == nil {
		c.whole, c.end = context.WithDeadline(context.Background(), c.At)
	}
	return c.whole
}

// Release ends the context.
func (c *Context) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.whole != nil:
	case time.Now().Before(c.At):
		c.whole, c.end = released, func() {}
	default: // it has ended already, and says so as before
		c.whole, c.end = context.WithDeadline(context.Background(), c.At)
	}
	c.end()
}

var released = func() context.Context {
	ctx, end := context.WithCancel(context.Background())
	end()
	return ctx
}()

// Await receives what is sent, or the end of the channel. ok is false if ctx ends, or the time
// comes, first.
func Await[T any](ctx context.Context, until time.Time, from <-chan T) (got T, ok bool) {
	select {
	case got = <-from:
		return got, true
	default:
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	var done <-chan struct{}
	if c, timed := ctx.(*Context); !timed || c.At.Before(until) {
		done = ctx.Done()
	}
	select {
	case got = <-from:
		return got, true
	case <-timer.C:
	case <-done:
	}
	return got, false
}

// Halfway is when half of the time that ctx has left is over; in an hour if it has no end.
func Halfway(ctx context.Context) time.Time {
	now := time.Now()
	if end, ok := ctx.Deadline(); ok {
		return now.Add(end.Sub(now) / 2)
	}
	return now.Add(time.Hour)
}
