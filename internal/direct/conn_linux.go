//go:build !386 && !race

package direct

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// A conn is a connection as [Conn] makes it.
type conn struct {
	net.Conn
	raw           syscall.RawConn
	reads, writes transfer
}

// A transfer is a system call that moves bytes.
type transfer struct {
	trap, flags uintptr
	b           []byte
	n           int
	err         syscall.Errno
	try         func(fd uintptr) bool // made once: to make it for each call allocates
}

// Conn returns the connection, faster if that can be. It takes the place of the one given,
// which may be closed by then: close the one returned.
//
// It reads and writes without telling Go's scheduler, which would look, thousands of times
// a second, whether a call that it was told of takes long. These never wait for the peer.
// They may wait for memory, as anything may. One goroutine may read, and one may write.
//
// The detector of races learns nothing of what goes by such a connection, so where it looks
// there are none.
func Conn(c net.Conn) net.Conn {
	if u, ok := c.(*net.UnixConn); ok && nests() {
		if l, err := newLocal(u); err == nil {
			return l
		}
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	d := &conn{Conn: c, raw: raw}
	d.reads.trap, d.reads.flags, d.reads.try = syscall.SYS_RECVFROM, syscall.MSG_DONTWAIT, d.reads.once
	d.writes.trap, d.writes.flags, d.writes.try = syscall.SYS_SENDTO, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, d.writes.once
	return d
}

// once tries to move bytes, and tells whether there is nothing to wait for.
func (t *transfer) once(fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall6(t.trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.b))), uintptr(len(t.b)), t.flags, 0, 0)
		if err == syscall.EINTR {
			continue
		}
		t.n, t.err = int(n), err
		return err != syscall.EAGAIN
	}
}

func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &c.reads
	t.b = b
	err := c.raw.Read(t.try)
	t.b = nil
	if err != nil {
		return 0, err
	}
	return t.read()
}

// read tells what a call that reads has brought.
func (t *transfer) read() (int, error) {
	switch {
	case t.err != 0:
		return 0, os.NewSyscallError("recvfrom", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

func (c *conn) Write(b []byte) (written int, err error) {
	t := &c.writes
	for written < len(b) {
		t.b = b[written:]
		err := c.raw.Write(t.try)
		t.b = nil
		if err != nil {
			return written, err
		}
		if t.err != 0 {
			return written, os.NewSyscallError("sendto", t.err)
		}
		written += t.n
	}
	return written, nil
}
