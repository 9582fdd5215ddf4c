package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// A service is the real one, as a process, and a client of it.
type service struct {
	binary string
	env    []string
	addr   string
	admin  string
	client *fasthttp.HostClient
	isOut  atomic.Bool // it gets no requests

	cmd *exec.Cmd
	out *tail
}

// build returns the path of the service in dir.
func build(dir string) (string, error) {
	binary := filepath.Join(dir, "authgear-forward-auth")
	if out, err := exec.Command("go", "build", "-o", binary, "authgear-forward-auth").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the service: %w\n%s", err, out)
	}
	return binary, nil
}

// webhookSecret is what Authgear signs its events with.
const webhookSecret = "a secret of sixteen characters or more"

func newService(binary, endpoint string, env []string) (*service, error) {
	var addrs [2]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	s := &service{binary: binary, addr: addrs[0], admin: addrs[1]}
	s.env = append(os.Environ(), "AUTHGEAR_ENDPOINT="+endpoint, "AUTHGEAR_LISTEN="+addrs[0], "AUTHGEAR_ADMIN_LISTEN="+addrs[1],
		"AUTHGEAR_LOG_DECISIONS=none", "AUTHGEAR_WEBHOOK_SECRET="+webhookSecret)
	s.env = append(s.env, env...)
	s.client = &fasthttp.HostClient{
		Addr:                      s.addr,
		MaxConns:                  1 << 14,
		MaxIdemponentCallAttempts: 1, // a second attempt would have another beginning
	}
	return s, nil
}

// start runs the service until it is ended, and waits until it listens.
func (s *service) start() error {
	s.out = &tail{}
	s.cmd = exec.Command(s.binary)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env, s.out, s.out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			c.Close()
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill()
	return fmt.Errorf("the service does not listen at %s:\n%s", s.addr, s.out)
}

// kill ends the service as a crash does, and returns when it is dead.
func (s *service) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// restart ends it as an orchestrator does, and starts it again. It returns when it is ready.
func (s *service) restart() error {
	s.isOut.Store(true)
	time.Sleep(100 * time.Millisecond) // for what is on the way
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the service ended with %w\n%s", err, s.out)
	}
	s.client.CloseIdleConnections() // which lead nowhere
	if err := s.start(); err != nil {
		return err
	}
	for range 1000 {
		if status, _, err := fasthttp.Get(nil, "http://"+s.admin+"/readyz"); err == nil && status == fasthttp.StatusOK {
			s.isOut.Store(false)
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the service is not ready:\n%s", s.out)
}

// looks returns how often the service looked at what it remembers, and how often it found
// a session there that would do.
func (s *service) looks() (all, hits float64, err error) {
	_, body, err := fasthttp.Get(nil, "http://"+s.admin+"/metrics")
	for line := range strings.Lines(string(body)) {
		labels, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if result, ok := strings.CutPrefix(labels, `authgear_forward_auth_sessions_total{result="`); ok && result != `refresh"}` {
			n, _ := strconv.ParseFloat(value, 64)
			all += n
			if result == `hit"}` {
				hits += n
			}
		}
	}
	return all, hits, err
}

// resident is how much memory the service has now, as Linux tells.
func (s *service) resident() string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(size)
		}
	}
	return "unknown"
}

// An answer is what a client got for one request. Status 0: nothing.
type answer struct {
	start, end time.Time // just before the request, and just after the answer
	status     int
	wrong      bool // it is a 200 that names somebody else
}

// mostPatience is how long a client waits. The service answers before that.
const mostPatience = 30 * time.Second

// ask sends one request of the session by way of a connection that is kept.
func (s *service) ask(who *session) answer {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + s.addr + "/nginx")
	req.Header.Set(who.field, who.value)
	a := answer{start: time.Now()}
	err := s.client.DoTimeout(req, resp, mostPatience)
	a.end = time.Now()
	if err == nil {
		a.status = resp.StatusCode()
		a.wrong = a.status == fasthttp.StatusOK && (who.user == nil || string(resp.Header.Peek("X-Authgear-User-Id")) != who.user.ID)
	}
	return a
}

// forget tells the service that the session was signed out.
func (s *service) forget(who *session) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + s.addr + "/forget")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.Set(who.field, who.value)
	if err := s.client.DoTimeout(req, resp, mostPatience); err != nil {
		return fmt.Errorf("POST /forget: %w", err)
	}
	if resp.StatusCode() != fasthttp.StatusNoContent {
		return errors.New("POST /forget: " + string(resp.Header.StatusMessage()))
	}
	return nil
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 8 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
