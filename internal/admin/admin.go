// Package admin serves the operator: is the service alive, can it answer, what does it
// do, and why does somebody not pass?
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/pprofhandler"

	"authgear-forward-auth/internal/explain"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/resolver"
)

// Service is what the operator is told of.
type Service struct {
	About About

	// Missing returns what keeps the service from answering, in words; nothing if it
	// can. Then Remarks returns what should be looked at all the same.
	Missing, Remarks func() []string

	Metrics fasthttp.RequestHandler
	Explain func(ctx context.Context, f explain.Fields, policy string) explain.Report
	KeyIDs  func() []string
	Denials func() []*forwardauth.Decision
}

// About is what never changes while the service runs.
type About struct {
	Version      string    `json:"version"`
	Endpoint     string    `json:"endpoint"`
	Mode         string    `json:"mode"`
	MaxStaleness float64   `json:"max_staleness_seconds"` // 0: nobody confirms
	Started      time.Time `json:"started"`
}

// Handler serves the status page at /, and /healthz, /readyz, /metrics, /status, /explain
// and /debug/pprof/.
func (s *Service) Handler(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; charset=utf-8")
	for name, value := range map[string]string{
		fasthttp.HeaderXContentTypeOptions: "nosniff", fasthttp.HeaderReferrerPolicy: "no-referrer",
		fasthttp.HeaderCacheControl: "no-store", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		ctx.Response.Header.Set(name, value)
	}
	path := string(ctx.Path())
	raw, _, _ := bytes.Cut(ctx.RequestURI(), []byte("?"))
	if string(raw) == "/" { // a link may lead here from anywhere: the page tells nothing by itself
		servePage(ctx)
		return
	}
	if why := foreign(ctx); why != "" {
		ctx.SetStatusCode(fasthttp.StatusForbidden)
		ctx.SetBodyString(why + "\n")
		return
	}
	if string(raw) != path {
		// By another spelling, such as //explain, the server has dropped the body.
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	switch path {
	case "/healthz":
		ctx.SetBodyString("ok\n")
	case "/readyz":
		s.ready(ctx)
	case "/metrics":
		s.Metrics(ctx)
	case "/status":
		s.status(ctx)
	case "/explain":
		s.explain(ctx)
	case "/debug/pprof":
		ctx.Response.Header.Set(fasthttp.HeaderLocation, "/debug/pprof/")
		ctx.SetStatusCode(fasthttp.StatusMovedPermanently)
	case "/debug/pprof/": // which pprofhandler refuses
		profiles(ctx)
	default:
		if strings.HasPrefix(path, "/debug/pprof/") {
			pprofhandler.PprofHandler(ctx)
			return
		}
		ctx.SetStatusCode(fasthttp.StatusNotFound)
	}
}

// profiles is the list of what is below /debug/pprof/.
var profiles = fasthttpadaptor.NewFastHTTPHandlerFunc(pprof.Index)

func (s *Service) ready(ctx *fasthttp.RequestCtx) {
	if lacks := s.Missing(); len(lacks) > 0 {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		ctx.SetBodyString(strings.Join(lacks, "\n") + "\n")
		return
	}
	ctx.SetBodyString(strings.Join(append([]string{"ready"}, s.Remarks()...), "\n") + "\n")
}

// status tells in JSON what the metrics do not.
func (s *Service) status(ctx *fasthttp.RequestCtx) {
	writeJSON(ctx, struct {
		About
		Missing []string                   `json:"missing"`
		Remarks []string                   `json:"remarks"`
		KeyIDs  []string                   `json:"key_ids"`
		Denials []*forwardauth.Decision    `json:"denials"` // the latest first
		Next    map[resolver.Reason]string `json:"next"`    // what to do about each reason
	}{s.About, list(s.Missing()), list(s.Remarks()), list(s.KeyIDs()), list(s.Denials()), explain.Next()})
}

// list is never null in JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// MaxBody is how long what is to be explained may be, in bytes.
const MaxBody = 64 << 10

// explain tells why the credentials in the body pass or not. The query is the policy, as
// on the auth paths.
func (s *Service) explain(ctx *fasthttp.RequestCtx) {
	if !ctx.IsPost() {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, fasthttp.MethodPost)
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		return
	}
	fields, err := explain.Read(ctx.PostBody())
	if err != nil {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		ctx.SetBodyString(err.Error() + "\n")
		return
	}
	report := s.Explain(context.Background(), fields, string(ctx.URI().QueryString()))
	if strings.Contains(string(ctx.Request.Header.Peek(fasthttp.HeaderAccept)), "application/json") {
		writeJSON(ctx, report)
		return
	}
	report.Print(ctx)
}

func writeJSON(ctx *fasthttp.RequestCtx, v any) {
	ctx.SetContentType("application/json")
	if err := json.NewEncoder(ctx).Encode(v); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
	}
}
