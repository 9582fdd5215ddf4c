package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"authgear-forward-auth/resolver"
)

// Ristretto may store what it is given late, or never. Nothing is ever deleted from it: what
// is no good any more is known by its time, or by its mark.

// stuck makes the store of sessions stand still, as if it had no processor, until go on is
// called: what it is given is stored then.
func (w *world) stuck() (goOn func()) {
	w.sessions.Close()
	gate := make(chan struct{})
	var closed atomic.Bool
	wait := func(*ristretto.Item[*entry]) {
		if !closed.Load() {
			<-gate
		}
	}
	const one = 1000 // bytes: room for one entry
	var err error
	w.sessions, err = ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters: 100, MaxCost: one, BufferItems: 64, IgnoreInternalCost: true, OnEvict: wait, OnReject: wait})
	if err != nil {
		w.Fatal(err)
	}
	w.sessions.SetWithTTL(1, &entry{}, one, time.Hour)
	w.sessions.Wait()
	w.sessions.SetWithTTL(2, &entry{}, one, time.Hour) // makes one of the two leave, which takes until the gate opens
	synctest.Wait()
	w.sessions.UpdateMaxCost(1 << 20)
	return func() {
		closed.Store(true)
		close(gate)
		synctest.Wait()
		if find(w.sessions, token("opaque/1").Key()) == nil {
			w.Error("it was not late: the store does not have it even now")
		}
	}
}

func TestALateSetLetsNobodyPass(t *testing.T) {
	forget := func(w *world) { w.Forget(context.Background(), token("opaque/1")) }
	event := func(w *world) { w.ForgetUser("opaque", time.Now(), true, time.Now()) }
	beyond := func(*world) { time.Sleep(bound) }
	for name, told := range map[string]func(*world){"/forget": forget, "an event": event, "the bound": beyond} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				goOn := w.stuck()
				w.expect("opaque/1", "who")
				if find(w.sessions, token("opaque/1").Key()) != nil {
					t.Fatal("it is not late")
				}
				w.set(func() { w.revoked["opaque"] = true })
				told(w)
				time.Sleep(time.Millisecond)
				w.expect("opaque/1", "worthless")
				goOn()
				w.expect("opaque/1", "worthless")
				time.Sleep(worthlessFor)
				w.expect("opaque/1", "worthless")
			})
		})
	}
}

// The signed-out user asks when the late answer has just been stored, and not before.
func TestALateSetThatArrivesAfterTheEndLetsNobodyPass(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		goOn := w.stuck()
		w.expect("opaque/1", "who")
		w.set(func() { w.revoked["opaque"] = true })
		w.Forget(context.Background(), token("opaque/1"))
		time.Sleep(time.Millisecond)
		goOn()
		w.expect("opaque/1", "worthless")
	})
}

func TestADroppedSetLetsNobodyPass(t *testing.T) {
	inWorld(t, hybrid, func(w *world) {
		w.sessions.Close() // takes nothing any more, and has nothing
		for _, who := range []string{"opaque/1", "ada/1"} {
			w.Resolve(context.Background(), token(who))
			synctest.Wait()
			w.set(func() { w.revoked["opaque"], w.revoked["ada"] = true, true })
			w.Forget(context.Background(), token(who))
			for range 3 {
				time.Sleep(time.Millisecond)
				if _, err := w.Resolve(context.Background(), token(who)); !errors.Is(err, resolver.ErrInvalid) {
					t.Errorf("%s: %v, want that it is worthless", who, err)
				}
			}
			w.set(func() { clear(w.revoked) })
		}
	})
}
