package direct

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Look waits until Go has looked at the network, which it does when no goroutine can run,
// and each 10 ms. The zero Look is ready to be used, by one goroutine at a time.
type Look struct {
	event syscall.RawConn
	ring  func(fd uintptr) bool // made once
	rung  bool
	one   [8]byte
}

// Await returns when Go has looked. Who was to get something from the network before goes
// first.
func (l *Look) Await() {
	if l.event == nil && !l.open() {
		runtime.Gosched()
		return
	}
	l.rung = false
	l.event.Read(l.ring)
	runtime.Gosched() // who was found last would go first
}

func (l *Look) open() bool {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return false
	}
	l.ring = l.again
	binary.NativeEndian.PutUint64(l.one[:], 1)
	l.event, err = os.NewFile(uintptr(fd), "eventfd").SyscallConn()
	return err == nil
}

// again makes the event happen, and is done when it was seen. Each time is told of, so that the
// event need not be taken back.
func (l *Look) again(fd uintptr) (done bool) {
	if l.rung {
		return true
	}
	_, err := syscall.Write(int(fd), l.one[:])
	l.rung = err == nil
	return !l.rung
}
