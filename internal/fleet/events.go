package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"authgear-forward-auth/resolver"
)

// An Event tells each replica of somebody who left: a user, or who has one credential.
type Event struct {
	User string    `json:",omitempty"`
	At   time.Time `json:",omitzero"`  // of the user's event, by Authgear's clock
	Ends bool      `json:",omitempty"` // the user's sessions have ended

	Key   resolver.Key `json:",omitzero"` // of the credential
	Until time.Time    `json:",omitzero"` // its end

	// Told is when the first replica was told, by the clock of this process, or a
	// little later. What was vouched for until then does not count any more.
	Told time.Time `json:"-"`
}

// event is how an Event stands in the stream.
type event struct {
	From  string
	Clock int64 // of the first replica when it was told, in Unix nanoseconds
	Event
}

// names returns the name of the stream, which only this fleet knows, and that of the
// replica.
func (f *Fleet) names() (stream, self string) {
	return "afa:" + base64.RawURLEncoding.EncodeToString(hmacOf(f.secrets.names, []byte("events"))[:18]), rand.Text()
}

// Tell tells the other replicas of an event. It does not wait for them; while Redis is away
// the event waits.
func (f *Fleet) Tell(e Event) {
	select {
	case f.outbox <- event{f.self, time.Now().UnixNano(), e}:
	default:
		f.o.Count(Publish, Lost)
		f.o.Warn(errors.New("more events than Redis takes: the other replicas learn of some from Authgear alone, within the bound"))
	}
}

// publish tells the other replicas, until ctx ends. What waits then is tried once more. It
// does not go by the breaker: that requests do not wait for Redis is no reason that this
// should not.
func (f *Fleet) publish(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case e := <-f.outbox:
			entries := f.waiting(f.seal(e))
			for !f.add(ctx, entries) && ctx.Err() == nil {
				pause(ctx, 100*time.Millisecond)
			}
			if ctx.Err() != nil {
				f.add(context.Background(), entries)
			}
		}
	}
	for rest := f.waiting(); len(rest) > 0 && f.add(context.Background(), rest); {
		rest = f.waiting()
	}
}

// waiting returns the events that wait to be told, behind those, but not very many.
func (f *Fleet) waiting(entries ...string) []string {
	for len(entries) < 100 {
		select {
		case e := <-f.outbox:
			entries = append(entries, f.seal(e))
		default:
			return entries
		}
	}
	return entries
}

func (f *Fleet) seal(e event) string {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	return f.secrets.seal(f.stream, text)
}

// add adds events to the stream, and takes those from it that do not matter any more. One
// may be added twice, which does no harm.
func (f *Fleet) add(ctx context.Context, entries []string) (added bool) {
	oldest := strconv.FormatInt(f.clock.earliest().Add(-f.o.Reach-f.o.Skew).UnixMilli(), 10)
	_, err := f.send(ctx, time.Second, func(b rueidis.Builder) (all rueidis.Commands) {
		for _, sealed := range entries {
			all = append(all, b.Xadd().Key(f.stream).Minid().Almost().Threshold(oldest).Id("*").FieldValue().FieldValue("e", sealed).Build())
		}
		return all
	})
	if ctx.Err() == nil {
		f.refusal.events.note(err)
	}
	for range entries {
		f.count(Publish, err)
	}
	return err == nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
