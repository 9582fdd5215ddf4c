// Package turntest lets a test see who waits for a turn.
package turntest

import (
	"runtime"
	"testing"
	"time"

	"authgear-forward-auth/internal/turn"
)

// Waits takes all turns that there are, and calls free, which needs none. It fails the test unless
// waits waits meanwhile; once the turns are left, it must end.
func Waits(t testing.TB, free, waits func()) {
	t.Helper()
	leave := TakeAll(t)
	free()
	ended := make(chan bool)
	go func() {
		waits()
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("it was done before its turn")
	case <-time.After(20 * time.Millisecond):
	}
	leave()
	<-ended
}

// TakeAll takes all turns that there are, until they are left, or the test ends. It fails the test
// if somebody has one.
func TakeAll(t testing.TB) (leave func()) {
	t.Helper()
	var all []*turn.Turn
	for one := new(turn.Turn); one.TakeBefore(time.Now().Add(10 * time.Millisecond)); one = new(turn.Turn) {
		all = append(all, one)
	}
	leave = func() {
		for _, one := range all {
			one.Leave()
		}
	}
	t.Cleanup(leave)
	if want := max(runtime.GOMAXPROCS(0)/2, 1); len(all) != want {
		t.Fatalf("%d turns of %d are free", len(all), want)
	}
	return leave
}
