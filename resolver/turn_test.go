package resolver

import (
	"context"
	"testing"
	"time"
)

// New tokens wait while there is no room for them, and no longer than somebody waits. A known
// one does not.
func TestNewTokensWaitForRoom(t *testing.T) {
	for range cap(room) {
		room <- struct{}{}
	}
	j := &JWT{Issuer: "https://example.com", Keys: NewKeys("https://example.com", time.Second, func(error) {})}
	creds := Credentials{List: []Credential{{Bearer, "eyJ.eyJ.sig"}}}
	known := creds
	known.Known = true
	if _, err := j.Resolve(t.Context(), known); ReasonOf(err) != MalformedCredential {
		t.Errorf("a known one, without room: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := j.Resolve(ctx, creds); ReasonOf(err) != Overloaded {
		t.Errorf("without room: %v", err)
	}
	judged := make(chan error, 1)
	go func() {
		_, err := j.Resolve(t.Context(), creds)
		judged <- err
	}()
	select {
	case err := <-judged:
		t.Fatalf("before there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	for range cap(room) {
		<-room
	}
	if err := <-judged; ReasonOf(err) != MalformedCredential {
		t.Errorf("with room: %v", err)
	}
	if len(room) > 0 {
		t.Error("somebody has not left")
	}
}

// While the keys are fetched, which may take as long as the timeout, others go on.
func TestNobodyHoldsTheRoomWhileKeysAreFetched(t *testing.T) {
	var in turn
	for range 2 * cap(room) {
		if err := in.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		j := &JWT{Keys: NewKeys("http://127.0.0.1:1", time.Second, func(error) {
			if len(room) > 0 {
				t.Error("the room is held")
			}
		})}
		if err := j.verify(t.Context(), &in, token{}, "nobody's"); ReasonOf(err) != KeysUnavailable {
			t.Errorf("the keys are away: %v", err)
		}
		in.leave()
	}
	if len(room) > 0 {
		t.Error("somebody has not left")
	}
}
