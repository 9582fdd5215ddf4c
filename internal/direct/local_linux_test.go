//go:build !386 && !race

package direct

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watched returns an epoll instance that waits for a file as Go does, and has nothing to tell yet.
func watched(t *testing.T, fd int) (epoll int) {
	t.Helper()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(epoll) })
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		t.Fatal(err)
	}
	wakes(t, epoll)
	return epoll
}

// wakes tells whether something has happened since it was called last.
func wakes(t *testing.T, epoll int) bool {
	t.Helper()
	n, err := unix.EpollWait(epoll, make([]unix.EpollEvent, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestDirectIsNotWokenByAPeerThatReads(t *testing.T) {
	if !nests() {
		t.Skip("this kernel is too old")
	}
	c, peer := bothEnds(t, "unix")
	l := c.(*local)
	socket, inner := watched(t, l.fd), 0
	l.raw.Control(func(fd uintptr) { inner = watched(t, int(fd)) })
	b := make([]byte, 100)
	for range 3 {
		c.Write([]byte("an answer"))
		peer.Read(b)
		if wakes(t, inner) {
			t.Error("a peer that reads wakes who waits for a request")
		}
		if !wakes(t, socket) {
			t.Error("it would wake nobody anyway: is a connection of its own needed still?")
		}
		for range 2 { // one, and one while that has not been read
			peer.Write([]byte("a request"))
			if !wakes(t, inner) {
				t.Error("a request wakes nobody")
			}
			if wakes(t, inner) {
				t.Error("a request that is not read wakes for ever")
			}
		}
		if n, err := c.Read(b); n != 18 || err != nil {
			t.Errorf("%d bytes were read: %v", n, err)
		}
		wakes(t, socket)
	}
	peer.Close()
	if !wakes(t, inner) {
		t.Error("that the peer has gone wakes nobody")
	}
}

// Whoever waits, and whoever comes later, is told; no other connection is closed by it, whose file
// may have the same number by then.
func TestDirectClosesItsOwnFilesOnce(t *testing.T) {
	before := files(t)
	for range 100 {
		c, peer := bothEnds(t, "unix")
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed while it is read: %v", err)
			}
		})
		for range 3 {
			all.Go(func() { c.Close() })
		}
		all.Wait()
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
		peer.Close()
	}
	for range 100 {
		if files(t) <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d files are open, and there were %d before", files(t), before)
}

func files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestDirectKnowsItsFilesAndAddresses(t *testing.T) {
	for _, network := range networks {
		before := files(t)
		c, peer := bothEnds(t, network)
		if n := files(t) - before - 1; n != Files(c.LocalAddr()) {
			t.Errorf("a connection by %s takes %d files, not %d", network, n, Files(c.LocalAddr()))
		}
		if c.LocalAddr().Network() != network || c.LocalAddr().String() != peer.RemoteAddr().String() || strings.TrimPrefix(c.RemoteAddr().String(), "@") != strings.TrimPrefix(peer.LocalAddr().String(), "@") {
			t.Errorf("%s: %s to %s, its peer is %s to %s", network, c.LocalAddr(), c.RemoteAddr(), peer.LocalAddr(), peer.RemoteAddr())
		}
	}
}

func TestDirectKnowsTheKernel(t *testing.T) {
	for release, want := range map[string]bool{
		"": false, "linux": false, "4.18.0-553.el8.x86_64": false, "5.4.0-1-generic": false, "5.6.19": false, "5.7": true, "5.14.0-427.el9": true, "6.1.0-26-amd64": true, "10.0": true,
	} {
		if nestsSince(release) != want {
			t.Errorf("%q: %v", release, !want)
		}
	}
}
