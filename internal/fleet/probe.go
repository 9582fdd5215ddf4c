package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// What a Redis must be for a fleet: it answers within the budget, and the clocks of two
// replicas differ by no more than the difference.
const (
	Budget     = budget
	Difference = maxDifference
)

// A Sight is what a Redis turned out to be.
type Sight struct {
	Version   string        // empty: it does not tell
	Eviction  string        // its maxmemory-policy; empty: it does not tell
	Ahead     time.Duration // its clock, of this machine's
	RoundTrip time.Duration // the median of some
}

// Probe connects to a Redis, and does what a fleet does there, with names that nobody
// uses. It leaves nothing behind.
func Probe(ctx context.Context, url string) (Sight, error) {
	f, err := New(Options{URL: url})
	if err != nil {
		return Sight{}, fmt.Errorf("AUTHGEAR_REDIS_URL: %w", err)
	}
	client, err := f.connect(ctx)
	if err != nil {
		return Sight{}, fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	if err := try(ctx, client); err != nil {
		return Sight{}, err
	}
	var s Sight
	if s.Ahead, s.RoundTrip, err = measure(ctx, client); err != nil {
		return Sight{}, err
	}
	info, _ := client.Do(ctx, client.B().Info().Build()).ToString() // the user may be forbidden to ask
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "redis_version":
			s.Version = value
		case "maxmemory_policy":
			s.Eviction = value
		}
	}
	return s, nil
}

// connect is rueidis.NewClient, which knows no context.
func (f *Fleet) connect(ctx context.Context) (rueidis.Client, error) {
	type made struct {
		rueidis.Client
		error
	}
	done := make(chan made, 1)
	go func() {
		client, err := rueidis.NewClient(f.options)
		done <- made{client, err}
	}()
	select {
	case m := <-done:
		return m.Client, m.error
	case <-ctx.Done():
		go func() {
			if m := <-done; m.error == nil {
				m.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// try puts each command that a fleet puts.
func try(ctx context.Context, client rueidis.Client) error {
	name := rand.Text()[:24]
	value, lease, stream := valueKey(name), leaseKey(name), "afa:"+name
	b := client.B()
	defer func() {
		for _, key := range []string{value, lease, stream} {
			client.Do(ctx, b.Del().Key(key).Build())
		}
	}()
	for _, c := range []struct {
		what    string
		command rueidis.Completed
	}{
		{"GETRANGE", b.Getrange().Key(value).Start(0).End(1).Build()},
		{"SET", b.Set().Key(value).Value("x").PxMilliseconds(10_000).Build()},
		{"SET with NX", b.Set().Key(lease).Value("x").Nx().PxMilliseconds(10_000).Build()},
		{"DEL", b.Del().Key(lease).Build()},
		{"XADD with MINID", b.Xadd().Key(stream).Minid().Almost().Threshold("0").Id("*").FieldValue().FieldValue("e", "x").Build()},
		{"XREAD", b.Xread().Count(1).Block(1).Streams().Key(stream).Id("0").Build()},
	} {
		if err := client.Do(ctx, c.command).Error(); err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// measure asks for the time as often as tells what is usual. The fastest answer tells the
// most of the clock.
func measure(ctx context.Context, client rueidis.Client) (ahead, roundTrip time.Duration, err error) {
	var took []time.Duration
	for range 5 {
		begin := time.Now()
		parts, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
		if err == nil && len(parts) != 2 {
			err = errors.New("its answer is none")
		}
		if err != nil {
			return 0, 0, fmt.Errorf("TIME: %w", err)
		}
		end := time.Now()
		if it := end.Sub(begin); len(took) == 0 || it < slices.Min(took) {
			ahead = time.Unix(parts[0], parts[1]*1000).Sub(begin.Add(it / 2).Round(0))
		}
		took = append(took, end.Sub(begin))
	}
	slices.Sort(took)
	return ahead, took[len(took)/2], nil
}
