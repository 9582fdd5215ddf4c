package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// A follower reads the events of the others.
type follower struct {
	*Fleet
	receive func(Event)

	last  int64                // when the last event was made, by the clock of Redis, in Unix milliseconds
	known map[string]time.Time // events by what none has twice :: until when they matter
	tidy  time.Time            // when old ones are looked for next
}

const (
	readAtOnce = 1000
	waitFor    = time.Second // events, in one go
	again      = time.Minute // so often it is read once more
	overlap    = 10 * time.Second
)

// follow reads the stream until ctx ends: first what was missed, then what comes. After a
// failure, and now and then, it begins some time before the last event: Redis may have come
// back without it, or with another clock.
func (f *follower) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if f.clock.seen.Load() == nil {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		begin := f.clock.earliest().Add(-f.o.Reach - f.o.Skew).UnixMilli()
		begin = max(begin, f.last-(overlap+f.o.Skew).Milliseconds(), 0)
		if err := f.read(ctx, strconv.FormatInt(begin, 10)); err != nil && ctx.Err() == nil {
			f.reads.Store(false)
			f.o.Count(Receive, Error)
			pause(ctx, 100*time.Millisecond)
		}
	}
}

// read reads the stream from there for a while, unless something fails.
func (f *follower) read(ctx context.Context, next string) error {
	client := f.client.Load()
	for end, caughtUp := time.Now().Add(again), false; time.Now().Before(end); {
		command := (*client).B().Xread().Count(readAtOnce).Streams().Key(f.stream).Id(next).Build()
		if caughtUp {
			command = (*client).B().Xread().Count(readAtOnce).Block(waitFor.Milliseconds()).Streams().Key(f.stream).Id(next).Build()
		}
		wait, cancel := context.WithTimeout(ctx, waitFor+time.Second)
		streams, err := (*client).Do(wait, command).AsXRead()
		cancel()
		if err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
		for _, entry := range streams[f.stream] {
			next = entry.ID
			f.take(entry)
		}
		if caughtUp = len(streams[f.stream]) < readAtOnce; caughtUp {
			f.reads.Store(true)
			f.noteRead()
			f.caughtUp()
		}
	}
	return nil
}

// take receives an event, if it is one of another replica. Each is received once, even if
// somebody copied it.
func (f *follower) take(entry rueidis.XRangeEntry) {
	sealed := entry.FieldValues["e"]
	text, err := f.secrets.open(f.stream, sealed)
	var e event
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		f.o.Count(Receive, Error)
		f.o.Warn(errors.New("an event that no replica with this AUTHGEAR_FLEET_SECRET has sent"))
		return
	}
	now := time.Now()
	made := madeAt(entry.ID)
	f.last = max(f.last, min(made, now.Add(f.o.Skew).UnixMilli()))
	if _, known := f.known[sealed[:saltBytes]]; known || e.From == f.self {
		return
	}
	f.known[strings.Clone(sealed[:saltBytes])] = now.Add(f.o.Reach + 2*f.o.Skew)
	if now.After(f.tidy) {
		f.tidy = now.Add(time.Minute)
		maps.DeleteFunc(f.known, func(_ string, until time.Time) bool { return now.After(until) })
	}
	e.Told = f.told(now, time.UnixMilli(made), time.Unix(0, e.Clock))
	f.receive(e.Event)
	f.o.Count(Receive, OK)
}

// madeAt returns when an entry was made, by the clock of Redis, in Unix milliseconds.
func madeAt(id string) int64 {
	millis, _, _ := strings.Cut(id, "-")
	made, _ := strconv.ParseInt(millis, 10, 64)
	return made
}

// told returns when a replica was told of what it put into the stream then, by the clock of
// this process: a little later rather than earlier. Where the clock of Redis says otherwise
// than that of the replica, one of them was wrong, and the later time counts.
func (f *follower) told(now, made, told time.Time) time.Time {
	redis, _, err := f.clock.now(f.o.Skew)
	if err != nil {
		return now
	}
	ago := min(redis.Sub(made), now.Round(0).Sub(told)) - maxDifference
	return now.Add(-max(ago, 0))
}
