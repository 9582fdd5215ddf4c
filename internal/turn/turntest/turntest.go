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
	var taken []*turn.Turn
	for ok := true; ok; {
		one := &turn.Turn{Of: of}
		ok = one.TakeBefore(t.Context(), time.Now().Add(10*time.Millisecond))
		taken = append(taken, one)
	}
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
	for _, one := range taken {
		one.Leave()
	}
	<-ended
}
