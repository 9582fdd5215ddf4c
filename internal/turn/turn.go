// Package turn keeps those who are remembered from being delayed by the work that strangers
// make.
//
// Whoever is remembered is answered at once. What takes long on a processor, and anybody
// can send, takes a turn first: turns are on half of the cores, or one, and let those go
// first whose request has come meanwhile.
package turn

import (
	"runtime"
	"slices"
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

// An office has the desks, and those who wait for one.
type office struct {
	mu     sync.Mutex
	free   []*desk     // none while somebody waits
	queues []*Turns    // in which somebody waits, the next one first
	timer  *time.Timer // of turnAway; nil if nobody waits
}

// Turns are taken on half of the cores, or one. There are common ones; whoever must not stand
// behind a crowd there has a queue apart: the head of each queue comes in turn.
type Turns struct{ first, last *waiter }

type waiter struct {
	next  *waiter
	until time.Time      // zero: no end
	told  sync.WaitGroup // of one, which takes less than a channel
	desk  *desk          // nil: the time was over
}

func newOffice() *office {
	o := new(office)
	for range max(runtime.GOMAXPROCS(0)/2, 1) {
		o.free = append(o.free, new(desk))
	}
	return o
}

func (q *Turns) add(w *waiter) {
	if w.next = nil; q.first == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
}

// grain is how exactly the time of those who wait is kept. A timer for each would take longer than
// most of them wait.
const grain = 5 * time.Millisecond

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
	if queue.first == nil {
		o.queues = append(o.queues, queue)
	}
	queue.add(w)
	if o.timer == nil {
		o.timer = time.AfterFunc(grain, o.turnAway)
	}
	o.mu.Unlock()
	w.told.Wait()
	return w.desk
}

// leave hands the desk to the next one.
func (o *office) leave(d *desk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queues) == 0 {
		o.free = append(o.free, d)
		return
	}
	queue := o.queues[0]
	o.queues = slices.Delete(o.queues, 0, 1)
	next := queue.first
	if queue.first = next.next; queue.first != nil {
		o.queues = append(o.queues, queue)
	}
	o.rest()
	next.desk = d
	next.told.Done()
}

// turnAway ends the waiting of those whose time is over.
func (o *office) turnAway() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for _, queue := range o.queues {
		all := queue.first
		queue.first = nil
		for all != nil {
			w := all
			all = w.next
			if w.until.IsZero() || now.Before(w.until) {
				queue.add(w)
			} else {
				w.told.Done()
			}
		}
	}
	o.queues = slices.DeleteFunc(o.queues, func(q *Turns) bool { return q.first == nil })
	if o.timer != nil {
		o.timer.Reset(grain)
	}
	o.rest()
}

// rest stops the timer if nobody waits.
func (o *office) rest() {
	if len(o.queues) == 0 && o.timer != nil {
		o.timer.Stop()
		o.timer = nil
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

// TakeBefore waits for a turn, and tells whether it came before the time, or a moment later. The
// zero time is no end.
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
