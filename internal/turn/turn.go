// Package turn keeps those who are remembered from being delayed by the work that strangers
// make.
//
// Whoever is remembered is answered at once. What takes long on a processor, and anybody
// can send, takes a turn first: turns are on half of the cores, or one, and let those go
// first whose request has come meanwhile.
package turn

import (
	"context"
	"runtime"
	"time"

	"authgear-forward-auth/internal/deadline"
	"authgear-forward-auth/internal/direct"
)

// Turns are taken on half of the cores, or one. There are common ones; whoever must not stand
// behind a crowd there has a queue apart: from two queues turns come alternately.
type Turns struct{ queue chan struct{} }

// desks are those that are free. At each one sits who has a turn, and has Go look at the network
// first, which it does not by itself while there is something else to do.
var desks = func() chan *direct.Look {
	all := make(chan *direct.Look, max(runtime.GOMAXPROCS(0)/2, 1))
	for range cap(all) {
		all <- new(direct.Look)
	}
	return all
}()

// New returns turns with a queue apart from the common one.
func New() *Turns {
	t := &Turns{make(chan struct{}, cap(desks))}
	for range cap(desks) {
		t.queue <- struct{}{}
	}
	return t
}

var common = New()

// A Turn is taken, or has been left. The zero Turn is one of the common ones, and has not been
// taken. Whoever has one must neither wait for anything nor take another.
type Turn struct {
	Of *Turns // nil: the common ones
	at *direct.Look
}

func (t *Turn) queue() chan struct{} {
	if t.Of == nil {
		return common.queue
	}
	return t.Of.queue
}

// Take waits for a turn.
func (t *Turn) Take() {
	<-t.queue()
	t.sit()
}

// TakeBefore waits for a turn, and tells whether it came before the time, and before ctx ended.
func (t *Turn) TakeBefore(ctx context.Context, until time.Time) (ok bool) {
	if _, ok = deadline.Await(ctx, until, t.queue()); ok {
		t.sit()
	}
	return ok
}

// sit waits for a desk: whoever has one has it for some microseconds. Meanwhile it lets others go
// first who need none.
func (t *Turn) sit() {
	t.at = <-desks
	t.at.Await()
}

// Pass waits for a turn and leaves it at once, so that others go first.
func Pass() {
	var t Turn
	t.Take()
	t.Leave()
}

// Leave ends the turn, if it was taken.
func (t *Turn) Leave() {
	if t.at != nil {
		desks <- t.at
		t.at = nil
		t.queue() <- struct{}{}
	}
}
