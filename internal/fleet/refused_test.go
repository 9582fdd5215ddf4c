package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/resolver"
)

var revoked = bearer("eyJ.revoked.jwt")

func isRefused(t *testing.T, r *replica) bool {
	_, err := r.Known().Resolve(t.Context(), revoked)
	return errors.Is(err, resolver.ErrInvalid)
}

// A replica that starts may ask about a JWT that the others know is no good, and cannot tell
// yet whether Authgear knows any.
func TestARefusalOutlivesTheQuestionOfAnother(t *testing.T) {
	r := startRedis(t)
	one, two, three := join(t, r), join(t, r), join(t, r)
	one.Refuse(revoked, time.Now().Add(time.Hour))
	eventually(t, "the others know", func() bool { return isRefused(t, three) })
	signed := resolverFunc(func() (*resolver.Session, error) {
		return &resolver.Session{UserID: "ada", IssuedAt: resolver.UnixTime(time.Now().Unix()), Expiry: resolver.UnixTime(time.Now().Unix() + 3600)}, nil
	})
	for _, starts := range []*replica{two, three} {
		c, err := cache.New(cache.Options{
			Local: signed, Authgear: starts.Asking(nobody), Strangers: starts.Asking(nobody), MaxStaleness: 30 * time.Second, Wait: 4 * time.Second, Bytes: 1 << 20,
			Others: &cache.Others{Known: starts.Known(), Refused: starts.Refuse, Left: func(resolver.Key, time.Time) {}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := c.Resolve(t.Context(), revoked); err == nil {
			t.Errorf("it passes, confirmed %v", s.Confirmed)
		}
		c.Close()
		if !isRefused(t, one) {
			t.Error("the fleet has forgotten that it is no good")
		}
	}
}

// A replica that stood still may write what Authgear said before.
func TestALateConfirmationReplacesNoRefusal(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	asked := time.Now()
	two.Refuse(revoked, time.Now().Add(time.Hour))
	eventually(t, "the other one knows", func() bool { return isRefused(t, one) })
	one.Fleet.share(one.secrets.name(revoked.Key()), &resolver.Session{UserID: "ada"}, asked, false)
	if !isRefused(t, two) {
		t.Error("the fleet has forgotten that it is no good")
	}
	time.Sleep(10 * time.Millisecond)
	one.Fleet.share(one.secrets.name(revoked.Key()), &resolver.Session{UserID: "ada"}, time.Now(), false)
	if isRefused(t, two) {
		t.Error("what Authgear says later does not count")
	}
}

// A cut keeps a replica from Redis.
type cut struct {
	mu   sync.Mutex
	off  bool
	open []net.Conn
}

func (c *cut) set(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

func (f *Fleet) through(c *cut) {
	connect := f.options.DialCtxFn
	f.options.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		conn, err := connect(ctx, addr, d, t)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil && c.off {
			conn.Close()
			return nil, errors.New("cut")
		}
		if err == nil {
			c.open = append(c.open, conn)
		}
		return conn, err
	}
}

func TestAReplicaThatWasAwayTakesNothingBeforeItHasReadAll(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), newReplica(t, r)
	network := &cut{}
	two.through(network)
	two.run(t)
	eventually(t, "it takes part", func() bool { return len(two.Troubles()) == 0 })
	ada := bearer("of ada")
	if _, err := one.Asking(&authgear{}).Resolve(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it takes what is shared", func() bool { _, err := two.Known().Resolve(t.Context(), ada); return err == nil })
	network.set(true)
	eventually(t, "it says so", func() bool { return len(two.Troubles()) > 0 })
	one.Tell(Event{User: "ada", At: time.Now(), Ends: true})
	eventually(t, "the event is told", func() bool { return one.counted("publish ok") == 1 })
	network.set(false)
	for end := time.Now().Add(10 * time.Second); len(two.heard()) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := two.Known().Resolve(t.Context(), ada); err == nil && len(two.heard()) == 0 {
			t.Fatalf("it takes what was confirmed before an event that it has not read: %q", two.Troubles())
		}
	}
}

// Whoever may write to Redis may copy what is sealed under the same name.
func TestARefusalIsNoConfirmationAndNoneIsARefusal(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	name := one.secrets.name(revoked.Key())
	one.Refuse(revoked, time.Now().Add(time.Hour))
	eventually(t, "it is shared", func() bool { return isRefused(t, one) })
	r.do(t, "rename", refusedKey(name), valueKey(name))
	if s, err := one.Known().Resolve(t.Context(), revoked); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("a refusal in the place of a confirmation: %+v, %v", s, err)
	}
	one.Fleet.share(name, &resolver.Session{UserID: "ada"}, time.Now(), false)
	r.do(t, "rename", valueKey(name), refusedKey(name))
	if s, err := one.Known().Resolve(t.Context(), revoked); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("a confirmation in the place of a refusal: %+v, %v", s, err)
	}
}

// What Authgear says to a replica that has no lease counts, too.
func TestWhatIsWorthlessIsTakenFromTheFleetWithoutALease(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	eventually(t, "it is shared", func() bool { _, err := two.Known().Resolve(t.Context(), bearer("t")); return err == nil })
	r.do(t, "set", leaseKey(one.secrets.name(bearer("t").Key())), "another replica")
	if _, err := two.Asking(nobody).Resolve(t.Context(), notBefore(bearer("t"), time.Now())); !errors.Is(err, resolver.ErrInvalid) {
		t.Fatal(err)
	}
	if s, err := one.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("it is still shared: %+v, %v", s, err)
	}
}

// Nor does a replica that has not read the events take an answer instead of asking.
func TestAReplicaThatHasNotReadAllAsks(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	eventually(t, "it is shared", func() bool { _, err := two.Known().Resolve(t.Context(), bearer("t")); return err == nil })
	for range 10 {
		two.reads.Store(false)
		s, err := two.Asking(resolverFunc(func() (*resolver.Session, error) { return nil, errors.New("asked") })).Resolve(t.Context(), bearer("t"))
		if !two.reads.Load() { // else it has just read them
			if err == nil {
				t.Errorf("it took %+v", s)
			}
			return
		}
	}
	t.Error("it reads them all the time")
}
