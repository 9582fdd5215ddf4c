// Package turntest lets a test see who waits for a turn.
package turntest

import (
	"testing"
	"time"

	"authgear-forward-auth/internal/turn"
)

// Waits takes all turns of some, nil for the common ones, and calls free, which needs none. It
// fails the test unless waits waits meanwhile; once the turns are left, it must end.
func Waits(t testing.TB, of *turn.Turns, free, waits func()) {
	t.Helper()
	leave := TakeAll(of)
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

// TakeAll takes all turns of some, nil for the common ones, until they are left.
func TakeAll(of *turn.Turns) (leave func()) {
	taken := make([]turn.Turn, turn.AtATime())
	for i := range taken {
		taken[i].Of = of
		taken[i].Take()
	}
	return func() {
		for i := range taken {
			taken[i].Leave()
		}
	}
}
