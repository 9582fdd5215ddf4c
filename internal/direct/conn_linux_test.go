//go:build !386 && !race

package direct

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

var networks = []string{"tcp", "unix"}

// bothEnds returns both ends of a connection, of which the first is direct.
func bothEnds(t *testing.T, network string) (net.Conn, net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	d := Conn(c)
	t.Cleanup(func() { d.Close() })
	want := "*direct.conn"
	if network == "unix" && nests() {
		want = "*direct.local"
	}
	if have := fmt.Sprintf("%T", d); have != want {
		t.Fatalf("a connection by %s is a %s, want a %s", network, have, want)
	}
	return d, peer
}

// What the kernel cannot hold at once is moved as the peer takes it.
func TestDirectMovesMoreThanTheKernelHolds(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	for _, network := range networks {
		for _, way := range []string{"out", "in"} {
			t.Run(network+" "+way, func(t *testing.T) {
				from, to := bothEnds(t, network)
				if way == "in" {
					from, to = to, from
				}
				go func() {
					from.Write(sent)
					from.Close()
				}()
				if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d of %d bytes came: %v", len(got), len(sent), err)
				}
			})
		}
	}
}

func TestDirectFailsAsOthersDo(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			c, _ := bothEnds(t, network)
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the deadline: %v", err)
			}
			c.SetDeadline(time.Now())
			if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("written after the deadline: %v", err)
			}
			c.SetDeadline(time.Time{})
			time.AfterFunc(10*time.Millisecond, func() { c.Close() })
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed while it waits: %v", err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("written when closed: %v", err)
			}

			c, _ = bothEnds(t, network)
			time.AfterFunc(10*time.Millisecond, func() { c.Close() })
			if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed while nobody reads: %v", err)
			}

			c, peer := bothEnds(t, network)
			peer.Close()
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("the peer has gone: %d, %v", n, err)
			}
			var err error
			for range 100 { // the first may be taken before the peer's kernel refuses
				if _, err = c.Write([]byte("x")); err != nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("written to nobody: %v", err)
			}
		})
	}
}

func TestDirectAllocatesNothing(t *testing.T) {
	for _, network := range networks {
		c, peer := bothEnds(t, network)
		b := []byte("0123456789")
		if n := testing.AllocsPerRun(1000, func() {
			c.Write(b)
			peer.Read(b)
			peer.Write(b)
			c.Read(b)
		}); n > 0 {
			t.Errorf("%s: %v allocations for an answer and the next request", network, n)
		}
	}
}
