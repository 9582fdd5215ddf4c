package proxytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Binary returns the service's program. It is built once per test process.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build leaves the program beside the test's own, where `go test` removes it.
// The service of a test that looks for races does so, too.
var build = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "authgear-forward-auth")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "authgear-forward-auth")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// Command returns the service's program with the given settings, NAME=value,
// and no others.
func Command(t testing.TB, settings []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	ours := func(line string) bool { return strings.HasPrefix(line, "AUTHGEAR_") }
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ours), settings...)
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // else one that looks for races sleeps at its end
	return cmd
}

// A Service is the service as a process of its own.
type Service struct {
	Addr  string // where a proxy asks: host:port or unix:/path
	Admin string // where the operator asks

	t        testing.TB
	settings []string
	process  *Process
}

// NewService returns a service with the given settings, NAME=value, not yet
// started. It listens at free addresses unless the settings name others.
func NewService(t testing.TB, settings ...string) *Service {
	t.Helper()
	s := &Service{t: t, Addr: FreeAddr(t), Admin: FreeAddr(t)}
	for _, line := range settings {
		switch name, value, _ := strings.Cut(line, "="); name {
		case "AUTHGEAR_LISTEN":
			s.Addr = value
		case "AUTHGEAR_ADMIN_LISTEN":
			s.Admin = value
		}
	}
	s.settings = append(slices.Clone(settings), "AUTHGEAR_LISTEN="+s.Addr, "AUTHGEAR_ADMIN_LISTEN="+s.Admin)
	return s
}

// Start runs the service and waits until it listens.
func (s *Service) Start() {
	s.t.Helper()
	s.process = Start(s.t, s.Command(), s.Addr, s.Admin)
	s.t.Cleanup(s.Stop)
}

// Stop ends the service, as an operator does. It must end well.
func (s *Service) Stop() {
	s.t.Helper()
	if err := s.process.Stop(); err != nil {
		s.t.Errorf("the service ends with: %v", err)
	}
}

// Signal sends the service a signal.
func (s *Service) Signal(sig os.Signal) { s.process.Signal(sig) }

// Wait waits for the service's end and returns how it ended.
func (s *Service) Wait() error { return s.process.Wait() }

// Log is what the service has written since it was started last.
func (s *Service) Log() string { return s.process.Output() }

// Command returns the service's program with the service's settings.
func (s *Service) Command(args ...string) *exec.Cmd {
	return Command(s.t, s.settings, args...)
}
