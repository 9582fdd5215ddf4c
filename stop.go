package main

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/direct"
	"authgear-forward-auth/internal/forwardauth"
)

// A server is stopped such that no request fails. A proxy may just have sent one
// on a connection that looks idle from here, so connections are not closed at
// once: each ends with its next answer, and the rest when nothing has come for
// a while.
type server struct {
	*fasthttp.Server
	listener net.Listener
	tls      *tls.Config // nil: without TLS
	refused  func(error) // is told why there is no TLS with a peer
	files    int         // for connections; 0: any number
	crowded  func(error) // is told that there are too many
	stopping atomic.Bool
	busy     atomic.Int64 // requests being answered
}

const (
	accept = 100 * time.Millisecond // for connections that the kernel has taken but not yet handed over
	linger = time.Second            // how long a connection may stand still when the service stops
	drain  = 10 * time.Second       // how long requests in flight may take
)

// newServer serves handler at l.
func newServer(l net.Listener, handler fasthttp.RequestHandler, body forwardauth.Body) *server {
	s := &server{listener: l}
	s.Server = forwardauth.NewServer(func(ctx *fasthttp.RequestCtx) {
		s.busy.Add(1)
		defer s.busy.Add(-1)
		ctx.Conn().(*watchedConn).answer()
		handler(ctx)
		if s.stopping.Load() {
			ctx.SetConnectionClose()
		}
	}, body)
	s.ConnState = begun
	return s
}

func (s *server) serve() error {
	w := newWatch(s.listener, s.tls, s.refused)
	w.most, w.crowded = s.files/s.filesOfOne(), s.crowded
	defer w.stop()
	return s.Serve(w)
}

// filesOfOne is how many files a connection takes.
func (s *server) filesOfOne() int {
	if s.tls != nil {
		return 1
	}
	return direct.Files(s.listener.Addr())
}

// stop lets what is in flight finish, until ctx ends. It returns how many
// requests did not.
func (s *server) stop(ctx context.Context) (unanswered int64) {
	time.Sleep(accept)
	s.listener.Close()
	s.stopping.Store(true) // not before: who is told that its connection ends comes back on a new one
	lingering, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	for s.GetCurrentConcurrency() > 0 && (lingering.Err() == nil || s.busy.Load() > 0) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	// What is still open has no request on it; the last answers leave.
	closing, cancel := context.WithTimeout(ctx, linger/10)
	defer cancel()
	s.ShutdownWithContext(closing)
	return s.busy.Load()
}
