package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// A request is sent as it stands, whatever it is. The zero value is a GET of the
// URL by a visitor.
type request struct {
	method   string
	target   string   // path and query
	fields   []string // name and value in turn
	early    []string // the same, before the Host line
	body     string
	trailers []string // behind a chunked body
	page     pageKind // what the echo answers
}

// An answer is what the proxy answered, and what had arrived by then.
type answer struct {
	status  int
	header  http.Header
	arrived []arrival
	other   bool // it is the page of another request, or has that one's cookie
	err     error
}

// send asks on a connection of its own; a redirect is not followed.
func (v *visit) send(q request) answer {
	nonce := v.echo.expect(q.page)
	a := v.ask(q, nonce)
	a.arrived = v.echo.take(nonce)
	v.limited = v.limited || a.status == http.StatusTooManyRequests
	v.report.recognize(a.header)
	return a
}

func (v *visit) ask(q request, nonce string) (a answer) {
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	conn, err := v.dial(ctx)
	if err != nil {
		return answer{err: err}
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	text := v.text(q, nonce)
	go io.WriteString(conn, text) // a denial may come before the end of it
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: q.method})
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a = answer{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return a
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	a.err = err
	seen, isPage := strings.CutPrefix(string(body), page)
	a.other = isPage && seen != nonce
	for _, c := range resp.Cookies() {
		a.other = a.other || c.Name == cookieName && c.Value != nonce
	}
	return a
}

// text is the request on the wire.
func (v *visit) text(q request, nonce string) string {
	method, target := q.method, q.target
	if method == "" {
		method = http.MethodGet
	}
	if target == "" {
		target = v.URL.RequestURI()
	}
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	for i := 0; i < len(q.early); i += 2 {
		line(q.early[i], q.early[i+1])
	}
	line("Host", v.URL.Host)
	line(NonceField, nonce)
	line("User-Agent", "authgear-forward-auth-doctor")
	line("Accept", "application/json")
	ownConnection := false
	for i := 0; i < len(q.fields); i += 2 {
		line(q.fields[i], q.fields[i+1])
		ownConnection = ownConnection || q.fields[i] == "Connection"
	}
	if !ownConnection {
		line("Connection", "close")
	}
	if len(q.trailers) > 0 {
		line("Transfer-Encoding", "chunked")
		line("Trailer", q.trailers[0])
		fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n0\r\n", len(q.body), q.body)
		for i := 0; i < len(q.trailers); i += 2 {
			line(q.trailers[i], q.trailers[i+1])
		}
	} else if q.body != "" || method == http.MethodPost {
		line("Content-Length", fmt.Sprint(len(q.body)))
	}
	b.WriteString("\r\n")
	if len(q.trailers) == 0 {
		b.WriteString(q.body)
	}
	return b.String()
}

func (v *visit) dial(ctx context.Context) (net.Conn, error) {
	port := v.URL.Port()
	if v.URL.Scheme != "https" {
		if port == "" {
			port = "80"
		}
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(v.URL.Hostname(), port))
	}
	if port == "" {
		port = "443"
	}
	conf := v.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.NextProtos = []string{"http/1.1"}
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(v.URL.Hostname(), port))
}

// userID is whose request the application took it for, or "".
func (a answer) userID() string {
	for _, x := range a.arrived {
		if id := x.header.Get("X-Authgear-User-Id"); id != "" {
			return id
		}
	}
	return ""
}

// isOfVisitor tells whether the application was told that the credential is no good.
func (a answer) isOfVisitor() bool {
	return slices.ContainsFunc(a.arrived, func(x arrival) bool { return x.header.Get("X-Authgear-Session-Valid") == "false" })
}
