// Package turn keeps those who are remembered from being delayed by the work that strangers
// make.
//
// Whoever is remembered is answered at once. What takes long on a processor, and anybody
// can send, takes a turn first: turns are on half of the cores, or one, and let those go
// first whose request has come meanwhile.
package turn

import (
	"runtime"
	"time"

	"authgear-forward-auth/internal/direct"
)

// Turns are taken on half of the cores, or one. There are common ones; whoever must not stand
// behind a crowd there has a queue apart: no queue waits for all of another one.
type Turns struct{ queue chan struct{} }

// desks are those that are free.
var desks = newDesks()

func newDesks() chan *desk {
	all := make(chan *desk, max(runtime.GOMAXPROCS(0)/2, 1))
	for range cap(all) {
		all <- new(desk)
	}
	return all
}

// A desk is where somebody sits who has a turn.
type desk struct {
	look   direct.Look
	looked time.Time
	took   time.Duration
}

const (
	long    = 200 * time.Microsecond
	longest = 5 * time.Millisecond
)

// giveWay has Go look at the network, which it does not by itself while there is something else to
// do, and lets those go first whose request has come. While the processors are full of those, that
// takes long: then turns have a fifth of the time, as long as nobody waits much longer for it.
func (d *desk) giveWay() {
	begin := time.Now()
	if d.took > long && begin.Sub(d.looked) < min(d.took/4, longest) {
		return
	}
	d.look.Await()
	d.looked = time.Now()
	d.took = d.looked.Sub(begin)
}

// New returns turns with a queue apart from the common one.
func New() *Turns {
	t := &Turns{make(chan struct{}, cap(desks))}
	for range cap(desks) {
		t.queue <- struct{}{}
	}
	return t
}

var common = New()

// AtATime returns how many turns there are at a time.
func AtATime() int { return cap(desks) }

// A Turn is taken, or has been left. The zero Turn is one of the common ones, and has not been
// taken. Whoever has one must neither wait for anything nor take another.
type Turn struct {
	Of *Turns // nil: the common ones
	at *desk
}

func (t *Turn) queue() chan struct{} {
	if t.Of == nil {
		return common.queue
	}
	return t.Of.queue
}

// Take waits for a turn.
func (t *Turn) Take() {
	t.come()
	t.at.giveWay()
}

// TakeBefore waits for a turn, and tells whether it came before the time. It tells so when it has
// come: turns are short, and a timer for everybody who waits would take longer than they do.
func (t *Turn) TakeBefore(until time.Time) (ok bool) {
	t.come()
	if time.Now().After(until) {
		t.Leave()
		return false
	}
	t.at.giveWay()
	return true
}

func (t *Turn) come() {
	<-t.queue()
	t.at = <-desks
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
