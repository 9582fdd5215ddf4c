package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A redis is a real redis-server, and what is on the way to it.
type redis struct {
	dir, addr string
	cmd       *exec.Cmd

	way      net.Listener
	late     atomic.Int64 // so much later each piece arrives
	halfOpen atomic.Bool  // nothing arrives, and nobody is told

	mu     sync.Mutex
	conns  map[net.Conn]bool
	harmed map[string]int // how often :: what was done to it
}

const fleetSecret = "a secret of thirty-two characters or more"

func startRedis() (r *redis, err error) {
	r = &redis{conns: map[net.Conn]bool{}, harmed: map[string]int{}}
	if r.dir, err = os.MkdirTemp("", "redis"); err != nil {
		return nil, err
	}
	if r.addr, err = lab.FreeAddr(); err != nil {
		return nil, err
	}
	if r.way, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go r.forward()
	return r, r.start()
}

// env returns the settings of a replica that goes by the way on which things happen, or
// by none.
func (r *redis) env(byTheWay bool) []string {
	addr := r.addr
	if byTheWay {
		addr = r.way.Addr().String()
	}
	return []string{"AUTHGEAR_REDIS_URL=redis://" + addr, "AUTHGEAR_FLEET_SECRET=" + fleetSecret}
}

func (r *redis) start() error {
	_, port, _ := net.SplitHostPort(r.addr)
	r.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", r.dir)
	if err := r.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if _, err := r.do("PING"); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("redis-server does not listen at %s", r.addr)
}

// kill ends it as a crash does.
func (r *redis) kill() {
	r.cmd.Process.Signal(syscall.SIGCONT)
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

func (r *redis) close() {
	r.kill()
	r.way.Close()
	r.cut()
	os.RemoveAll(r.dir)
}

// do sends a command of one word or more, and returns the reply, which is a line or a text.
func (r *redis) do(command string) (string, error) {
	c, err := net.DialTimeout("tcp", r.addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err != nil || line[0] != '$' {
		return line, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return "", err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(in, text)
	return string(text), err
}

// commands returns how many commands about sessions Redis had since it started: neither those
// that look at its clock nor those that wait for events.
func (st *stand) commands() (n int) {
	if st.redis == nil {
		return 0
	}
	text, err := st.redis.do("INFO commandstats")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		calls, _, _ := strings.Cut(rest, ",")
		if slices.Contains([]string{"getrange", "get", "set", "del"}, name) {
			one, _ := strconv.Atoi(calls)
			n += one
		}
	}
	return n
}

// forward passes on what comes and goes, as the way is at the time.
func (r *redis) forward() {
	for {
		from, err := r.way.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", r.addr)
		if err != nil {
			from.Close()
			continue
		}
		r.mu.Lock()
		r.conns[from], r.conns[to] = true, true
		r.mu.Unlock()
		go r.pass(from, to)
		go r.pass(to, from)
	}
}

func (r *redis) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(r.late.Load()))
		if r.halfOpen.Load() {
			continue
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections.
func (r *redis) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

// harms are what happens to Redis: it begins, and ends after a while.
var harms = []struct {
	name       string
	begin, end func(*redis) error
}{
	{"killed", func(r *redis) error { r.kill(); return nil }, (*redis).start},
	{"paused", func(r *redis) error { return r.cmd.Process.Signal(syscall.SIGSTOP) }, func(r *redis) error { return r.cmd.Process.Signal(syscall.SIGCONT) }},
	{"flushed", (*redis).flush, func(*redis) error { return nil }},
	{"restarted", func(r *redis) error { r.kill(); return r.start() }, func(*redis) error { return nil }},
	{"slow", func(r *redis) error { r.late.Store(int64(time.Millisecond + rand.N(200*time.Millisecond))); return nil },
		func(r *redis) error { r.late.Store(0); return nil }},
	{"half-open", func(r *redis) error { r.halfOpen.Store(true); return nil }, func(r *redis) error { r.halfOpen.Store(false); r.cut(); return nil }},
}

func (r *redis) flush() error {
	_, err := r.do("FLUSHALL")
	return err
}

// harmRedis does one thing after another to Redis, each for some part of the bound.
func harmRedis(ctx context.Context, st *stand) (dead time.Time, err error) {
	end := time.Now().Add(st.window())
	for time.Now().Before(end) && ctx.Err() == nil {
		for _, i := range rand.Perm(len(harms)) {
			h := harms[i]
			if err := h.begin(st.redis); err != nil {
				return dead, fmt.Errorf("%s: %w", h.name, err)
			}
			sleep(ctx, st.bound/20+rand.N(st.bound*3/10))
			if err := h.end(st.redis); err != nil {
				return dead, fmt.Errorf("%s: %w", h.name, err)
			}
			st.redis.harmed[h.name]++
			sleep(ctx, rand.N(st.bound/5))
			if time.Now().After(end) || ctx.Err() != nil {
				break
			}
		}
	}
	return dead, nil
}

// faults tells what was done to Redis.
func (r *redis) faults() string {
	var list []string
	for _, h := range harms {
		list = append(list, fmt.Sprintf("%s %d times", h.name, r.harmed[h.name]))
	}
	return "Redis was " + strings.Join(list, ", ") + "."
}
