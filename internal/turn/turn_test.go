package turn

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestThereAreSoManyTurnsAtATime(t *testing.T) {
	all := make([]Turn, cap(desks))
	for i := range all {
		all[i].Take()
	}
	var late, soon, apart Turn
	apart.Of = New()
	come := func(one *Turn, within time.Duration) (came chan bool) {
		came = make(chan bool, 1)
		until := time.Now().Add(within)
		go func() { came <- one.TakeBefore(until) }()
		return came
	}
	tooLate, tooLateApart, came := come(&late, time.Millisecond), come(&apart, time.Millisecond), come(&soon, time.Hour)
	time.Sleep(10 * time.Millisecond)
	if len(tooLate)+len(tooLateApart)+len(came) > 0 || len(apart.queue()) != cap(desks)-1 {
		t.Fatal("there is one more, or nobody can be next in another queue")
	}
	all[0].Leave()
	if !<-came {
		t.Error("it did not come")
	}
	soon.Leave()
	if <-tooLate || <-tooLateApart {
		t.Error("it came too late")
	}
	late.Leave() // it has none
	apart.Leave()
	all[0].Leave() // it has none any more
	for i := range all {
		all[i].Leave()
	}
	if len(desks) != cap(desks) || len(common.queue) != cap(desks) {
		t.Errorf("%d and %d of %d are free", len(desks), len(common.queue), cap(desks))
	}
}

// One of a queue apart comes before the crowd of another, which it takes no more turns beside
// than there are.
func TestTurnsComeFromBothQueues(t *testing.T) {
	onOneCore(t)
	all := make([]Turn, cap(desks))
	for i := range all {
		all[i].Take()
	}
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
	time.Sleep(10 * time.Millisecond) // they stand in their queue
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
		t.Error("there are more turns than there are desks")
	case <-time.After(10 * time.Millisecond):
	}
	for i := range all {
		all[i].Leave()
	}
	if before := <-came; before > 50 {
		t.Errorf("%d of the crowd came before", before)
	}
	both.Wait()
	if len(desks) != cap(desks) || len(common.queue) != cap(desks) || len(apart.queue) != cap(desks) {
		t.Errorf("%d, %d and %d of %d are free", len(desks), len(common.queue), len(apart.queue), cap(desks))
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

// onOneCore leaves the test one core, and turns of its own.
func onOneCore(t *testing.T) {
	cores, turns, at := runtime.GOMAXPROCS(1), common, desks
	t.Cleanup(func() {
		runtime.GOMAXPROCS(cores)
		common, desks = turns, at
	})
	desks = newDesks()
	common = New()
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
