package proxytest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/lab"
)

// patience is how long something that must happen may take.
const patience = 30 * time.Second

// A Process is a program that runs until the test ends.
type Process struct {
	cmd    *exec.Cmd
	output string // the file that it writes to
	exited chan struct{}
	err    error // how it ended, once exited is closed
}

// Start runs a program and waits until it accepts connections at all of the
// addresses. What it writes is shown if the test fails.
func Start(t testing.TB, cmd *exec.Cmd, addrs ...string) *Process {
	t.Helper()
	p := &Process{cmd: cmd, output: filepath.Join(t.TempDir(), "output"), exited: make(chan struct{})}
	// A file, not a buffer: what the program wrote before it answered can be
	// read as soon as the answer is there.
	file, err := os.Create(p.output)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, p.Output())
		}
	})
	for _, addr := range addrs {
		Eventually(t, cmd.Path+" listens at "+addr, func() bool {
			select {
			case <-p.exited:
				t.Fatalf("%s has ended: %v", cmd.Path, p.err)
			default:
			}
			return Accepts(addr)
		})
	}
	return p
}

// Signal sends the program a signal.
func (p *Process) Signal(s os.Signal) { p.cmd.Process.Signal(s) }

// Stop ends the program by SIGTERM and returns how it ended.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Wait waits for the program's end and returns how it ended.
func (p *Process) Wait() error {
	select {
	case <-p.exited:
		return p.err
	case <-time.After(patience):
		p.cmd.Process.Kill()
		return errors.New("it did not end and was killed")
	}
}

// Output is what the program has written.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Eventually waits until something is true that must become so.
func Eventually(t testing.TB, what string, isTrue func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !isTrue(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not true: %s", patience, what)
		}
	}
}

// Dial connects to host:port or unix:/path.
func Dial(addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", addr)
}

// Accepts tells whether somebody listens at an address.
func Accepts(addr string) bool {
	c, err := Dial(addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// FreeAddr returns an address at which nobody listens: see lab.FreeAddr.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := lab.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
