package forwardauth

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/valyala/fasthttp"
)

// Overrides are the fields by which a client asks an application to take its
// method for another. A proxy must hand them on to the service, or take them from the
// client.
var Overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// isPreflight tells whether the proxy holds back a CORS preflight, by which a
// browser asks whether a script of another origin may send what it wants to send. It
// never has a credential (Fetch Standard, CORS-preflight fetch), so one that it has
// after all is not looked at: it is no browser's, it would open nothing more, and an
// outage need not stop a preflight. What the application may take for another
// method is none: it would act on a request of which nobody asked.
func (g *Gate) isPreflight(ctx *fasthttp.RequestCtx, d Dialect) bool {
	h := &ctx.Request.Header
	if len(h.Peek(fasthttp.HeaderOrigin)) == 0 || len(h.Peek(fasthttp.HeaderAccessControlRequestMethod)) == 0 {
		return false
	}
	for _, key := range h.PeekKeys() {
		if slices.ContainsFunc(Overrides, func(name string) bool { return readsLike(key, name) }) {
			return false
		}
	}
	_, trusted := g.Trusted.peer(ctx)
	return trusted && d.Original(h).Method == fasthttp.MethodOptions
}

// readsLike tells whether an application may take a field for that one: some read all that is
// neither a letter nor a digit as a hyphen.
func readsLike(field []byte, name string) bool {
	return len(field) == len(name) && string(bytes.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return '-'
	}, field)) == strings.ToLower(name)
}

// maxLocation is how long the address of a sign-in may be, with the way back. A proxy
// with small buffers would take a longer answer for an outage.
const maxLocation = 4096

// signInAt returns where a browser that asks for a page is sent to sign in, with the
// way back unless that is too long; or nothing. Scripts and APIs are challenged as
// ever, and so is the sign-in itself if it is protected by mistake: a browser would be
// sent there for ever.
func (g *Gate) signInAt(ctx *fasthttp.RequestCtx, d Dialect, signIn string) string {
	h := &ctx.Request.Header
	if _, trusted := g.Trusted.peer(ctx); !trusted {
		return ""
	}
	o := d.Original(h)
	if !isNavigation(h, o.Method) || o.Path == signIn {
		return ""
	}
	back := o.Path
	if o.Query != "" {
		back += "?" + o.Query
	}
	if location := signIn + "?return_to=" + url.QueryEscape(back); len(location) <= maxLocation {
		return location
	}
	return signIn
}

// isNavigation tells whether a browser is to show the answer to its user. Those
// of before 2023 do not tell, but ask for HTML.
func isNavigation(h *fasthttp.RequestHeader, method string) bool {
	if mode := h.Peek("Sec-Fetch-Mode"); len(mode) > 0 {
		return string(mode) == "navigate"
	}
	return method == fasthttp.MethodGet && bytes.Contains(h.Peek(fasthttp.HeaderAccept), []byte("text/html"))
}
