package proxytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Raw sends the text as it is and reads one answer.
func Raw(t testing.TB, addr, text string) (*http.Response, string) {
	t.Helper()
	c, err := Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	go io.WriteString(c, text)
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	return resp, string(body)
}

// CountConnections stands between a proxy and the service until the test ends:
// it returns the address for the proxy, and how many connections came.
func CountConnections(t testing.TB, to string) (addr string, count func() int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			go join(c, to)
		}
	}()
	return l.Addr().String(), n.Load
}

// join passes on what comes, both ways, until one side ends.
func join(c net.Conn, to string) {
	defer c.Close()
	there, err := Dial(to)
	if err != nil {
		return
	}
	defer there.Close()
	go func() {
		io.Copy(there, c)
		there.Close()
	}()
	io.Copy(c, there)
}
