package forwardauth

import (
	"net"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"
)

// Trusted are the peers whose X-Forwarded-* and X-Original-* fields are
// believed. A peer on a unix socket is trusted: the file system let it in.
type Trusted []netip.Prefix

func (t Trusted) has(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, p := range t {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// peer tells whether the one who asks is trusted, and its address if it has one.
func (t Trusted) peer(ctx *fasthttp.RequestCtx) (netip.Addr, bool) {
	tcp, ok := ctx.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, true
	}
	ip := tcp.AddrPort().Addr()
	return ip, t.has(ip)
}

// ignores returns the address of a peer that is not trusted but describes a
// client, as proxies do.
func (t Trusted) ignores(ctx *fasthttp.RequestCtx) string {
	ip, trusted := t.peer(ctx)
	if h := &ctx.Request.Header; trusted || h.Peek(fasthttp.HeaderXForwardedFor) == nil && h.Peek("X-Original-Url") == nil {
		return ""
	}
	return text(ip)
}

// clientIP returns the address of the client: of those in X-Forwarded-For the
// last one that is not of a trusted proxy, since each proxy appends whom it
// saw. It is empty if nobody told.
func (t Trusted) clientIP(ctx *fasthttp.RequestCtx) string {
	ip, trusted := t.peer(ctx)
	if trusted {
		lines := ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
		for i := len(lines) - 1; i >= 0 && trusted; i-- {
			hops := strings.Split(string(lines[i]), ",")
			for j := len(hops) - 1; j >= 0 && trusted; j-- {
				hop, err := netip.ParseAddr(strings.TrimSpace(hops[j]))
				if err != nil {
					return text(ip)
				}
				ip, trusted = hop, t.has(hop)
			}
		}
	}
	return text(ip)
}

func text(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
