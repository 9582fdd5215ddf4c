// Package admin serves the operator: is the service alive, can it answer?
package admin

import (
	"strings"

	"github.com/valyala/fasthttp"
)

// Handler serves /healthz and /readyz. missing returns what keeps the service
// from answering, in words; nothing if it can. Then remarks returns what should
// be looked at all the same.
func Handler(missing, remarks func() []string) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("text/plain; charset=utf-8")
		switch string(ctx.Path()) {
		case "/healthz":
			ctx.SetBodyString("ok\n")
		case "/readyz":
			if lacks := missing(); len(lacks) > 0 {
				ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
				ctx.SetBodyString(strings.Join(lacks, "\n") + "\n")
				return
			}
			ctx.SetBodyString(strings.Join(append([]string{"ready"}, remarks()...), "\n") + "\n")
		default:
			ctx.SetStatusCode(fasthttp.StatusNotFound)
		}
	}
}
