package direct

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// While there is always something to do, who waits for the network is served all the same.
func TestALookServesTheNetwork(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	came := make(chan bool, 1)
	go func() {
		c.Read(make([]byte, 1))
		came <- true
	}()
	time.Sleep(10 * time.Millisecond) // it waits
	look := new(Look)
	peer.Write([]byte("x"))
	const atMost = 10 // loopback takes a moment where the machine is busy
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
