package webhook

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// A delivery is what is read from a body.
type delivery struct {
	id     string // empty if there is none
	kind   string // as it is counted
	events []Event
}

// The kinds that are not the name of one type.
const (
	identity = "identity.*" // Authgear sends some that it does not list, so the family is known by its name
	other    = "other"
)

type meaning int

const (
	unknown meaning = iota
	nothing         // sessions begin: none that is remembered is any different
	changes         // what is known of the user is another
	ends            // Authgear ends every session of the user
)

// meaningOf tells what a type of event means, and as what it is counted.
// Contract §6.
func meaningOf(event string) (kind string, m meaning) {
	switch event {
	case "user.disabled", "user.deleted", "user.deletion_scheduled",
		"user.anonymization_scheduled", "user.anonymized":
		return event, ends
	case "user.reenabled", "user.deletion_unscheduled", "user.anonymization_unscheduled",
		"user.profile.updated", "user.anonymous.promoted",
		"user.reauthenticated": // auth_time of a session that is remembered
		return event, changes
	case "user.created", "user.authenticated":
		return event, nothing
	}
	if strings.HasPrefix(event, "identity.") {
		return identity, changes
	}
	return other, unknown
}

// content is what a known event says. Two fields are read by hand, since a slip
// in them must not lose the event.
type content struct {
	Payload struct {
		User          user
		AnonymousUser user `json:"anonymous_user"` // of user.anonymous.promoted
		DisabledFrom  any  `json:"temporarily_disabled_from"`
	}
	Context struct {
		Timestamp json.RawMessage
		UserID    string `json:"user_id"`
	}
}

type user struct {
	ID           string
	IsDisabled   bool `json:"is_disabled"`
	DisabledFrom any  `json:"temporarily_disabled_from"`
}

// read reads the body of a delivery that came at now. ok is false if it is no
// event, or one that lacks a user. Of unknown types only the id and the type are
// looked at.
func read(body []byte, now time.Time) (d delivery, ok bool) {
	var head struct{ ID, Type string }
	if err := json.Unmarshal(body, &head); err != nil || head.Type == "" {
		return delivery{kind: other}, false
	}
	kind, means := meaningOf(head.Type)
	d = delivery{id: head.ID, kind: kind}
	if means == unknown {
		return d, true
	}
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return d, false
	}
	users := c.users()
	if len(users) == 0 {
		return d, false
	}
	at := c.at(now)
	if means == nothing || kind == "user.disabled" && c.notYet(at, now) {
		return d, true
	}
	for _, u := range users {
		d.events = append(d.events, Event{User: u, At: at, Ends: means == ends})
	}
	return d, true
}

// users are all whom the event is about. An anonymous user may be promoted to
// another, who existed before; else both are the same.
func (c *content) users() (list []string) {
	u, anonymous := c.Payload.User.ID, c.Payload.AnonymousUser.ID
	if u == "" {
		u = c.Context.UserID
	}
	if u != "" {
		list = append(list, u)
	}
	if anonymous != "" && anonymous != u {
		list = append(list, anonymous)
	}
	return list
}

// maxAhead is how far Authgear's clock may be ahead of ours.
const maxAhead = 5 * time.Minute

// at is the time of the event. A time that nobody can have meant is replaced by
// ours: too late a time would refuse fresh answers until then, and too early a
// one would forget nothing.
func (c *content) at(now time.Time) time.Time {
	seconds, err := strconv.ParseInt(string(c.Context.Timestamp), 10, 64)
	if err != nil || seconds <= 0 || seconds > now.Add(maxAhead).Unix() {
		return now
	}
	return time.Unix(seconds, 0)
}

// notYet tells whether the user is disabled for a window that has yet to begin:
// Authgear sends the event when the window is set, and ends the sessions only of
// a user who is disabled already. In doubt the user is disabled now. The window
// stands in the payload (Authgear pkg/api/event/nonblocking/user_disabled.go), or
// in the user (docs/specs/user-model.md). Contract §6.
func (c *content) notYet(at, now time.Time) bool {
	later := func(from any) bool {
		text, _ := from.(string)
		begin, err := time.Parse(time.RFC3339, text)
		return err == nil && begin.After(at) && begin.After(now)
	}
	return !c.Payload.User.IsDisabled && (later(c.Payload.DisabledFrom) || later(c.Payload.User.DisabledFrom))
}
