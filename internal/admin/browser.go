package admin

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

// A browser that reaches this listener also shows pages of strangers. None of them may
// ask anything here, nor read an answer.
//
// A page of another origin is found by Sec-Fetch-Site or, where the browser does not
// send it, by Origin. A stranger may also let a name of his own lead here (DNS
// rebinding): then his page has the same origin, and only the name in Host tells. So
// it must be one that no stranger can own. Prometheus and probes may use any name: no
// metric tells of a user.

// foreign returns why a request may not be answered, as it could be a stranger's; ""
// if it may.
func foreign(ctx *fasthttp.RequestCtx) string {
	switch site := string(ctx.Request.Header.Peek("Sec-Fetch-Site")); site {
	case "same-origin", "none":
		return "" // sent over https or to loopback alone, so the name is not a stranger's
	case "":
	default:
		return "a page of another origin asks (Sec-Fetch-Site: " + site + ")"
	}
	host := string(ctx.Host())
	if origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)); origin != "" {
		if from, err := url.Parse(origin); err != nil || !strings.EqualFold(from.Host, host) {
			return "a page of another origin asks (Origin is not Host)"
		}
	}
	if !open[string(ctx.Path())] && !private(host) {
		return "the name in Host could be anybody's: use the address, localhost, a name without dots, " +
			"or one that ends in .internal, .svc or .cluster.local; in a browser also any name over https"
	}
	return ""
}

// open are the paths that may be asked for by any name.
var open = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// private tells whether a Host, perhaps with a port, is no name that a stranger can own.
func private(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	name, _, _ := strings.Cut(host, ":")
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, end := range []string{".localhost", ".internal", ".svc", ".cluster.local"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return !strings.Contains(name, ".")
}
