package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// The service may have so few files that idle connections could take them all.
func TestACrowdOfConnectionsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			var settings []string
			if network == "unix" {
				settings = append(settings, "AUTHGEAR_LISTEN=unix:"+filepath.Join(t.TempDir(), "auth.sock"))
			}
			idleCrowd(t, settings...)
		})
	}
}

func idleCrowd(t *testing.T, settings ...string) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	s := proxytest.NewService(t, append(settings, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_RESOLVER_TIMEOUT=30s")...)
	cmd := s.Command()
	few := exec.Command("sh", "-c", `ulimit -n 200; exec "$0"`, cmd.Path)
	few.Env = cmd.Env
	p := proxytest.Start(t, few, s.Addr, s.Admin)

	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	for _, crowded := range []string{s.Admin, s.Addr} {
		for i := range 300 {
			connect(t, crowded)
			if i%50 > 0 {
				continue
			}
			// Each question needs a file, too, where the last ones are being asked.
			if err := connect(t, s.Addr).ask(question(authgear.OpaqueToken(ada))); err != nil {
				t.Fatalf("beside %d idle connections to %s: %v", i, crowded, err)
			}
		}
		if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", few.Process.Pid)); err != nil || len(files) > 200-100+30+min(runtime.NumCPU(), 40) {
			t.Errorf("%d files are open, and half of 200 are for all else: %v", len(files), err)
		}
		if status, _ := operator(t, s, "/healthz"); status != 200 {
			t.Errorf("/healthz: status %d", status)
		}
	}
	for _, want := range []string{"too many connections\"", "too many connections to the admin listener"} {
		if !strings.Contains(p.Output(), want) {
			t.Errorf("the log does not tell of %s: %s", want, p.Output())
		}
	}
}

// A listener that has no file for a connection, some times.
type short struct {
	net.Listener
	left int
}

func (s *short) Accept() (net.Conn, error) {
	if s.left--; s.left >= 0 {
		return nil, fmt.Errorf("accept4: %w", syscall.EMFILE)
	}
	return s.Listener.Accept()
}

func TestAShortageOfFilesEndsNoListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWatch(&short{l, 3}, nil, nil)
	defer w.stop()
	told := 0
	w.crowded = func(error) { told++ }
	peer, err := net.DialTimeout("tcp", l.Addr().String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := w.Accept()
	if err != nil || told != 3 {
		t.Fatalf("Accept: %v, told %d times of a shortage", err, told)
	}
	c.Close()
}

// Those that are being answered stay, and so do those that were used lately.
func TestTheIdlestConnectionMakesRoom(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWatch(l, nil, nil)
	w.stop() // the test tells the time
	w.most, w.crowded = 3, func(error) {}
	accepted := func() *watchedConn {
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		c, err := w.Accept()
		if err != nil {
			t.Fatal(err)
		}
		w.look()
		return c.(*watchedConn)
	}
	busy, idle1, used := accepted(), accepted(), accepted()
	busy.enter(answering)
	used.enter(idle)
	accepted()
	if !w.conns[busy] || w.conns[idle1] || !w.conns[used] {
		t.Errorf("left are busy: %v, idle: %v, used lately: %v; want that the idle one went", w.conns[busy], w.conns[idle1], w.conns[used])
	}
	if _, err := idle1.Read(make([]byte, 1)); err == nil {
		t.Error("it is not closed")
	}
}
