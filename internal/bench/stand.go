//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"authgear-forward-auth/internal/lab"
)

// A bench has what all rows need.
type bench struct {
	size
	ctx     context.Context
	dir     string
	binary  string // the service
	helpers string // this program

	origin string   // of Authgear
	jwks   string   // the file with its keys
	tokens []string // JWTs that it signed
}

// build builds the service as the Makefile does, and signs the tokens.
func (b *bench) build() (err error) {
	if b.helpers, err = os.Executable(); err != nil {
		return err
	}
	b.binary = filepath.Join(b.dir, "authgear-forward-auth")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, "authgear-forward-auth")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the service: %w\n%s", err, out)
	}
	addr, err := lab.FreeAddr()
	if err != nil {
		return err
	}
	b.origin = "http://" + addr
	var jwks []byte
	b.tokens, jwks = sign(b.origin, max(b.few, b.unseen))
	b.jwks = filepath.Join(b.dir, "jwks.json")
	if err := os.WriteFile(b.jwks, jwks, 0o644); err != nil {
		return err
	}
	return lab.Pin(loadCore) // what is started from here says where it runs
}

// play measures a row on a stand of its own.
func (b *bench) play(r row) ([]line, error) {
	st := &stand{bench: b}
	defer st.end()
	if _, err := st.authgear(); err != nil {
		return nil, err
	}
	return r.measure(st)
}

// A stand is where one row is measured: its servers run until it ends.
type stand struct {
	*bench
	running []*process
	asks    *questioned
}

func (st *stand) end() {
	if st.asks != nil {
		st.asks.end()
	}
	for _, p := range st.running {
		p.kill()
	}
}

// run starts a server and waits until it listens.
func (st *stand) run(core int, addr string, env []string, program string, args ...string) (*process, error) {
	if err := st.ctx.Err(); err != nil {
		return nil, err
	}
	p, err := start(st.dir, core, env, program, args...)
	if err != nil {
		return nil, err
	}
	st.running = append(st.running, p)
	return p, p.awaitListener(addr)
}

func (st *stand) authgear() (*process, error) {
	addr := strings.TrimPrefix(st.origin, "http://")
	return st.run(loadCore, addr, nil, st.helpers, "authgear", addr, st.jwks)
}

// A server is one that is measured.
type server struct {
	name      string
	addr      string
	processes []*process  // whose CPU time counts
	asks      *questioned // whom it asks about tokens; nil: Authgear, of which there is one for the row, or nobody
}

// floor starts a bare server. entries are those that it remembers; 0: it looks nothing
// up.
func (st *stand) floor(entries int) (server, error) {
	addr, err := lab.FreeAddr()
	if err != nil {
		return server{}, err
	}
	return st.floorAt(addr, entries)
}

func (st *stand) floorAt(addr string, entries int) (server, error) {
	s := server{name: "bare handler", addr: addr}
	args := []string{"bare", addr}
	if entries > 0 {
		s.name = "bare ristretto lookup"
		args = []string{"lookup", addr, strconv.Itoa(entries)}
	}
	p, err := st.run(serverCore, addr, nil, st.helpers, args...)
	s.processes = []*process{p}
	return s, err
}

// never is a bound so long that nothing is confirmed while a row is measured.
const never = "AUTHGEAR_MAX_STALENESS=6h"

// service starts the service with these settings.
func (st *stand) service(settings ...string) (server, error) {
	addr, err := lab.FreeAddr()
	if err != nil {
		return server{}, err
	}
	return st.serviceAt(addr, settings...)
}

func (st *stand) serviceAt(addr string, settings ...string) (server, error) {
	env := append([]string{"AUTHGEAR_ENDPOINT=" + st.origin, "AUTHGEAR_LISTEN=" + addr, "AUTHGEAR_ADMIN_LISTEN=127.0.0.1:0"}, settings...)
	p, err := st.run(serverCore, addr, env, st.binary)
	return server{name: "service", addr: addr, processes: []*process{p}}, err
}

// serviceThatAsksTheLoad starts the service with these settings, and the load answers what it
// asks about tokens.
func (st *stand) serviceThatAsksTheLoad(settings ...string) (s server, err error) {
	if st.asks == nil {
		if st.asks, err = newQuestioned(); err != nil {
			return server{}, err
		}
	}
	s, err = st.service(append([]string{"AUTHGEAR_RESOLVER_URL=http://" + st.asks.addr + "/_resolver/resolve"}, settings...)...)
	s.asks = st.asks
	return s, err
}

// remember makes the server remember the answers to the questions. It asks again if
// one is answered otherwise than 200: a busy machine may miss a deadline.
func (st *stand) remember(s server, r *requests) error {
	for range 3 {
		if err := st.ctx.Err(); err != nil {
			return err
		}
		out, err := drive(s, hour, stream{requests: r, conns: min(conns, r.len()), once: true})
		if err != nil || out[0].not200 == 0 {
			return err
		}
	}
	said, _ := os.ReadFile(s.processes[0].output)
	return fmt.Errorf("%s: not all first answers are 200\n%s", s.name, said[max(0, len(said)-2000):])
}
