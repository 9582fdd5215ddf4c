package cache

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// everybody has a session of its own.
type everybody struct{}

func (everybody) Resolve(_ context.Context, c resolver.Credentials) (*resolver.Session, error) {
	return &resolver.Session{UserID: strings.Clone(c.List[0].Value)}, nil
}

// BenchmarkHit looks up remembered credentials, as long as an opaque token and a JWT
// are.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{32, 900} {
		for _, n := range []int{1, 10_000} {
			b.Run(fmt.Sprintf("bytes=%d/sessions=%d", size, n), func(b *testing.B) { benchmarkHit(b, size, n) })
		}
	}
}

func benchmarkHit(b *testing.B, size, n int) {
	c, err := New(Options{Authgear: everybody{}, Strangers: everybody{}, MaxStaleness: time.Hour, Wait: time.Second, Bytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	all := make([]resolver.Credentials, n)
	for i := range all {
		all[i] = token(fmt.Sprintf("%0*d", size, i))
		if _, err := c.Resolve(b.Context(), all[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := c.Resolve(context.Background(), all[i]); err != nil {
			b.Fatal(err)
		}
		i = (i + 7919) % n
	}
}
