package resolver

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
)

// A turn is that of one token to be read and verified. New tokens take turns: on half of the
// cores, or one, so that a flood of them leaves the rest to those whose session is
// remembered. A known one needs none.
type turn struct{ known, inside bool }

var (
	room  = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
	turns atomic.Uint64
)

// enter waits for room.
func (t *turn) enter(ctx context.Context) error {
	if t.known {
		return nil
	}
	select {
	case room <- struct{}{}:
		t.inside = true
	case <-ctx.Done():
		return errTooManyTokens
	}
	// Those who wait for room would go on one after the other, before anybody else, if
	// nobody let the others go.
	const oneIn = 8
	if turns.Add(1)%oneIn == 0 {
		runtime.Gosched()
	}
	return nil
}

func (t *turn) leave() {
	if t.inside {
		t.inside = false
		<-room
	}
}

var errTooManyTokens = &UnavailableError{Overloaded, errors.New("more new tokens than can be verified in time")}
