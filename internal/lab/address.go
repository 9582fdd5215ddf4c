package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports that the kernel gives to nobody who does not name one.
const firstPort, ports = 20_000, 12_000

var lastPort atomic.Uint32

func init() { lastPort.Store(rand.Uint32N(ports)) }

// FreeAddr returns an address of this machine at which nobody listens. No process gets
// one of them twice, and nobody who takes what the kernel gives comes to it while it is left.
func FreeAddr() (addr string, err error) {
	for range 1000 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%ports)); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}
