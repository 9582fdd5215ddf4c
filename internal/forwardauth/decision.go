package forwardauth

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"authgear-forward-auth/resolver"
)

// A Decision is what the operator is told of one. It never holds a credential, and
// nothing of the query of a request.
type Decision struct {
	At         time.Time     `json:"at"`
	Proxy      string        `json:"proxy"`
	Verdict    string        `json:"verdict"`
	Reason     string        `json:"reason"`
	Method     string        `json:"method,omitempty"` // of the original request
	Host       string        `json:"host,omitempty"`
	Path       string        `json:"path,omitempty"`
	Peer       string        `json:"untrusted_peer,omitempty"` // is it missing in AUTHGEAR_TRUSTED_PROXIES?
	Kinds      string        `json:"kinds,omitempty"`          // of the credentials, in the order in which they are tried
	Credential string        `json:"credential,omitempty"`     // a short name for them
	User       string        `json:"user,omitempty"`
	Cache      string        `json:"cache,omitempty"`                    // what was remembered
	Age        float64       `json:"confirmation_age_seconds,omitempty"` // of Authgear's confirmation; 0 if there is none
	Took       time.Duration `json:"-"`
	Error      string        `json:"error,omitempty"`
}

// describe makes of a subrequest what may be told of it.
func (g *Gate) describe(s *subrequest, d Dialect, took time.Duration) *Decision {
	it := &Decision{
		At: s.begin, Proxy: d.Name, Verdict: s.verdict.Outcome.String(), Reason: string(s.verdict.Reason),
		User: s.session.UserID, Cache: s.trace.Lookup.String(), Took: took,
	}
	if _, trusted := g.Trusted.peer(s.ctx); trusted {
		o := d.Original(&s.ctx.Request.Header)
		path, _, _ := strings.Cut(o.Path, "#")
		it.Method, it.Host, it.Path = cut(o.Method), cut(o.Host[strings.LastIndex(o.Host, "@")+1:]), cut(path)
	} else {
		it.Peer = s.ctx.RemoteAddr().String()
	}
	if len(s.credentials.List) > 0 {
		it.Kinds, it.Credential = kinds(s.credentials.List), pseudonym(s.credentials.Key())
	}
	if !s.session.Confirmed.IsZero() {
		it.Age = max(resolver.Age(s.session.Confirmed, s.begin), 0).Round(time.Millisecond).Seconds()
	}
	if s.err != nil {
		it.Error = s.err.Error()
	}
	return it
}

// cut keeps a stranger from filling the log by a few requests, or a question to Authgear.
func cut(text string) string {
	const most = 1024
	return text[:min(len(text), most)]
}

func kinds(list []resolver.Credential) string {
	var all []string
	for _, one := range list {
		all = append(all, one.Kind())
	}
	return strings.Join(all, " ")
}

// MarshalZerologObject makes the fields of a log event of it; the event's own time
// and proxy are there already.
func (d *Decision) MarshalZerologObject(e *zerolog.Event) {
	for _, field := range []struct{ name, value string }{
		{"verdict", d.Verdict}, {"reason", d.Reason}, {"method", d.Method}, {"host", d.Host}, {"path", d.Path}, {"untrusted_peer", d.Peer},
		{"kinds", d.Kinds}, {"credential", d.Credential}, {"user", d.User}, {"cache", d.Cache},
	} {
		if field.value != "" {
			e.Str(field.name, field.value)
		}
	}
	if d.Age > 0 {
		e.Float64("confirmation_age_seconds", d.Age)
	}
	e.Dur("duration", d.Took)
	if d.Error != "" {
		e.Str("error", d.Error)
	}
}

// recent are the last denials and failures. In a flood, it is the first ones of each
// second.
type recent struct {
	mu   sync.Mutex
	list []*Decision
}

const mostRecent = 50

func (r *recent) add(d *Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == mostRecent {
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, d)
}

// Recent returns the last 50 denials and failures, the latest first.
func (g *Gate) Recent() []*Decision {
	g.recent.mu.Lock()
	defer g.recent.mu.Unlock()
	list := slices.Clone(g.recent.list)
	slices.Reverse(list)
	return list
}
