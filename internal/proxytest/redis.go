package proxytest

import (
	"net"
	"os/exec"
	"testing"
)

// Redis runs a redis-server that keeps nothing on a disk, with further arguments, and
// returns where it listens, host:port.
func Redis(t testing.TB, args ...string) (addr string, p *Process) {
	t.Helper()
	addr = FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	all := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", Dir(t)}, args...)
	return addr, Start(t, exec.Command(Installed(t, "redis-server"), all...), addr)
}
