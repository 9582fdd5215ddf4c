// Package forwardauth answers a proxy's question for each request that it holds
// back: may it pass, and who sent it?
package forwardauth

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/metrics"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// A Dialect is how one proxy asks, and what it makes of the answer.
type Dialect struct {
	Name string

	// Original reads the request that the proxy holds back. It is called
	// only for a subrequest from a trusted proxy.
	Original func(*fasthttp.RequestHeader) Original

	// EmptyBodies says that a body in the answer does harm.
	EmptyBodies bool

	// LocationWith401 says that a 302 is no answer to the proxy, which itself
	// makes one of a 401 that has a Location.
	LocationWith401 bool

	// Reuses says that the proxy may itself reuse a 200 for a while, if the answer
	// says for how long.
	Reuses bool

	// ClientQuery says that the query of a subrequest is the client's. It is no
	// policy then: a signed-in user passes.
	ClientQuery bool
}

// Original is the request that the proxy holds back while it asks. It is told in
// logs. Only where the policy says so is something decided by it: whether a
// preflight passes, as a visitor, and where a browser signs in and goes back to. So
// the proxy must set the fields that tell it, whatever the client sent, as all the
// shipped configurations do. Nobody gets an identity by it.
type Original struct {
	Method, Host string
	Path, Query  string // as the client sent them; a query may hold secrets
}

// A Gate stands between a proxy and the application.
type Gate struct {
	// Resolver returns who tells who is asking, for the routes of a rule. If
	// it returns an error, nobody passes there.
	Resolver func(policy.Rule) (resolver.Resolver, error)

	// Confirmed is like Resolver, but takes nobody's word but Authgear's. Somebody is
	// told by it that they lack something. Nil: by Resolver.
	Confirmed func(policy.Rule) (resolver.Resolver, error)

	Reader  *resolver.Reader
	Trusted Trusted
	Log     zerolog.Logger
	Decided Decisions        // which decisions are logged
	Metrics *metrics.Metrics // nil: nothing is counted

	// ProxyCache is how long a proxy may itself reuse a 200, and MaxStaleness how
	// old the confirmation may become meanwhile. Without the second, nobody
	// confirms; what rests on a signature is good until the token ends.
	ProxyCache, MaxStaleness time.Duration

	routes routes
	denied tally
	recent recent
}

// Handler answers the subrequests of one proxy.
func (g *Gate) Handler(d Dialect) fasthttp.RequestHandler {
	log := g.Log.With().Str("proxy", d.Name).Logger()
	ignored := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	counted := g.Metrics.Proxy(d.Name)
	return func(ctx *fasthttp.RequestCtx) {
		if ip, trusted := g.Trusted.peer(ctx); !trusted && describesClient(&ctx.Request.Header) {
			ignored.Warn().Str("peer", text(ip)).Msg("what this peer says of the client is ignored; if it is your proxy, add its address to AUTHGEAR_TRUSTED_PROXIES")
		}
		sub := g.read(ctx)
		defer sub.release()
		g.decide(sub, d)

		took := time.Since(sub.begin)
		counted.Add(ctx.ConnID(), sub.verdict, sub.trace.Lookup, took)
		if sub.verdict.Outcome == policy.Allow && !sub.session.Confirmed.IsZero() {
			counted.Served(ctx.ConnID(), resolver.Age(sub.session.Confirmed, sub.begin))
		}
		g.note(&log, sub, d, took)
	}
}

// decide finds out who is asking and answers.
func (g *Gate) decide(s *subrequest, d Dialect) {
	ctx := s.ctx
	var query []byte
	if !d.ClientQuery {
		_, query, _ = bytes.Cut(ctx.RequestURI(), question)
	}
	route, err := g.routes.get(query, g.route)
	if err != nil {
		s.verdict, s.err = policy.Verdict{Reason: resolver.BadPolicy}, err
		answer(ctx, d, s.verdict, nil, nil, "", err)
		return
	}
	if route.rule.Preflight && g.isPreflight(ctx, d) {
		s.verdict = policy.Verdict{Outcome: policy.Allow, Reason: resolver.Visitor}
		answer(ctx, d, s.verdict, &route.rule, nil, "", nil)
		return
	}
	session, err := route.resolver.Resolve(context.Background(), s.credentials)
	s.verdict = route.rule.Decide(session, err, s.begin)
	if s.verdict.Outcome == policy.Forbid && mayHaveChanged(s.verdict.Reason) && session.Confirmed.IsZero() && !session.Machine && route.confirmed != nil {
		// So says the token alone: since it was issued the user may have got a role.
		session, err = route.confirmed.Resolve(context.Background(), s.credentials)
		s.verdict = route.rule.Decide(session, err, s.begin)
	}
	s.err = err
	if err == nil {
		s.session = session
	}
	signIn := ""
	if s.verdict.Outcome == policy.Challenge && route.rule.SignIn != "" {
		signIn = g.signInAt(ctx, d, route.rule.SignIn)
	}
	answer(ctx, d, s.verdict, &route.rule, session, signIn, err)
	if g.ProxyCache > 0 && d.Reuses && s.verdict.Reason == resolver.OK && s.verdict.Outcome == policy.Allow {
		g.letReuse(ctx, &route.rule, session, s.begin)
	}
}

