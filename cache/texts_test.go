package cache

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

// A lenient Authgear takes every text for ada's token, and notes them.
type lenient struct {
	mu    sync.Mutex
	texts map[string]bool
}

func (l *lenient) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[strings.Clone(c.List[0].Value)] = true
	return &resolver.Session{UserID: "ada"}, nil
}

// However lenient Authgear is, another text of a token is no session of its own, which
// would have to be forgotten apart.
func TestATokenIsOneEntry(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	good := s.JWT(s.AddUser(authgeartest.User{ID: "ada"}))
	keys := resolver.NewKeys(s.Origin(), 5*time.Second, func(err error) { t.Log(err) })
	local := &resolver.JWT{Issuer: s.Origin(), Audiences: []string{s.Origin()}, Keys: keys}
	authgear := &lenient{texts: map[string]bool{}}
	c, err := New(Options{Local: local, Authgear: authgear, Strangers: authgear, MaxStaleness: time.Minute, Wait: 5 * time.Second, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(context.Background(), token(good)); err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	last := good[len(good)-1]
	for _, other := range []string{
		good + "=", good + "==", good + ".", good + " ", good + "\n", good + "\x00", good + "A", good[:len(good)-1], good[:len(good)-1] + string(last+1),
		part[0] + "=." + part[1] + "." + part[2], part[0] + "." + part[1] + "=." + part[2], part[0] + "." + part[1] + "\r\n." + part[2], part[0] + ".." + part[1] + "." + part[2],
		part[0] + "." + part[1] + "." + part[2][:9] + " " + part[2][9:], part[0] + "." + part[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(part[2]) + "+",
		part[0] + "." + part[1] + "." + strings.ReplaceAll(part[2], part[2][:1], "%"+part[2][:1]),
	} {
		for range 2 { // the second time from memory
			if got, err := c.Resolve(context.Background(), token(other)); !errors.Is(err, resolver.ErrInvalid) {
				t.Errorf("%q: Resolve = %+v, %v, want ErrInvalid", other, got, err)
			}
		}
	}
	c.Close() // whatever is asked behind has been asked
	if len(authgear.texts) != 1 || !authgear.texts[good] {
		t.Errorf("asked about %d texts, want the token alone: %v", len(authgear.texts), authgear.texts)
	}
}
