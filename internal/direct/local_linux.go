//go:build !386 && !race

package direct

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A local is a connection by a unix socket. Go waits for such a socket by all that may happen to
// it, and whenever the peer reads, the kernel says that there is room to write: a process that
// sleeps is woken for nothing by each answer that it gave. So this one is waited for by way of an
// epoll instance of its own, which knows only of what comes.
type local struct {
	net.Conn // closed; it knows the addresses
	fd       int
	coming   *os.File // the epoll instance; who moves bytes holds it, so that fd stays open
	raw      syscall.RawConn

	reads, writes transfer
}

// nests tells whether an epoll instance may be in another one.
var nests = sync.OnceValue(func() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && nestsSince(unix.ByteSliceToString(u.Release[:]))
})

// nestsSince tells whether an epoll instance in another one tells once of each thing that comes.
// Before Linux 5.5 it told of it until it was read, for which Go would look all the time, and until
// 5.7 there was a moment in which it did not tell at all.
func nestsSince(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 7)
}

// Files returns how many files a connection to that address takes.
func Files(at net.Addr) int {
	if _, ok := at.(*net.UnixAddr); ok && nests() {
		return 2
	}
	return 1
}

// newLocal takes the connection over, or fails and leaves it as it is.
func newLocal(c *net.UnixConn) (*local, error) {
	fd, err := again(c)
	if err != nil {
		return nil, err
	}
	coming, err := whatComes(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := coming.SetDeadline(time.Time{}); err != nil { // Go cannot wait for it
		return nil, errors.Join(err, coming.Close(), unix.Close(fd))
	}
	c.Close() // the socket stays
	l := &local{Conn: c, fd: fd, coming: coming}
	l.raw, _ = coming.SyscallConn() // fails for no file that is open
	l.reads.trap, l.reads.flags = syscall.SYS_RECVFROM, syscall.MSG_DONTWAIT
	l.writes.trap, l.writes.flags = syscall.SYS_SENDTO, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL
	l.reads.try = func(uintptr) bool { return l.reads.once(uintptr(fd)) }
	l.writes.try = func(uintptr) bool {
		l.writes.once(uintptr(fd))
		return true // room to write is nothing that comes
	}
	return l, nil
}

// again returns another descriptor of the socket, of which Go's scheduler knows nothing.
func again(c *net.UnixConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// whatComes returns an epoll instance that can be read while there is something to read from the
// socket.
func whatComes(fd int) (*os.File, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // else no goroutine could wait for it
	}
	if err != nil {
		unix.Close(epoll)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return os.NewFile(uintptr(epoll), "epoll"), nil
}

func (l *local) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	l.reads.b = b
	err := l.raw.Read(l.reads.try)
	l.reads.b = nil
	if err != nil {
		return 0, told(err)
	}
	return l.reads.read()
}

// Write looks now and then whether there is room: a peer that reads what it asked for leaves
// enough.
func (l *local) Write(b []byte) (written int, err error) {
	const least, most = time.Millisecond, 50 * time.Millisecond
	for pause := least; written < len(b); {
		l.writes.b = b[written:]
		err := l.raw.Write(l.writes.try)
		l.writes.b = nil
		switch {
		case err != nil:
			return written, told(err)
		case l.writes.err == syscall.EAGAIN:
			time.Sleep(pause)
			pause = min(2*pause, most)
		case l.writes.err != 0:
			return written, os.NewSyscallError("sendto", l.writes.err)
		default:
			written += l.writes.n
			pause = least
		}
	}
	return written, nil
}

// told returns an error of the epoll instance as that of a connection.
func told(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return net.ErrClosed
}

// Close returns when nobody moves bytes any more.
func (l *local) Close() error {
	if l.coming.Close() != nil {
		return net.ErrClosed
	}
	return unix.Close(l.fd)
}

func (l *local) SetDeadline(t time.Time) error      { return l.coming.SetDeadline(t) }
func (l *local) SetReadDeadline(t time.Time) error  { return l.coming.SetReadDeadline(t) }
func (l *local) SetWriteDeadline(t time.Time) error { return l.coming.SetWriteDeadline(t) }
