// Package doctor finds the holes of a proxy in front of an application: it sends
// requests through the proxy, stands behind it in the application's place as an
// [Echo], and looks at what arrives. [Examine] makes a [Report].
package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options say what is examined.
type Options struct {
	// URL is a protected route of the proxy which leads to the echo. Requests are
	// sent to its host alone.
	URL *url.URL
	// Token is a good access token; without it, many checks cannot be made. It
	// is sent to URL and shown nowhere.
	Token string
	// CookiePrefix is the project's http.cookie_prefix.
	CookiePrefix string
	// Optional says that visitors may pass on this route.
	Optional bool
	// Proxy is nginx, traefik, caddy, haproxy or envoy; empty: what its answers say.
	Proxy string
	// TLS is for https; nil takes the defaults.
	TLS *tls.Config
}

const (
	patience = 10 * time.Second // for one request
	most     = 5 * time.Minute  // for all
)

// Examine makes all checks and reports what they found. It fails if the route does
// not lead to the echo; the error then says how to set it up. It fails, too, if the
// checks would show little, since the token does not pass, or nothing, since the proxy
// answers otherwise at the end.
func Examine(ctx context.Context, echo *Echo, o Options) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	v := &visit{Options: o, ctx: ctx, echo: echo, report: &Report{Proxy: o.Proxy, NotMade: []string{}}}
	if err := v.probe(); err != nil {
		return nil, err
	}
	if !v.visitorPasses && !v.tokenPasses {
		v.find(nothingArrives, "a visitor's request is denied, and no other was made")
	}
	for _, c := range checks {
		v.check = c.name
		if reason := c.notMade(v); reason != "" {
			v.report.NotMade = append(v.report.NotMade, c.name+": "+reason)
			continue
		}
		v.report.Made = append(v.report.Made, c.name)
		c.look(v)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := v.steady(); err != nil {
		return nil, err
	}
	return v.report, nil
}

// A visit is one examination under way.
type visit struct {
	Options
	ctx    context.Context
	echo   *Echo
	report *Report
	check  string // the one that is being made

	limited       bool   // the proxy has answered 429
	visitorPasses bool   // a request without a credential reaches the application
	tokenPasses   bool   // a request with the token does
	user          string // whose the token is, as the application learns
}

// probe finds out who passes, and whether the route leads to the echo.
func (v *visit) probe() error {
	visitor := v.send(request{})
	v.visitorPasses = len(visitor.arrived) > 0
	last := visitor
	if v.Token != "" {
		last = v.send(request{fields: v.good()})
		v.tokenPasses = len(last.arrived) > 0
		v.user = last.userID()
	}
	switch {
	case v.Token == "" && v.visitorPasses, v.tokenPasses && !(v.Optional && last.isOfVisitor()):
		return nil
	case last.err != nil:
		return fmt.Errorf("ask %s: %w", v.URL.Redacted(), last.err)
	case v.Token != "" && (v.visitorPasses || denies(visitor.status) && refuses(last.status)):
		return errors.New(tokenRefused(last))
	case !denies(visitor.status) || !denies(last.status):
		return errors.New(v.howToSetUp(last.status))
	}
	return nil
}

// tokenRefused tells why a token that was to be good may have been refused.
func tokenRefused(a answer) string {
	why := "it has expired, it is of another project, or its audience or client is not accepted"
	switch {
	case a.status == http.StatusForbidden:
		why = "its user lacks what the route asks for, such as a role= or verified"
	case a.status >= 500:
		why = "the service is not reached, or cannot ask Authgear; or nothing listens where the route leads"
	}
	how := fmt.Sprintf("the answer is %d %s", a.status, http.StatusText(a.status))
	if len(a.arrived) > 0 {
		how = "it arrives with X-Authgear-Session-Valid: false, as a visitor's"
	}
	return fmt.Sprintf("the request with the access token of -token does not pass: %s. Most likely %s.\n"+
		"authgear-forward-auth explain tells why; examine again with a token that passes.", how, why)
}

