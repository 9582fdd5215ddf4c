package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
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
	From string
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
	case f.outbox <- event{f.self, e}:
	default:
		f.o.Count(Publish, Lost)
		f.o.Warn(errors.New("more events than Redis takes: the other replicas learn of some from Authgear alone, within the bound"))
	}
}

// publish tells the other replicas, one event after another, until ctx ends.
func (f *Fleet) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-f.outbox:
			f.untilTold(ctx, e, time.Now().Add(f.o.Lifetime))
		}
	}
}

// untilTold tries until the event has no meaning any more for what is remembered.
func (f *Fleet) untilTold(ctx context.Context, e event, end time.Time) {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	sealed := f.secrets.seal(f.stream, text)
	for ctx.Err() == nil {
		oldest := strconv.FormatInt(time.Now().Add(-f.o.Reach).UnixMilli(), 10)
		_, err := f.do(ctx, time.Second, func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{b.Xadd().Key(f.stream).Minid().Almost().Threshold(oldest).Id("*").FieldValue().FieldValue("e", sealed).Build()}
		})
		if err == nil {
			f.o.Count(Publish, OK)
			return
		}
		f.o.Count(Publish, Error)
		if time.Now().After(end) {
			f.o.Count(Publish, Lost)
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow reads the stream: first what was missed, then what comes. After a failure it
// begins some time before the last event, since Redis may have come back without it, or
// with another clock; to be told twice does no harm.
func (f *Fleet) follow(ctx context.Context, receive func(Event)) {
	const again = 10 * time.Second
	from := time.Now().Add(-f.o.Reach)
	for ctx.Err() == nil {
		if f.client.Load() == nil {
			pause(ctx, 10*time.Millisecond)
			continue
		}
		last, err := f.read(ctx, from, receive)
		if err != nil && ctx.Err() == nil {
			f.o.Count(Receive, Error)
			pause(ctx, 100*time.Millisecond)
		}
		if !last.IsZero() {
			from = later(from, last.Add(-again))
		}
	}
}

// read reads the stream until something fails. It returns when all was known.
func (f *Fleet) read(ctx context.Context, from time.Time, receive func(Event)) (known time.Time, err error) {
	const atOnce = 1000
	next := strconv.FormatInt(max(from.UnixMilli(), 0), 10)
	client := f.client.Load()
	for {
		began := time.Now()
		wait, cancel := context.WithTimeout(ctx, 3*time.Second)
		streams, err := (*client).Do(wait, (*client).B().Xread().Count(atOnce).Block(time.Second.Milliseconds()).Streams().Key(f.stream).Id(next).Build()).AsXRead()
		cancel()
		if err != nil && !rueidis.IsRedisNil(err) {
			return known, err
		}
		for _, entry := range streams[f.stream] {
			next = entry.ID
			f.receive(entry, receive)
		}
		if len(streams[f.stream]) < atOnce {
			known = began
			f.caughtUp.Store(true)
			f.noteRead()
		}
	}
}

func (f *Fleet) receive(entry rueidis.XRangeEntry, receive func(Event)) {
	text, err := f.secrets.open(f.stream, entry.FieldValues["e"])
	var e event
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		f.o.Count(Receive, Error)
		f.o.Warn(errors.New("an event that no replica with this AUTHGEAR_FLEET_SECRET has sent"))
		return
	}
	if e.From == f.self {
		return
	}
	e.Told = f.told(entry.ID)
	f.o.Count(Receive, OK)
	receive(e.Event)
}

// told returns when an entry was made, by the clock of this process: a little later rather
// than earlier.
func (f *Fleet) told(id string) time.Time {
	now := time.Now()
	millis, _, _ := strings.Cut(id, "-")
	made, err := strconv.ParseInt(millis, 10, 64)
	redis, unknown := f.clock.now(f.o.Skew)
	if err != nil || unknown != nil {
		return now
	}
	ago := redis.Sub(time.UnixMilli(made)) - maxDifference
	return now.Add(-max(ago, 0))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
