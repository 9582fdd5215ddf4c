package resolver

import (
	"context"
	"errors"

	"authgear-forward-auth/internal/deadline"
	"authgear-forward-auth/internal/turn"
)

// An admission lets a token be read and verified: new ones take turns, a known one needs
// none.
type admission struct {
	known bool
	turn  turn.Turn
}

// enter waits for a turn.
func (a *admission) enter(ctx context.Context) error {
	if a.known || a.turn.TakeBefore(deadline.Halfway(ctx)) {
		return nil
	}
	return errTooManyTokens
}

func (a *admission) leave() { a.turn.Leave() }

var errTooManyTokens = &UnavailableError{Overloaded, errors.New("more new tokens than can be verified in time")}
