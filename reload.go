package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"authgear-forward-auth/resolver"
)

// A source is read again at SIGHUP. If that fails, what was in force stays so.
type source struct {
	name string
	read func() error
}

// reread returns what can have changed since the settings were read.
func (s *settings) reread(signed *secretsInForce, keys *resolver.Keys, certs *certificates) (list []source) {
	if trim(os.Getenv("AUTHGEAR_WEBHOOK_SECRET_FILE")) != "" {
		list = append(list, source{"the webhook secret", signed.read})
	}
	if s.Mode != resolverOnly {
		list = append(list, source{"Authgear's keys", keys.Renew})
	}
	if certs != nil {
		list = append(list, source{"the certificates", certs.readAgain})
	}
	return list
}

// hangups is told of each SIGHUP; of several at once, of one. From here on none ends
// the process.
func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// reload reads the sources again at each hangup, until ctx ends.
func reload(ctx context.Context, log zerolog.Logger, hangups <-chan os.Signal, sources []source) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
		var read []string
		for _, s := range sources {
			if err := s.read(); err != nil {
				log.Warn().Err(err).Msg("not read again: " + s.name + "; what was in force stays so")
			} else {
				read = append(read, s.name)
			}
		}
		log.Info().Strs("what", read).Msg("read again")
		if ctx.Err() == nil { // systemd knows that it stops
			notify(log, daemon.SdNotifyReady)
		}
	}
}

// secretsInForce are those that deliveries may be signed with.
type secretsInForce struct{ list atomic.Pointer[secrets] }

func newSecretsInForce(list secrets) *secretsInForce {
	s := &secretsInForce{}
	s.list.Store(&list)
	return s
}

func (s *secretsInForce) get() []string { return *s.list.Load() }

// read takes those that are in the file now.
func (s *secretsInForce) read() error {
	text, err := secretFile("AUTHGEAR_WEBHOOK_SECRET")
	if err != nil {
		return err
	}
	var list secrets
	if err := list.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("AUTHGEAR_WEBHOOK_SECRET_FILE: %w", err)
	}
	s.list.Store(&list)
	return nil
}
