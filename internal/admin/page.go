package admin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"regexp"

	"github.com/valyala/fasthttp"
)

// page is the status page: one file, which needs no other but /status, /metrics and
// /explain.
//
//go:embed page.html
var page []byte

// pagePolicy lets the page run its own script and style, and nothing else. What a
// stranger sent cannot become markup: no script may make any from text.
var pagePolicy = "default-src 'none'; script-src " + hashes("script") + "; style-src " + hashes("style") +
	"; img-src data:; connect-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'" +
	"; require-trusted-types-for 'script'; trusted-types 'none'"

// hashes returns the sources that name the page's inline elements.
func hashes(element string) (list string) {
	for _, m := range regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(m[1])
		list += "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "' "
	}
	return list
}

func servePage(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/html; charset=utf-8")
	ctx.Response.Header.Set(fasthttp.HeaderContentSecurityPolicy, pagePolicy)
	ctx.SetBody(page)
}
