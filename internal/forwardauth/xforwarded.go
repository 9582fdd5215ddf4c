package forwardauth

import (
	"strings"

	"github.com/valyala/fasthttp"
)

// XForwarded reads the original request from X-Forwarded-Method, -Host and -Uri,
// as the client sent them, whatever they are.
func XForwarded(h *fasthttp.RequestHeader) Original {
	path, query, _ := strings.Cut(string(h.Peek("X-Forwarded-Uri")), "?")
	return Original{
		Method: string(h.Peek("X-Forwarded-Method")),
		Host:   string(h.Peek(fasthttp.HeaderXForwardedHost)),
		Path:   path,
		Query:  query,
	}
}
