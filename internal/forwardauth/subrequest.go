package forwardauth

import (
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// A subrequest is what is read of one, and what became of it. It is used again, so that
// reading one allocates nothing.
type subrequest struct {
	credentials resolver.Credentials // they share the memory of the request

	verdict policy.Verdict
	session *resolver.Session // of a visitor, if there is none
	err     error
	trace   resolver.Trace
	begin   time.Time

	ctx     *fasthttp.RequestCtx
	trusted Trusted
	list    [4]resolver.Credential
	client  func() resolver.Client // describeClient
}

var visitor = new(resolver.Session)

var subrequests = sync.Pool{New: func() any {
	s := new(subrequest)
	s.client = s.describeClient
	return s
}}

// read reads the credentials of a subrequest. They are good until it is released.
func (g *Gate) read(ctx *fasthttp.RequestCtx) *subrequest {
	s := subrequests.Get().(*subrequest)
	s.ctx, s.trusted = ctx, g.Trusted
	s.begin = began(ctx)
	s.session = visitor
	h := &ctx.Request.Header
	var authorization [2][]byte // of more than one line, none is used
	n := copy(authorization[:], h.PeekAll(fasthttp.HeaderAuthorization))
	s.credentials = g.Reader.Read(s.list[:0], authorization[:n], h.PeekAll(fasthttp.HeaderCookie))
	s.credentials.Asked = s.begin
	s.credentials.Client = s.client
	s.credentials.Trace = &s.trace
	return s
}

// began tells when a request had come. fasthttp has looked at the clock then, but for one
// with Expect, of which it asks what to answer before.
func began(ctx *fasthttp.RequestCtx) time.Time {
	if at, ok := ctx.UserValue(expected{}).(time.Time); ok {
		return at
	}
	return ctx.Time()
}

// expected is the key of the time when a request with Expect had come.
type expected struct{}

func (s *subrequest) release() {
	*s = subrequest{client: s.client}
	subrequests.Put(s)
}

// describeClient is apart, since few subrequests need it.
func (s *subrequest) describeClient() resolver.Client {
	// What stands before Authgear may refuse long ones.
	return resolver.Client{IP: s.trusted.clientIP(s.ctx), UserAgent: cut(alias(s.ctx.Request.Header.UserAgent()))}
}

// alias returns the bytes as a string without copying them.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
