package resolver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

// names is a name server that knows one address; none: it does not answer.
type names struct {
	mu sync.Mutex
	at netip.Addr
}

func (n *names) set(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at, _ = netip.ParseAddr(text)
}

func (n *names) serve(c net.PacketConn) {
	b := make([]byte, 512)
	for {
		size, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		at := n.at
		n.mu.Unlock()
		if at.IsValid() {
			c.WriteTo(answerTo(b[:size], at), from)
		}
	}
}

// answerTo repeats the question, and answers one for an IPv4 address. RFC 1035 §4.
func answerTo(question []byte, at netip.Addr) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	answer := append([]byte(nil), question[:end]...)
	answer[2], answer[3] = 0x81, 0x80 // an answer, recursion available
	binary.BigEndian.PutUint16(answer[10:], 0)
	if binary.BigEndian.Uint16(question[end-4:]) != 1 {
		return answer // no IPv6
	}
	binary.BigEndian.PutUint16(answer[6:], 1)
	answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(answer, at.AsSlice()...)
}

// An address of Authgear's moves, as in a cluster or behind a balancer of a cloud.
func TestANameIsLookedUpForEachConnection(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dns := &names{}
	go dns.serve(udp)
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("udp", udp.LocalAddr().String())
	}}

	authgear := authgeartest.New(authgeartest.Options{Origin: "http://authgear.test"})
	token := authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"}))
	listen := func(addr string) (*httptest.Server, string) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("this machine has no such loopback address:", err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(authgear.ServeHTTP))
		s.Listener.Close()
		s.Listener = l
		s.Start()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return s, port
	}
	old, port := listen("127.0.0.1:0")
	endpoint := &url.URL{Scheme: "http", Host: "authgear.test"}
	remote := resolver.NewRemote(resolver.RemoteOptions{
		Endpoint: endpoint, URL: &url.URL{Scheme: "http", Host: "authgear.test:" + port, Path: "/resolve"}, Timeout: 2 * time.Second})
	ask := func() error {
		s, err := remote.Resolve(t.Context(), resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: token}}})
		if err == nil && s.UserID != "ada" {
			t.Errorf("the user is %q", s.UserID)
		}
		return err
	}
	unavailable := func(when string, err error) {
		t.Helper()
		if _, ok := errors.AsType[*resolver.UnavailableError](err); !ok {
			t.Errorf("%s: %v, want that Authgear is unavailable", when, err)
		}
	}

	unavailable("no name server answers", ask())
	dns.set("127.0.0.1")
	if err := ask(); err != nil {
		t.Fatalf("at the first address: %v", err)
	}
	old.Close()
	unavailable("nobody is at the address", ask())
	moved, _ := listen("127.0.0.2:" + port)
	defer moved.Close()
	dns.set("127.0.0.2")
	if err := ask(); err != nil {
		t.Errorf("at the next address: %v", err)
	}
}
