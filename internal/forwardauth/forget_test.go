package forwardauth

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/resolver"
)

func TestForgetSaysTheSameToEverybody(t *testing.T) {
	forgotten := make(chan string, 10)
	gate := &Gate{Reader: resolver.NewReader("", nil)}
	addr := listen(t, gate.Forget(func(c resolver.Credentials) { forgotten <- c.List[0].Value }), Body{})
	for _, tt := range []struct {
		request   string
		status    int
		forgotten string
	}{
		{"POST /forget HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ada\r\n\r\n", 204, "ada"},
		{"POST /forget HTTP/1.1\r\nHost: a\r\nCookie: session=made.up\r\nContent-Length: 7\r\n\r\nignored", 204, "made.up"},
		{"POST /forget HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 204, ""},
		{"GET /forget HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ada\r\n\r\n", 405, ""},
	} {
		resp, body := send(t, addr, tt.request)
		have := ""
		if len(forgotten) > 0 {
			have = <-forgotten
		}
		if resp.StatusCode != tt.status || body != "" || have != tt.forgotten {
			t.Errorf("%q: status %d, body %q, forgotten %q; want %d and %q", tt.request, resp.StatusCode, body, have, tt.status, tt.forgotten)
		}
	}
}

func TestABodyIsReadWhereOneIsExpected(t *testing.T) {
	addr := listen(t, func(ctx *fasthttp.RequestCtx) { fmt.Fprintf(ctx, "%d", len(ctx.Request.Body())) }, Body{Path: "/hook", Most: 100})
	for _, tt := range []struct {
		path   string
		size   int
		status int
		read   string
	}{
		{"/hook", 100, 200, "100"},
		{"/hook", 101, 413, ""},
		{"/hook?x", 100, 200, "100"},
		{"/other", 100, 200, "0"},
	} {
		resp, body := send(t, addr, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", tt.path, tt.size, strings.Repeat("x", tt.size)))
		if resp.StatusCode != tt.status || body != tt.read {
			t.Errorf("%s, %d bytes: status %d, %q read; want %d and %q", tt.path, tt.size, resp.StatusCode, body, tt.status, tt.read)
		}
	}
}

// It must not vanish without a trace.
func TestABodyThatIsTooLongIsTold(t *testing.T) {
	told := make(chan bool, 1)
	addr := listen(t, func(*fasthttp.RequestCtx) { t.Error("it is read") }, Body{"/hook", 100, func() { told <- true }})
	body := strings.Repeat("x", 101)
	for _, rest := range []string{"Content-Length: 101\r\n\r\n" + body, "Transfer-Encoding: chunked\r\n\r\n65\r\n" + body + "\r\n0\r\n\r\n"} {
		resp, _ := send(t, addr, "POST /hook HTTP/1.1\r\nHost: a\r\n"+rest)
		if <-told; resp.StatusCode != 413 {
			t.Errorf("%.60q: status %d", rest, resp.StatusCode)
		}
	}
}

func listen(t *testing.T, handler fasthttp.RequestHandler, body Body) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(handler, body)
	go server.Serve(l)
	t.Cleanup(func() { server.Shutdown() })
	return l.Addr().String()
}