// mayHaveChanged tells whether what is missing may be there since the token was issued. Its
// client and its scopes stay what they are, and Authgear does not tell them.
func mayHaveChanged(lack resolver.Reason) bool {
	return lack != resolver.WrongClient && lack != resolver.MissingScope
}

// route returns that of a rule.
func (g *Gate) route(rule policy.Rule) (*route, error) {
	r := &route{rule: rule}
	var err error
	if r.resolver, err = g.Resolver(rule); err == nil && g.Confirmed != nil {
		r.confirmed, err = g.Confirmed(rule)
	}
	return r, err
}

var question = []byte("?")

// Forget answers an application that has just signed somebody out, and sends
// that caller's own credentials: forget is called with them. The answer is the
// same whoever they are of.
func (g *Gate) Forget(forget func(resolver.Credentials)) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
		if !ctx.IsPost() {
			ctx.Response.Header.Set(fasthttp.HeaderAllow, fasthttp.MethodPost)
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
			return
		}
		sub := g.read(ctx)
		defer sub.release()
		if len(sub.credentials.List) > 0 {
			forget(sub.credentials)
		}
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	}
}

// A Body is what is read with the requests to one path, and with no others.
type Body struct {
	Path    string
	Most    int    // bytes
	TooLong func() // is told of one that has more, which is answered 413; nil: nobody is
}

// NewServer returns a server for the main listener; it is for the listener to end
// connections that stand still. It never reads the body of a subrequest: some
// proxies announce one that does not come. The zero Body is none at all.
//
// A request that has a body is the last one on its connection: what comes behind a body,
// wherever that is thought to end, is never taken for somebody's request.
func NewServer(handler fasthttp.RequestHandler, body Body) *fasthttp.Server {
	isRead := func(h *fasthttp.RequestHeader) bool {
		path, _, _ := bytes.Cut(h.RequestURI(), question)
		return body.Most > 0 && string(path) == body.Path
	}
	return &fasthttp.Server{
		Handler: handler,
		HeaderReceived: func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
			if n := h.ContentLength(); n <= 0 && n != chunked {
				return fasthttp.RequestConfig{}
			}
			h.SetConnectionClose()
			if isRead(h) {
				return fasthttp.RequestConfig{MaxRequestBodySize: body.Most}
			}
			dropBody(h)
			return fasthttp.RequestConfig{}
		},
		ExpectHandler: func(ctx *fasthttp.RequestCtx) int {
			if isRead(&ctx.Request.Header) {
				return fasthttp.StatusContinue
			}
			ctx.SetUserValue(expected{}, time.Now())
			handler(ctx) // fasthttp sends its answer, and ends the connection
			return ctx.Response.StatusCode()
		},
		ErrorHandler: func(ctx *fasthttp.RequestCtx, err error) {
			if errors.Is(err, fasthttp.ErrBodyTooLarge) && body.TooLong != nil {
				body.TooLong()
			}
			unreadable(ctx, err)
		},
		Logger:                quiet{}, // its messages quote requests
		SecureErrorLogMessage: true,
		ReadBufferSize:        maxHeader,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,

		// fasthttp reads a form until the form says that it ends, not to the end of the body.
		DisablePreParseMultipartForm: true,
	}
}

// chunked is fasthttp's content length of a body whose length is not told before.
const chunked = -1

// maxHeader is how long the fields of a request may be: 32 KiB, and the request
// line.
const maxHeader = 34 << 10

// dropBody makes the server answer without waiting for a body.
func dropBody(h *fasthttp.RequestHeader) {
	h.Del(fasthttp.HeaderTransferEncoding)
	h.SetContentLength(0)
}

// unreadable answers what is not HTTP, or too long.
func unreadable(ctx *fasthttp.RequestCtx, err error) {
	status := fasthttp.StatusBadRequest
	if _, tooLong := err.(*fasthttp.ErrSmallBuffer); tooLong {
		status = fasthttp.StatusRequestHeaderFieldsTooLarge
	}
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		status = fasthttp.StatusRequestEntityTooLarge
	}
	ctx.Response.Reset()
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetStatusCode(status)
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
