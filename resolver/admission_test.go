package resolver

import (
	"context"
	"testing"
	"time"

	"authgear-forward-auth/internal/turn"
	"authgear-forward-auth/internal/turn/turntest"
)

// New tokens wait for their turn, and no longer than somebody waits. A known one does not.
func TestNewTokensTakeTurns(t *testing.T) {
	leave := turntest.TakeAll(t)
	j := &JWT{Issuer: "https://example.com", Keys: NewKeys("https://example.com", time.Second, func(error) {})}
	creds := Credentials{List: []Credential{{Bearer, "eyJ.eyJ.sig"}}}
	known := creds
	known.Known = true
	if _, err := j.Resolve(t.Context(), known); ReasonOf(err) != MalformedCredential {
		t.Errorf("a known one: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := j.Resolve(ctx, creds); ReasonOf(err) != Overloaded {
		t.Errorf("while all turns are taken: %v", err)
	}
	judged := make(chan error, 1)
	go func() {
		_, err := j.Resolve(t.Context(), creds)
		judged <- err
	}()
	select {
	case err := <-judged:
		t.Fatalf("before its turn: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	leave()
	if err := <-judged; ReasonOf(err) != MalformedCredential {
		t.Errorf("in its turn: %v", err)
	}
	turntest.TakeAll(t)() // nobody has kept one
}

// While the keys are fetched, which may take as long as the timeout, others go on.
func TestNobodyKeepsATurnWhileKeysAreFetched(t *testing.T) {
	leave := turntest.TakeAll(t)
	leave()
	var in admission
	for range 4 {
		if err := in.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		j := &JWT{Keys: NewKeys("http://127.0.0.1:1", time.Second, func(error) {
			if in.turn != (turn.Turn{}) {
				t.Error("the turn is kept")
			}
		})}
		if err := j.verify(t.Context(), &in, token{}, "nobody's", new(work)); ReasonOf(err) != KeysUnavailable {
			t.Errorf("the keys are away: %v", err)
		}
		in.leave()
	}
}
