package resolver

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"authgear-forward-auth/internal/authgeartest"
)

// The memory of a request is used again for the next one: /forget verifies in it.
func TestAGoodHeaderIsNotThatOfTheNextRequest(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	j := &JWT{Issuer: s.Origin(), Audiences: []string{s.Origin()}, Keys: NewKeys(s.Origin(), 5*time.Second, func(error) {})}
	memory := []byte(s.JWT(s.AddUser(authgeartest.User{ID: "ada"})))
	text := unsafe.String(&memory[0], len(memory))
	if _, err := j.Resolve(t.Context(), Credentials{List: []Credential{{Bearer, text}}}); err != nil {
		t.Fatal(err)
	}
	good := strings.Clone(j.last.Load().text)
	clear(memory)
	if text := j.last.Load().text; text != good {
		t.Errorf("it has become %q", text)
	}
}
