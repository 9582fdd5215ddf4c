package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A stand is the service beside its Authgear.
type stand struct {
	authgear *lab.Authority
	service  *lab.Service
	between  *proxy // them; nil: nobody stands there
}

// bound is AUTHGEAR_MAX_STALENESS here: small, so that sessions are confirmed often.
const bound = 5 * time.Second

// newStand starts a service with these settings besides the bound.
func newStand(binary string, settings ...string) (*stand, error) {
	authgear, err := lab.NewAuthority("", nil)
	if err != nil {
		return nil, err
	}
	return startOn(&stand{authgear: authgear}, binary, settings)
}

// newStandApart starts it on the first core, and leaves that core to it: who asks a service,
// or floods it, has machines of their own.
func newStandApart(binary string, settings ...string) (*stand, error) {
	if runtime.NumCPU() == 1 {
		return newStand(binary, settings...)
	}
	if err := lab.Pin(0); err != nil {
		return nil, err
	}
	st, err := newStand(binary, settings...)
	var others []int
	for core := 1; core < runtime.NumCPU(); core++ {
		others = append(others, core)
	}
	if err = errors.Join(err, lab.Pin(others...)); err != nil && st != nil {
		st.close()
	}
	return st, err
}

// newStandBehindProxy puts a proxy between the two. With a certificate, it speaks TLS.
func newStandBehindProxy(binary string, certificate func() *tls.Certificate, settings ...string) (*stand, error) {
	p, err := newProxy()
	if err != nil {
		return nil, err
	}
	origin := "http://" + p.addr
	if certificate != nil {
		origin = "https://" + p.addr
	}
	authgear, err := lab.NewAuthority(origin, certificate)
	if err != nil {
		p.close()
		return nil, err
	}
	at := authgear.Addr()
	p.target.Store(&at)
	return startOn(&stand{authgear: authgear, between: p}, binary, settings)
}

func startOn(st *stand, binary string, settings []string) (*stand, error) {
	service, err := lab.NewService(binary, st.authgear.Origin(), append([]string{"AUTHGEAR_MAX_STALENESS=" + bound.String()}, settings...))
	if err == nil {
		err = service.Start()
	}
	if err != nil {
		st.authgear.Close()
		return nil, err
	}
	st.service = service
	st.authgear.PassEventsOn("http://" + service.Addr)
	return st, nil
}

func (st *stand) close() {
	st.service.Kill()
	if st.between != nil {
		st.between.close()
	}
	st.authgear.Close()
}

// A level is what the service takes of the machine.
type level struct {
	goroutines, files int
	memory            int64
}

func (st *stand) level() (level, error) {
	figures, err := st.service.Figures()
	return level{int(figures["go_goroutines"]), st.service.Files(), st.service.Resident()}, err
}

// asBefore waits until goroutines and files are as few as before, or some more: the
// server keeps workers for some seconds, and connections to Authgear for ten.
func (st *stand) asBefore(before level) (after level, err error) {
	const some, patience = 40, 40 * time.Second // of the users' own connections a few come and go, too
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if after, err = st.level(); err != nil {
			return after, err
		}
		if after.goroutines <= before.goroutines+some && after.files <= before.files+some {
			return after, nil
		}
		if time.Now().After(end) {
			return after, fmt.Errorf("%s after its end there are %d goroutines and %d files, and before it there were %d and %d",
				patience, after.goroutines, after.files, before.goroutines, before.files)
		}
	}
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
