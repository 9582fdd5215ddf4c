package resolver

import (
	"context"
	"testing"
	"time"
)

// Tokens wait while there is no room for them, and no longer than somebody waits.
func TestTokensWaitForRoom(t *testing.T) {
	for range cap(work) {
		work <- struct{}{}
	}
	j := &JWT{Issuer: "https://example.com", Keys: NewKeys("https://example.com", time.Second, func(error) {})}
	creds := Credentials{List: []Credential{{Bearer, "eyJ.eyJ.sig"}}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := j.Resolve(ctx, creds); ReasonOf(err) != Overloaded {
		t.Errorf("without room: %v", err)
	}
	judged := make(chan error)
	go func() {
		_, err := j.Resolve(t.Context(), creds)
		judged <- err
	}()
	select {
	case err := <-judged:
		t.Errorf("before there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	for range cap(work) {
		<-work
	}
	if err := <-judged; ReasonOf(err) != MalformedCredential {
		t.Errorf("with room: %v", err)
	}
	if len(work) > 0 {
		t.Error("somebody has not left")
	}
}
