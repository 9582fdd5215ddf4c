// Package turn keeps those who are remembered from being delayed by the work that strangers
// make.
//
// Whoever is remembered is answered at once. What takes long on a processor, and anybody
// can send, takes a turn first: turns are on half of the cores, or one, and let those go
// first whose request has come meanwhile.
package turn

import (
	"runtime"
	"sync"
	"time"

	"authgear-forward-auth/internal/direct"
)

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

// An office has the desks, and those who wait for one. It sets one timer for all of them: one for
// each would take longer than most of them wait.
type office struct {
	mu     sync.Mutex
	free   []*desk     // of which there are none while somebody waits
	queues []*Turns    // in which somebody waits, the next one first
	timer  *time.Timer // for the first whose time is over; nil: nobody waits, or not for so long
	at     time.Time   // when that is
}

// Turns are taken on half of the cores, or one. There are common ones; whoever must not stand
// behind a crowd there has a queue apart: the head of each queue comes in turn.
type Turns struct{ waiting []*waiter }

type waiter struct {
	until time.Time // zero: no end
	told  sync.WaitGroup
	desk  *desk // nil: the time was over
}

func newOffice() *office {
	o := new(office)
	for range max(runtime.GOMAXPROCS(0)/2, 1) {
		o.free = append(o.free, new(desk))
	}
	return o
}

// enter waits for a desk. It returns nil if there was none before the time.
func (o *office) enter(queue *Turns, until time.Time) *desk {
	o.mu.Lock()
	if n := len(o.free); n > 0 {
		d := o.free[n-1]
		o.free = o.free[:n-1]
		o.mu.Unlock()
		return d
	}
	w := &waiter{until: until}
	w.told.Add(1)
	if len(queue.waiting) == 0 {
		o.queues = append(o.queues, queue)
	}
	queue.waiting = append(queue.waiting, w)
	o.setTimer(until)
	o.mu.Unlock()
	w.told.Wait()
	return w.desk
}

// leave gives the desk to the next one.
func (o *office) leave(d *desk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queues) == 0 {
		o.free = append(o.free, d)
		return
	}
	queue := o.queues[0]
	next := queue.waiting[0]
	o.queues, queue.waiting = o.queues[1:], queue.waiting[1:]
	if len(queue.waiting) > 0 {
		o.queues = append(o.queues, queue)
	}
	if len(o.queues) == 0 {
		o.stopTimer()
	}
	next.desk = d
	next.told.Done()
}

func (o *office) setTimer(at time.Time) {
	if at.IsZero() || o.timer != nil && !at.Before(o.at) {
		return
	}
	o.stopTimer()
	o.at = at
	o.timer = time.AfterFunc(time.Until(at), o.turnAway)
}

func (o *office) stopTimer() {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}

// turnAway ends the waiting of those whose time is over.
func (o *office) turnAway() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopTimer()
	now := time.Now()
	queues := o.queues
	o.queues = nil
	for _, queue := range queues {
		all := queue.waiting
		queue.waiting = nil
		for _, w := range all {
			if !w.until.IsZero() && !now.Before(w.until) {
				w.told.Done()
				continue
			}
			queue.waiting = append(queue.waiting, w)
			o.setTimer(w.until)
		}
		if len(queue.waiting) > 0 {
			o.queues = append(o.queues, queue)
		}
	}
}

var (
	desks  = newOffice()
	common = New()
)

// New returns turns with a queue apart from the common one.
func New() *Turns { return new(Turns) }

// A Turn is taken, or has been left. The zero Turn is one of the common ones, and has not been
// taken. Whoever has one must neither wait for anything nor take another.
type Turn struct {
	Of *Turns // nil: the common ones
	at *desk
}

// Take waits for a turn.
func (t *Turn) Take() { t.TakeBefore(time.Time{}) }

// TakeBefore waits for a turn, and tells whether it came before the time. The zero time is no end.
func (t *Turn) TakeBefore(until time.Time) (ok bool) {
	queue := t.Of
	if queue == nil {
		queue = common
	}
	if t.at = desks.enter(queue, until); t.at == nil {
		return false
	}
	t.at.giveWay()
	return true
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
		desks.leave(t.at)
		t.at = nil
	}
}
