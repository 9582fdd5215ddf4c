//go:build !race

// Looking for races, sync.Pool forgets at random.

package cache

import (
	"context"
	"testing"
	"time"
)

func TestAHitAllocatesNothing(t *testing.T) {
	a := &authority{answer: user("ada")}
	c, err := New(Options{Authgear: a, Strangers: a, MaxStaleness: time.Minute, Wait: time.Second, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(c, "t")
	creds := token("t")
	if n := testing.AllocsPerRun(100, func() { c.Resolve(context.Background(), creds) }); n != 0 {
		t.Errorf("%v allocations on a hit, want 0", n)
	}
}
