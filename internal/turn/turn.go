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

// longest is for how long turns are taken until Go is made to look at the network, which it
// does not by itself while there is something else to do. A look takes a tenth of it.
const longest = 20 * time.Microsecond

// Turns are taken on half of the cores, or one. There are common ones; whoever must not stand
// behind a crowd there has some apart.
type Turns struct{ desks chan *desk }

// A desk is where turns are taken, one after the other.
type desk struct {
	looked time.Time
	look   direct.Look
}

// New returns turns apart from the common ones.
func New() *Turns {
	all := &Turns{make(chan *desk, max(runtime.GOMAXPROCS(0)/2, 1))}
	for range cap(all.desks) {
		all.desks <- new(desk)
	}
	return all
}

var common = New()

// A Turn is taken, or has been left. The zero Turn is one of the common ones, and has not been
// taken.
type Turn struct {
	Of *Turns // nil: the common ones
	at *desk
}

func (t *Turn) desks() chan *desk {
	if t.Of == nil {
		return common.desks
	}
	return t.Of.desks
}

// Take waits for a turn.
func (t *Turn) Take() {
	t.at = <-t.desks()
	t.at.giveWay()
}

// TakeBefore waits for a turn, and tells whether it came before the time, and before ctx ended.
func (t *Turn) TakeBefore(ctx context.Context, until time.Time) (ok bool) {
	if t.at, ok = deadline.Await(ctx, until, t.desks()); ok {
		t.at.giveWay()
	}
	return ok
}

// Pass waits for a turn and leaves it at once, so that others go first.
func Pass() {
	var t Turn
	t.Take()
	t.Leave()
}

// giveWay lets others go first if that was long ago. Meanwhile the desk is not free, so that
// those who would take long, too, wait for it.
func (d *desk) giveWay() {
	if time.Since(d.looked) > longest {
		d.look.Await()
		d.looked = time.Now()
	}
}

// Leave ends the turn, if it was taken.
func (t *Turn) Leave() {
	if t.at != nil {
		t.desks() <- t.at
		t.at = nil
	}
}
