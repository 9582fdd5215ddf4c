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
	ip = ip.Unmap().WithZone("") // a prefix has no zone
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

// describesClient tells whether the one who asks describes a client, as proxies do.
func describesClient(h *fasthttp.RequestHeader) bool {
	return h.Peek(fasthttp.HeaderXForwardedFor) != nil || h.Peek("X-Original-Url") != nil
}

// clientIP returns the address of the client: of those in X-Forwarded-For the
// last one that is not of a trusted proxy, since each proxy appends whom it
// saw. It is not valid if nobody told.
func (t Trusted) clientIP(ctx *fasthttp.RequestCtx) netip.Addr {
	ip, trusted := t.peer(ctx)
	if !trusted {
		return ip
	}
	lines := ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
	for i := len(lines) - 1; i >= 0; i-- {
		hops := alias(lines[i])
		for hops != "" {
			j := strings.LastIndexByte(hops, ',')
			hop, err := netip.ParseAddr(strings.TrimSpace(hops[j+1:]))
			if err != nil {
				return ip
			}
			if ip = hop; !t.has(hop) {
				return ip
			}
			hops = hops[:max(j, 0)]
		}
	}
	return ip
}

func text(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
