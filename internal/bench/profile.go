//go:build linux

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/lab"
)

// profile writes what the service's core did while it answered what comes in production, for
// Go's compiler, which then knows what to make fast: remembered sessions of each kind, bad tokens
// beside them, and JWTs that nobody has seen.
func (b *bench) profile(file string) error {
	st := &stand{bench: b}
	defer st.end()
	if _, err := st.authgear(); err != nil {
		return err
	}
	admin, err := lab.FreeAddr()
	if err != nil {
		return err
	}
	service, err := st.service(never, "AUTHGEAR_ADMIN_LISTEN="+admin)
	if err != nil {
		return err
	}
	known := st.tokens[:st.few]
	var mixed []*requests
	for _, k := range []kind{jwts(known), opaque, cookie} {
		r := questions(k, path, st.few)
		if err := st.remember(service, r); err != nil {
			return err
		}
		mixed = append(mixed, r)
	}
	part := 2 * st.long.each
	took := time.Duration(len(mixed)+1) * part // the last one is for strangers
	written := make(chan error, 1)
	go func() {
		status, profile, err := fasthttp.GetTimeout(nil, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", admin, took.Seconds()), took+patience)
		if err == nil && status != fasthttp.StatusOK {
			err = fmt.Errorf("the profile: %d %s", status, profile)
		}
		if err == nil {
			err = os.WriteFile(file, profile, 0o644)
		}
		written <- err
	}()
	for _, r := range mixed {
		if _, err := drive(service, part, stream{requests: r, conns: conns}); err != nil {
			return err
		}
	}
	beside := stream{requests: mixed[0], conns: 2 * conns, rate: steady}
	if _, err := drive(service, part/2, beside, st.bad(steady)); err != nil {
		return err
	}
	unseen := questions(jwts(st.tokens[st.few:]), path, len(st.tokens)-st.few)
	if _, err := drive(service, part/2, stream{requests: unseen, conns: conns, once: true}); err != nil {
		return err
	}
	return <-written
}
