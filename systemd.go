package main

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
)

// What the sockets are called (FileDescriptorName=) that systemd opens for the service.
const (
	mainSocket  = "main"
	adminSocket = "admin"
)

// handedOver returns the sockets that systemd has opened for the service (sd_listen_fds(3)).
// :: name → listener
func handedOver() (map[string]net.Listener, error) {
	handed := make(map[string]net.Listener)
	for _, file := range activation.Files(true) {
		name := file.Name()
		if name != mainSocket && name != adminSocket {
			return nil, fmt.Errorf("systemd hands over a socket %q: say FileDescriptorName=%s or =%s in its unit", name, mainSocket, adminSocket)
		}
		if handed[name] != nil {
			return nil, fmt.Errorf("systemd hands over two sockets %q: one ListenStream= each is served", name)
		}
		l, err := net.FileListener(file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("systemd hands over a socket %q: %w: does its unit say ListenStream=?", name, err)
		}
		handed[name] = l
	}
	return handed, nil
}

// notify tells systemd what the service is doing (sd_notify(3)); nothing where it does
// not ask.
func notify(log zerolog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn().Err(err).Msg("systemd is not told: " + state)
	}
}
