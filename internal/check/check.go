// Package check finds out whether the settings of the service fit the Authgear that
// they name, before anybody relies on them. [Examine] makes a [Report].
package check

import (
	"context"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"time"
)

// Options say what is examined.
type Options struct {
	// Problems are those of the settings. If there are some, nothing else is
	// looked at: nobody knows what the others mean.
	Problems []error
	// Warnings are what else there is to say of the settings.
	Warnings []string

	Endpoint    *url.URL // public origin of the project
	ResolverURL *url.URL
	Local       bool // JWTs are checked here: keys are needed
	Remote      bool // Authgear's resolver is asked

	CookiePrefix   string
	Audiences      []string
	ClientIDs      []string
	ClockSkew      time.Duration
	Timeout        time.Duration // for one question
	WebhookSecrets []string
	RedisURL       string // of the fleet; empty: this replica is alone

	// Certificate is that of the main listener; nil: it speaks no TLS. Unfit is why its
	// peers refuse it; nil: they take it.
	Certificate *x509.Certificate
	Unfit       error

	Listen, Admin Listener

	// Token is a good access token of a user; empty: none is at hand. It is sent
	// to the resolver alone and is shown nowhere.
	Token string
}

// A Listener is where the service is to listen.
type Listener struct {
	Address string // as in the settings
	// Open listens there, and removes nothing. It returns nil where the service would first
	// remove what a dead process has left.
	Open func() (net.Listener, error)
	Dial func() (net.Conn, error)
}

// Most is how long an examination may take.
const Most = 30 * time.Second

// Examine makes all steps, in order. One whose step before failed is skipped.
func Examine(ctx context.Context, o Options) *Report {
	ctx, cancel := context.WithTimeout(ctx, Most)
	defer cancel()
	v := &visit{Options: o, report: &Report{}, failed: map[string]string{}}
	defer v.close()
	v.settings()
	for _, s := range v.steps() {
		v.make(ctx, s)
	}
	return v.report
}

// A visit is one examination under way.
type visit struct {
	Options
	report *Report
	failed map[string]string // :: step → the one that failed before it, or itself

	// What the steps found out for those behind them.
	clock    *sample
	prefix   *string // of Authgear's cookies
	cleared  string  // the Set-Cookie by which the resolver clears a made-up cookie
	answered bool    // the resolver judged made-up credentials
	open     []net.Listener
}

func (v *visit) close() {
	for _, l := range v.open {
		l.Close()
	}
}

// A step is one thing to find out.
type step struct {
	name  string
	needs string // the steps without which it is pointless
	moot  string // why it does not concern these settings; empty: it does
	look  func(context.Context) finding
}

// steps are all but the first, which is of the settings.
func (v *visit) steps() []step {
	endpoint, other := target{"AUTHGEAR_ENDPOINT", v.Endpoint}, target{"AUTHGEAR_RESOLVER_URL", v.ResolverURL}
	noMain, noKeys, noResolver, noOther := v.moot()
	beforeResolver := "resolver_tls"
	if noOther != "" {
		beforeResolver = "discovery"
	}
	return []step{
		{"endpoint_dns", "settings", noMain, endpoint.lookUp},
		{"endpoint_tcp", "endpoint_dns", noMain, endpoint.connect},
		{"endpoint_tls", "endpoint_tcp", first(noMain, endpoint.plain()), endpoint.shakeHands},
		{"discovery", "endpoint_tls", noMain, v.discovery},
		{"keys", "discovery", noKeys, v.keys},
		{"resolver_dns", "settings", noOther, other.lookUp},
		{"resolver_tcp", "resolver_dns", noOther, other.connect},
		{"resolver_tls", "resolver_tcp", first(noOther, other.plain()), other.shakeHands},
		{"resolver", beforeResolver, noResolver, v.resolver},
		{"resolver_scheme", "resolver", noResolver, v.resolverScheme},
		{"cookie_prefix", "settings", "", v.cookiePrefix},
		{"token", "keys resolver_scheme", v.noToken(), v.token},
		{"clock", "settings", "", v.clockSkew},
		{"webhook_secret", "settings", v.noWebhook(), v.webhookSecret},
		{"redis", "settings", v.noRedis(), v.redis},
		{"tls", "settings", v.noTLS(), v.tls},
		{"listen", "settings", "", v.listen},
		{"admin_listen", "settings", "", v.adminListen},
	}
}

// moot says why main, its keys, the resolver, or another address of the resolver are
// no concern of these settings.
func (v *visit) moot() (main, keys, resolver, other string) {
	if len(v.Problems) > 0 {
		return "", "", "", ""
	}
	together := address(v.Endpoint) == address(v.ResolverURL)
	if !v.Local && !together {
		main = "with AUTHGEAR_MODE=resolver only AUTHGEAR_RESOLVER_URL is asked"
	}
	if !v.Local {
		keys = "with AUTHGEAR_MODE=resolver no keys are fetched"
	}
	switch {
	case !v.Remote:
		resolver = "with AUTHGEAR_MODE=jwt the resolver is not asked"
		other = resolver
	case together:
		other = "it is where AUTHGEAR_ENDPOINT is"
	}
	return main, keys, resolver, other
}

// make makes a step, or notes why not.
func (v *visit) make(ctx context.Context, s step) {
	for need := range strings.FieldsSeq(s.needs) {
		if cause := v.failed[need]; cause != "" {
			v.failed[s.name] = cause
		}
	}
	cause := v.failed[s.name]
	switch {
	case cause != "" && (s.moot == "" || cause == "settings"):
		v.add(s.name, skipped("%s failed", cause))
		return
	case s.moot != "":
		v.add(s.name, skipped("%s", s.moot))
		return
	case ctx.Err() != nil:
		v.add(s.name, fail("not made: the time for all steps is over", "does each question to Authgear take long? See AUTHGEAR_RESOLVER_TIMEOUT"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	v.add(s.name, s.look(ctx))
}

func (v *visit) add(name string, f finding) {
	if f.status == Failed {
		v.failed[name] = name
	}
	v.report.Steps = append(v.report.Steps, Step{name, f.status, printable(f.found), printable(f.cure)})
}

// settings reports what reading them found; that comes first.
func (v *visit) settings() {
	for _, p := range v.Problems {
		name, cure := split(p.Error())
		v.add("settings", fail(name, cure))
	}
	for _, w := range v.Warnings {
		name, cure := split(w)
		v.add("settings", warn(name, cure))
	}
	if len(v.Problems) > 0 {
		return
	}
	if v.Endpoint.Scheme == "http" && !isLoopback(v.Endpoint.Hostname()) {
		v.add("settings", warn("AUTHGEAR_ENDPOINT begins with http://: whoever is on the way can put other keys in place of Authgear's",
			"take https:// unless this is for tests alone"))
	}
	if len(v.report.Steps) == 0 {
		v.add("settings", pass("no problem; the project is %s", v.Endpoint))
	}
}
