package direct

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// While there is always something to do, who waits for the network is served all the same.
func TestALookServesTheNetwork(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer to.Close()
	came := make(chan bool, 1)
	go func() {
		from.Read(make([]byte, 1))
		came <- true
	}()
	time.Sleep(10 * time.Millisecond) // it waits
	look := new(Look)
	to.Write([]byte("x"))
	const atMost = 10 // the machine may be busy
	for i := 0; len(came) == 0; i++ {
		if i == atMost {
			t.Fatal("nobody looked at the network")
		}
		look.Await()
	}
	for range 10_000 {
		look.Await()
	}
	if n := testing.AllocsPerRun(100, look.Await); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLook(b *testing.B) {
	l := new(Look)
	for b.Loop() {
		l.Await()
	}
}
