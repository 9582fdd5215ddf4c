package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/admin"
	"authgear-forward-auth/internal/check"
	"authgear-forward-auth/internal/forwardauth"
)

// listen serves both listeners until ctx ends, and then lets what is in flight
// finish.
func listen(ctx context.Context, log zerolog.Logger, set settings, certs *certificates, proxies fasthttp.RequestHandler, events forwardauth.Body, operator fasthttp.RequestHandler) error {
	main, adm, err := listeners(log, set)
	if err != nil {
		return err
	}
	log.Info().Str("version", version).Str("endpoint", set.Endpoint.String()).Str("mode", string(set.Mode)).
		Str("listen", where(main)).Str("admin", where(adm)).Msg("serving")
	server, admServer := newServer(main, proxies, events), newServer(adm, operator, forwardauth.Body{Path: "/explain", Most: admin.MaxBody})
	server.tls, server.refused = certs.config(), warn(log, "no TLS with a peer")
	server.files, admServer.files = mostFiles()
	server.crowded = warn(log, "too many connections")
	admServer.crowded = warn(log, "too many connections to the admin listener")
	failed := make(chan error, 2)
	go func() { failed <- server.serve() }()
	go func() { failed <- admServer.serve() }()
	notify(log, daemon.SdNotifyReady)

	if err := until(ctx.Done(), failed); err != nil {
		return err
	}
	notify(log, daemon.SdNotifyStopping)
	log.Info().Str("delay", set.DrainDelay.String()).Msg("stopping: requests in flight are answered")
	if err := until(time.After(set.DrainDelay), failed); err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var both sync.WaitGroup
	var unanswered int64
	both.Go(func() { unanswered = server.stop(ending) })
	both.Go(func() { admServer.stop(ending) })
	both.Wait()
	if unanswered > 0 {
		return fmt.Errorf("stop: %d requests were not answered within %s", unanswered, drain)
	}
	return nil
}

// until waits, unless a listener fails first.
func until[T any](end <-chan T, failed <-chan error) error {
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-end:
		return nil
	}
}

// listeners returns what systemd has opened, and opens the rest.
func listeners(log zerolog.Logger, set settings) (main, adm net.Listener, err error) {
	handed, err := handedOver()
	if err != nil {
		return nil, nil, err
	}
	for name, l := range handed {
		log.Info().Str("listener", name).Stringer("at", l.Addr()).Msg("systemd has opened it")
	}
	if main = handed[mainSocket]; main == nil {
		if main, err = listener(set.Listen); err != nil {
			return nil, nil, fmt.Errorf("AUTHGEAR_LISTEN: %w: %s", err, check.ListenCure("AUTHGEAR_LISTEN", err))
		}
	}
	if adm = handed[adminSocket]; adm == nil {
		if adm, err = listener(set.AdminListen); err != nil {
			main.Close()
			return nil, nil, fmt.Errorf("AUTHGEAR_ADMIN_LISTEN: %w: %s", err, check.ListenCure("AUTHGEAR_ADMIN_LISTEN", err))
		}
	}
	if !isPrivate(adm.Addr()) {
		log.Warn().Stringer("at", adm.Addr()).Msg("other machines can reach the admin listener, which asks for no credential: let a firewall or NetworkPolicy keep them away, or see AUTHGEAR_ADMIN_LISTEN")
	}
	return main, adm, nil
}

// where returns the address that somebody connects to, as a setting would say it.
func where(l net.Listener) string {
	if addr := l.Addr(); addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return l.Addr().String()
}

// isPrivate tells whether only this machine reaches an address.
func isPrivate(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// listener opens a TCP address or unix:/path/to.sock. A socket that a dead
// process left behind is replaced.
func listener(at address) (net.Listener, error) {
	path, ok := strings.CutPrefix(string(at), "unix:")
	if !ok {
		return net.Listen("tcp", string(at))
	}
	left, err := leftBehind(path)
	if err != nil {
		return nil, err
	}
	if left {
		os.Remove(path)
	}
	return socket(path)
}

// socket opens a unix socket where there is nothing yet.
func socket(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// The proxy runs as another user. Who may reach the socket is for the
	// directory to say.
	return l, os.Chmod(path, 0o666)
}

// leftBehind tells whether a dead process has left a socket there. Only ECONNREFUSED
// says so: a process that hangs, or has more to do than it can, lets its backlog fill
// up (EAGAIN), and lives.
func leftBehind(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil: // there is nothing; if it is something else, listening tells
		return false, nil
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("%s is no socket: %w", path, syscall.EEXIST)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return false, fmt.Errorf("another process serves %s: %w", path, syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		return true, nil
	case errors.Is(err, syscall.EAGAIN):
		return false, fmt.Errorf("another process serves %s, and takes no more connections: %w", path, syscall.EADDRINUSE)
	}
	return false, err
}

// tryListener is like listener, but removes nothing. It returns nil where a dead process
// has left a socket, which listener would replace.
func tryListener(at address) (net.Listener, error) {
	path, ok := strings.CutPrefix(string(at), "unix:")
	if !ok {
		return listener(at)
	}
	if left, err := leftBehind(path); left || err != nil {
		return nil, err
	}
	return socket(path)
}

// dialListener connects to an address as listener takes it.
func dialListener(at address) (net.Conn, error) {
	if path, ok := strings.CutPrefix(string(at), "unix:"); ok {
		return net.DialTimeout("unix", path, time.Second)
	}
	host, port, err := net.SplitHostPort(string(at))
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.DialTimeout("tcp", net.JoinHostPort(host, port), time.Second)
}

// settingNames returns the variables that settings are read from.
func settingNames() (list []string) {
	for field := range reflect.TypeFor[settings]().Fields() {
		list = append(list, field.Tag.Get("envconfig"))
		if isSecret(field) {
			list = append(list, field.Tag.Get("envconfig")+"_FILE")
		}
	}
	return list
}

// secretNames returns those that may stand in a file.
func secretNames() (list []string) {
	for field := range reflect.TypeFor[settings]().Fields() {
		if isSecret(field) {
			list = append(list, field.Tag.Get("envconfig"))
		}
	}
	return list
}

func isSecret(field reflect.StructField) bool {
	return field.Type == reflect.TypeFor[secrets]() || field.Type == reflect.TypeFor[secret]()
}
