package forwardauth

import (
	"sync"
	"unsafe"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/resolver"
)

// A subrequest is what is read of one. It is used again, so that reading one
// allocates nothing.
type subrequest struct {
	credentials resolver.Credentials // they share the memory of the request

	ctx     *fasthttp.RequestCtx
	trusted Trusted
	list    [4]resolver.Credential
	client  func() resolver.Client // the method of that name
}

var subrequests = sync.Pool{New: func() any {
	s := new(subrequest)
	s.client = s.describeClient
	return s
}}

// read reads the credentials of a subrequest. They are good until it is released.
func (g *Gate) read(ctx *fasthttp.RequestCtx) *subrequest {
	s := subrequests.Get().(*subrequest)
	s.ctx, s.trusted = ctx, g.Trusted
	h := &ctx.Request.Header
	var authorization [2][]byte // of more than one line, none is used
	n := copy(authorization[:], h.PeekAll(fasthttp.HeaderAuthorization))
	s.credentials = g.Reader.Read(s.list[:0], authorization[:n], h.PeekAll(fasthttp.HeaderCookie))
	s.credentials.Asked = ctx.Time() // fasthttp has looked at the clock already
	s.credentials.Client = s.client
	return s
}

func (s *subrequest) release() {
	s.credentials, s.ctx = resolver.Credentials{}, nil
	clear(s.list[:])
	subrequests.Put(s)
}

// describeClient is apart, since few subrequests need it.
func (s *subrequest) describeClient() resolver.Client {
	return resolver.Client{IP: s.trusted.clientIP(s.ctx), UserAgent: alias(s.ctx.Request.Header.UserAgent())}
}

// alias returns the bytes as a string without copying them.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
