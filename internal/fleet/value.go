package fleet

import (
	"encoding/json"
	"errors"
	"time"

	"authgear-forward-auth/resolver"
)

// A value is what the fleet knows of a credential: what Authgear said of it, and when it
// was asked.
type value struct {
	Refused bool  `json:",omitempty"` // a JWT that Authgear says is no good
	Wall    int64 // when Authgear was asked: by the clock of the replica, in Unix nanoseconds,
	Redis   int64 // and by that of Redis, or a little earlier
	Session *resolver.Session
}

var errClocks = errors.New("the clocks of the replicas and of Redis disagree: are they synchronized (NTP)?")

// asked returns when Authgear was asked, by the clock of this process: by both clocks at
// least so long ago. If they disagree, one of them is wrong, and nothing can be said.
// redisNow is the latest that it may be by the clock of Redis.
func (v *value) asked(now, redisNow time.Time) (time.Time, error) {
	wall := now.Round(0).Sub(time.Unix(0, v.Wall))
	redis := redisNow.Sub(time.Unix(0, v.Redis))
	if (wall-redis).Abs() > maxDifference || max(wall, redis) < -maxDifference {
		return time.Time{}, errClocks
	}
	return now.Add(-max(wall, redis, 0)), nil
}

// maxDifference is how far two clocks may disagree about the age of a value; the older
// age counts.
const maxDifference = time.Second

// maxValue is the longest value, sealed. Authgear's answer may have 32 KiB.
const maxValue = 64 << 10

func (v *value) encode() []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	return text
}

func decode(text []byte) (*value, error) {
	v := new(value)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, err
	}
	if v.Session == nil && !v.Refused {
		return nil, errors.New("neither a session nor a refusal")
	}
	return v, nil
}
