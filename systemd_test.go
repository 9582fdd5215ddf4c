package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// tool returns one of systemd's programs. CI has them.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: apt-get install systemd", name)
		}
		t.Skipf("%s is missing: apt-get install systemd", name)
	}
	return path
}

func TestSystemdIsToldWhatTheServiceIsDoing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	told := func(want string) (rest string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 1000)
		n, err := manager.Read(b)
		state, rest, _ := strings.Cut(string(b[:n]), "\n")
		if err != nil || state != want {
			t.Fatalf("systemd is told %q, %v; want %q", b[:n], err, want)
		}
		return rest
	}
	authgear := authgeartest.Start(t, authgeartest.Options{})
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin())
	cmd := s.Command()
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	p := proxytest.Start(t, cmd)

	told("READY=1")
	for _, addr := range []string{s.Addr, s.Admin} {
		if !proxytest.Accepts(addr) {
			t.Errorf("ready, but nobody listens at %s", addr)
		}
	}
	p.Signal(syscall.SIGHUP)
	if since := told("RELOADING=1"); !strings.HasPrefix(since, "MONOTONIC_USEC=") {
		t.Errorf("reloading since %q, want MONOTONIC_USEC=", since)
	}
	told("READY=1")
	p.Signal(syscall.SIGTERM)
	told("STOPPING=1")
	if err := p.Wait(); err != nil {
		t.Errorf("the service ends with: %v", err)
	}
}

// The names of the settings' own addresses are free, so it is systemd's that are served.
func TestASocketThatSystemdHasOpenedIsServed(t *testing.T) {
	activate := tool(t, "systemd-socket-activate")
	for network, listen := range map[string]string{"tcp": proxytest.FreeAddr(t), "unix": "unix:" + t.TempDir() + "/auth.sock"} {
		t.Run(network, func(t *testing.T) {
			authgear := authgeartest.Start(t, authgeartest.Options{})
			s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin())
			unused, unusedAdmin := s.Addr, s.Admin
			program := s.Command()
			s.Addr, s.Admin = listen, proxytest.FreeAddr(t)
			args := []string{"--listen=" + strings.TrimPrefix(s.Addr, "unix:"), "--listen=" + s.Admin, "--fdname=main:admin"}
			for _, line := range program.Env {
				args = append(args, "--setenv="+line)
			}
			p := proxytest.Start(t, exec.Command(activate, append(args, program.Path)...), s.Addr, s.Admin)
			if resp := ask(t, s, "Authorization: Bearer "+authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))); resp.StatusCode != 200 {
				t.Errorf("a JWT: status %d, want 200", resp.StatusCode)
			}
			if status, _ := operator(t, s, "/healthz"); status != 200 {
				t.Errorf("/healthz: status %d, want 200", status)
			}
			if proxytest.Accepts(unused) || proxytest.Accepts(unusedAdmin) {
				t.Error("the addresses of the settings are served, too")
			}
			if err := p.Stop(); err != nil {
				t.Errorf("the service ends with: %v", err)
			}
			if path, ok := strings.CutPrefix(s.Addr, "unix:"); ok {
				if _, err := os.Stat(path); err != nil {
					t.Errorf("systemd's socket is gone: %v", err)
				}
			}
		})
	}
}

// handing returns the program with sockets that somebody else has opened, as systemd hands
// them over. names are theirs.
func handing(s *proxytest.Service, names string, files ...*os.File) *exec.Cmd {
	cmd := s.Command()
	with := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, cmd.Path)
	with.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names)
	with.ExtraFiles = files
	return with
}

// opened returns a socket that listens, at an address.
func opened(t *testing.T, addr string) *os.File {
	t.Helper()
	network, at := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, at = "unix", path
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); file.Close() })
	return file
}

// The settings say something else, and whoever does not listen does not serve.
func TestTheLogTellsWhereItServes(t *testing.T) {
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1")
	main, adm := "unix:"+t.TempDir()+"/auth.sock", proxytest.FreeAddr(t)
	p := proxytest.Start(t, handing(s, "main:admin", opened(t, main), opened(t, adm)))
	want := fmt.Sprintf(`"listen":%q,"admin":%q`, main, adm)
	proxytest.Eventually(t, "the log tells "+want, func() bool { return strings.Contains(p.Output(), want) })

	s = proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN="+adm)
	if status, _, stderr := result(t, s.Command()); status != 1 || strings.Contains(stderr, `"serving"`) || !strings.Contains("\n"+stderr, "\nAUTHGEAR_LISTEN: ") {
		t.Errorf("exit status %d, and why is no plain line: %s", status, stderr)
	}
}

// While no process serves, connections wait on the socket.
func TestARestartOnASocketOfSystemdRefusesNobody(t *testing.T) {
	for network, listen := range map[string]string{"tcp": proxytest.FreeAddr(t), "unix": "unix:" + t.TempDir() + "/auth.sock"} {
		t.Run(network, func(t *testing.T) {
			authgear := authgeartest.Start(t, authgeartest.Options{})
			s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin())
			socket := opened(t, listen)
			tr := &traffic{addr: listen, token: authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))}
			p := proxytest.Start(t, handing(s, "main", socket), s.Admin)
			proxytest.Eventually(t, "the service is ready", func() bool {
				status, _ := operator(t, s, "/readyz")
				return status == 200
			})
			for range 16 {
				tr.run(tr.raw())
			}
			for range 2 {
				tr.answers(t, 1000)
				if err := p.Stop(); err != nil {
					t.Errorf("the service ends with: %v", err)
				}
				p = proxytest.Start(t, handing(s, "main", socket), s.Admin)
			}
			tr.answers(t, 1000)
			tr.end(t)
			if n := tr.refused.Load(); n > 0 {
				t.Errorf("%d connections were refused, want 0", n)
			}
		})
	}
}

func TestASocketThatIsNotKnownIsAnError(t *testing.T) {
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1")
	file, err := os.Open("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tt := range []struct {
		names, want string
		files       []*os.File
	}{
		{"web", `systemd hands over a socket "web": say FileDescriptorName=main or =admin`, []*os.File{opened(t, proxytest.FreeAddr(t))}},
		{"main:main", `systemd hands over two sockets "main"`, []*os.File{opened(t, proxytest.FreeAddr(t)), opened(t, proxytest.FreeAddr(t))}},
		{"main", "does its unit say ListenStream=?", []*os.File{file}},
	} {
		if status, _, stderr := result(t, handing(s, tt.names, tt.files...)); status != 1 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit status %d: %s", tt.names, status, stderr)
		}
	}
}