// steady fails if who passes is not what it was: then a request that did not
// arrive has shown nothing.
func (v *visit) steady() error {
	visitor, good := v.send(request{}), request{fields: v.good()}
	switch {
	case v.limited:
		return errors.New("the proxy limits how many requests may come (429): lift that for the examination")
	case v.visitorPasses != (len(visitor.arrived) > 0):
		return fmt.Errorf("a visitor's request fares otherwise than at the beginning: the answer is %d now; examine again", visitor.status)
	case v.tokenPasses && !v.isUser(v.send(good)):
		return errors.New("the access token is good no more: examine again with a new one")
	}
	return nil
}

// denies tells whether a status may be a proxy's no: a 302 leads to a sign-in.
func denies(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status/100 == 3
}

// refuses tells whether a status may be the answer to a token that is no good. A proxy
// makes 500 or 503 of a service that could not find out.
func refuses(status int) bool {
	return denies(status) || status == http.StatusInternalServerError || status == http.StatusServiceUnavailable
}

// good returns the fields that carry the token. Strange cookies go along, new each
// time: if the proxy keeps verdicts, the token's is filed where nobody else looks.
func (v *visit) good() []string {
	return append([]string{"Authorization", "Bearer " + v.Token}, v.cookies(random())...)
}

// cookies returns the field with Authgear's cookies; the last holds a token.
func (v *visit) cookies(token string) []string {
	strange := random()
	return []string{"Cookie", fmt.Sprintf("%[1]ssession=%[2]s; %[1]sapp_session=%[2]s; %[1]sapp_access_token=%[3]s", v.CookiePrefix, strange, token)}
}

// A sender is somebody whose requests reach the application.
type sender struct {
	name   string
	fields []string
}

func (v *visit) senders() (list []sender) {
	if v.visitorPasses {
		list = append(list, sender{"without a credential", nil})
	}
	if v.tokenPasses {
		list = append(list, sender{"with a good token", v.good()})
	}
	return list
}

// gained returns what a request that may not have the user's rights has got,
// in words, or "". Where visitors may pass that is a user, elsewhere the arrival.
func (v *visit) gained(a answer) string {
	if id := a.userID(); id != "" {
		return fmt.Sprintf("it arrived as user %q", id)
	}
	if len(a.arrived) > 0 && !v.Optional && !v.visitorPasses {
		return "it arrived"
	}
	return ""
}

// tellsApart says that the token's user is served otherwise than a visitor, so that
// it shows where one is taken for the other.
func (v *visit) tellsApart() bool { return v.user != "" || v.tokenPasses && !v.visitorPasses }

// isUser tells whether a request arrived as the token's user.
func (v *visit) isUser(a answer) bool { return len(a.arrived) > 0 && a.userID() == v.user }

// find notes what shows a problem.
func (v *visit) find(p *problem, format string, args ...any) {
	list := &v.report.Findings
	if p.remark {
		list = &v.report.Remarks
	}
	evidence := fmt.Sprintf(format, args...)
	i := slices.IndexFunc(*list, func(f Finding) bool { return f.Title == p.title })
	if i < 0 {
		*list = append(*list, Finding{Check: v.check, Title: p.title, Why: p.why, cure: p.cure})
		i = len(*list) - 1
	}
	if f := &(*list)[i]; !slices.Contains(f.Arrived, evidence) {
		f.Arrived = append(f.Arrived, evidence)
	}
}

// recognize learns from an answer which proxy it is of.
func (r *Report) recognize(h http.Header) {
	if r.Proxy != "" {
		return
	}
	said := strings.ToLower(h.Get("Server") + " " + h.Get("Via"))
	for _, p := range []struct{ sign, proxy string }{
		{"nginx", "nginx"}, {"openresty", "nginx"}, {"angie", "nginx"}, {"caddy", "caddy"}, {"envoy", "envoy"},
	} {
		if strings.Contains(said, p.sign) {
			r.Proxy = p.proxy
			return
		}
	}
}
