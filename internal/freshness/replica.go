package main

import (
	"strings"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A replica is a service that a balancer leaves out while it is restarted.
type replica struct {
	*lab.Service
	isOut atomic.Bool // it gets no requests
}

// restart ends it as an orchestrator does, and starts it again. It returns when it is ready.
func (r *replica) restart() error {
	r.isOut.Store(true)
	time.Sleep(100 * time.Millisecond) // for what is on the way
	if err := r.Stop(); err != nil {
		return err
	}
	r.CloseIdleConnections()
	if err := r.Start(); err != nil {
		return err
	}
	if err := r.AwaitReady(); err != nil {
		return err
	}
	r.isOut.Store(false)
	return nil
}

// looks returns how often the service looked at what it remembers, and how often it found
// a session there that would do.
func (r *replica) looks() (all, hits float64, err error) {
	figures, err := r.Figures()
	for name, n := range figures {
		if result, ok := strings.CutPrefix(name, `authgear_forward_auth_sessions_total{result="`); ok && result != `refresh"}` {
			all += n
			if result == `hit"}` {
				hits += n
			}
		}
	}
	return all, hits, err
}
