package turn

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestThereAreSoManyTurnsAtATime(t *testing.T) {
	all := takeAll(t)
	if len(all) != max(runtime.GOMAXPROCS(0)/2, 1) {
		t.Fatalf("%d turns", len(all))
	}
	more, apart := Turn{}, Turn{Of: New()}
	for _, one := range []*Turn{&more, &apart} {
		if one.TakeBefore(time.Now().Add(10 * time.Millisecond)) {
			t.Error("there is one more")
		}
		one.Leave() // it has none
	}
	came := make(chan bool)
	go func() { came <- more.TakeBefore(time.Now().Add(time.Hour)) }()
	all[0].Leave()
	if !<-came {
		t.Error("it did not come")
	}
	all[0].Leave() // it has none any more
	more.Leave()
	for _, one := range all {
		one.Leave()
	}
	if n := len(desks.free); n != len(all) || desks.timer != nil {
		t.Errorf("%d of %d are free, with a timer: %v", n, len(all), desks.timer != nil)
	}
}

// Whoever has waited for his time is told so then, and needs no turn for it: those before him who
// have more time still wait, and have theirs.
func TestNobodyWaitsLongerThanHisTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := takeAll(t)
		begin := time.Now()
		var both sync.WaitGroup
		var turns [8]atomic.Bool
		queues := []*Turns{nil, New()}
		for i, patience := range [len(turns)]time.Duration{time.Hour, 5 * time.Second, 3 * time.Second, 3 * time.Second, 8 * time.Second, 1005 * time.Millisecond, time.Hour, 2 * time.Second} {
			both.Go(func() {
				one := Turn{Of: queues[i%2]}
				defer one.Leave()
				if one.TakeBefore(begin.Add(patience)) {
					turns[i].Store(true)
				} else if took := time.Since(begin); took != patience {
					t.Errorf("the one with %s was told after %s", patience, took)
				}
			})
			synctest.Wait() // it stands in its queue
		}
		time.Sleep(6 * time.Second)
		for _, one := range all {
			one.Leave()
		}
		both.Wait()
		for i := range turns {
			if had, want := turns[i].Load(), i == 0 || i == 4 || i == 6; had != want {
				t.Errorf("%d had a turn: %v", i, had)
			}
		}
		if desks.timer != nil || len(desks.queues) > 0 || len(desks.free) != len(all) {
			t.Errorf("it is not as before: %+v", desks)
		}
	})
}

// One of a queue apart comes before the crowd of another, which it takes no more turns beside
// than there are.
func TestTurnsComeFromBothQueues(t *testing.T) {
	onOneCore(t)
	all := takeAll(t)
	var taken atomic.Int64
	var both sync.WaitGroup
	for range 100 {
		both.Go(func() {
			var one Turn
			one.Take()
			taken.Add(1)
			one.Leave()
		})
	}
	for stand := 0; stand < 100; time.Sleep(time.Millisecond) {
		stand = 0
		desks.mu.Lock()
		for w := common.first; w != nil; w = w.next {
			stand++
		}
		desks.mu.Unlock()
	}
	apart := New()
	came := make(chan int64)
	go func() {
		one := Turn{Of: apart}
		one.Take()
		came <- taken.Load()
		one.Leave()
	}()
	select {
	case <-came:
		t.Fatal("there are more turns than there are desks")
	case <-time.After(10 * time.Millisecond):
	}
	for _, one := range all {
		one.Leave()
	}
	if before := <-came; before > 2 { // who was the next when it came, and who is now
		t.Errorf("%d of the crowd came before", before)
	}
	both.Wait()
	if len(desks.free) != len(all) || len(desks.queues) > 0 {
		t.Errorf("%d of %d are free, %d queues", len(desks.free), len(all), len(desks.queues))
	}
}

// While a crowd takes turns, what comes by the network is served between them.
func TestTurnsLetTheNetworkBeServed(t *testing.T) {
	onOneCore(t)
	const crowd, turns = 20, 400
	var taken, echoes atomic.Int64
	here, there := connection(t)
	echo := func(c net.Conn, count int64) {
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			echoes.Add(count)
			c.Write(b)
		}
	}
	go echo(here, 0)
	go echo(there, 1)
	here.Write([]byte("x"))
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			for taken.Add(1) <= turns {
				var one Turn
				one.Take()
				for begin := time.Now(); time.Since(begin) < 50*time.Microsecond; {
				}
				one.Leave()
			}
		})
	}
	all.Wait()
	// Each echo goes to the network twice. Without a look between two turns, there would be one in 20 ms.
	if n := echoes.Load(); n < turns/40 {
		t.Errorf("%d echoes beside %d turns", n, turns)
	}
}

// While the processor is full of those who need no turn, not all of them go first each time.
func TestTurnsHaveAPartOfABusyProcessor(t *testing.T) {
	onOneCore(t)
	const busy, turns = 50, 100
	var rounds atomic.Int64
	var over atomic.Bool
	work := func() {
		for begin := time.Now(); time.Since(begin) < 50*time.Microsecond; {
		}
	}
	var all sync.WaitGroup
	for range busy {
		all.Go(func() {
			for !over.Load() {
				work()
				rounds.Add(1)
				runtime.Gosched()
			}
		})
	}
	for range turns {
		var one Turn
		one.Take()
		work()
		one.Leave()
	}
	over.Store(true)
	all.Wait()
	if n := rounds.Load(); n > busy*turns/2 {
		t.Errorf("%d times another went first in %d turns", n, turns)
	}
}

// takeAll takes all turns that there are.
func takeAll(t *testing.T) (all []*Turn) {
	for one := new(Turn); one.TakeBefore(time.Now().Add(10 * time.Millisecond)); one = new(Turn) {
		all = append(all, one)
	}
	t.Cleanup(func() {
		for _, one := range all {
			one.Leave()
		}
	})
	return all
}

// onOneCore leaves the test one core, and desks of its own.
func onOneCore(t *testing.T) {
	cores, before := runtime.GOMAXPROCS(1), desks
	t.Cleanup(func() {
		runtime.GOMAXPROCS(cores)
		desks = before
	})
	desks = newOffice()
}

func connection(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}
