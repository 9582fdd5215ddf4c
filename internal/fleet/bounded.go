package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"

	"github.com/redis/rueidis"
)

// maxReply is the longest reply of Redis that is read, in bytes. Whoever may write to
// Redis could else fill the memory of each replica.
const maxReply = 4 << 20

var errTooMuch = errors.New("the reply of Redis is longer than any that this service asks for")

// boundReplies makes connections end before a reply that is too long is read.
func boundReplies(o *rueidis.ClientOption) {
	connect := o.DialCtxFn
	if connect == nil {
		connect = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			if t != nil {
				return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
			}
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		c, err := connect(ctx, addr, d, t)
		if err != nil {
			return nil, err
		}
		return &bounded{Conn: c}, nil
	}
}

// A bounded connection counts what a reply takes, by the lengths that stand in front of
// its parts (RESP 2 and 3).
type bounded struct {
	net.Conn
	line  []byte // that has not ended yet
	skip  int64  // bytes of a text that are yet to come
	parts int64  // of the reply that are yet to come
	size  int64  // of the reply
}

func (c *bounded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.scan(b[:n]) {
		c.Close()
		return 0, errTooMuch
	}
	return n, err
}

// scan tells whether the reply is not too long yet.
func (c *bounded) scan(b []byte) bool {
	for len(b) > 0 {
		if n := min(c.skip, int64(len(b))); n > 0 {
			c.skip, b = c.skip-n, b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			c.line = append(c.line, b...)
			return len(c.line) <= maxReply
		}
		line := append(c.line, b[:end]...)
		c.line, b = c.line[:0], b[end+1:]
		if c.part(line); c.size > maxReply {
			return false
		}
	}
	return true
}

// part looks at the first line of a part.
func (c *bounded) part(line []byte) {
	const record = 64 // what the client keeps of each part
	if c.parts == 0 {
		c.parts, c.size = 1, 0
	}
	c.parts--
	c.size += record + int64(len(line))
	if len(line) == 0 {
		return
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(line[1:])), 10, 64)
	if err != nil || n < 0 {
		return
	}
	n = min(n, maxReply+1)
	switch line[0] {
	case '$', '=', '!':
		c.skip = n + 2
		c.size += n
	case '*', '~', '>':
		c.parts += n
		c.size += n * record
	case '%':
		c.parts += 2 * n
		c.size += 2 * n * record
	case '|': // stands before the part
		c.parts += 2*n + 1
		c.size += 2 * n * record
	}
}
