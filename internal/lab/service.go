package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// A Service is the real one, as a process, and a client of it.
type Service struct {
	Addr  string // of the main listener
	Admin string // of the operator's

	binary string
	env    []string
	client *fasthttp.HostClient

	cmd *exec.Cmd
	pid atomic.Int64 // of cmd, for those who look on while it is restarted
	out *tail
}

// WebhookSecret is what Authgear signs its events with.
const WebhookSecret = "a secret of sixteen characters or more"

// NewService returns a service that is not started yet, at addresses of its own.
func NewService(binary, endpoint string, env []string) (*Service, error) {
	var addrs [2]string
	for i := range addrs {
		var err error
		if addrs[i], err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	s := &Service{binary: binary, Addr: addrs[0], Admin: addrs[1]}
	s.env = append(os.Environ(), "AUTHGEAR_ENDPOINT="+endpoint, "AUTHGEAR_LISTEN="+s.Addr, "AUTHGEAR_ADMIN_LISTEN="+s.Admin,
		"AUTHGEAR_LOG_DECISIONS=none", "AUTHGEAR_WEBHOOK_SECRET="+WebhookSecret)
	s.env = append(s.env, env...)
	s.client = newClient(s.Addr)
	return s, nil
}

// ServiceAt returns one that somebody else runs, to ask it.
func ServiceAt(addr string) *Service { return &Service{Addr: addr, client: newClient(addr)} }

func newClient(addr string) *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr:                      addr,
		MaxConns:                  1 << 14,
		ConnPoolStrategy:          fasthttp.LIFO, // those of a rush end when it is over
		MaxIdemponentCallAttempts: 1,             // a second attempt would have another beginning
	}
}

// Start runs the service until it is ended, and waits until it listens.
func (s *Service) Start() error {
	s.out = &tail{}
	s.cmd = exec.Command(s.binary)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env, s.out, s.out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.pid.Store(int64(s.cmd.Process.Pid))
	for range 1000 {
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Kill()
	return fmt.Errorf("the service does not listen at %s:\n%s", s.Addr, s.out)
}

// Kill ends the service as a crash does, and returns when it is dead.
func (s *Service) Kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// Stop ends the service as an operator does.
func (s *Service) Stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the service ends with: %w\n%s", err, s.out)
	}
	return nil
}

// CloseIdleConnections ends those that Ask keeps: when the service was stopped, they lead
// nowhere.
func (s *Service) CloseIdleConnections() { s.client.CloseIdleConnections() }

// AwaitReady returns when the service says that it is ready.
func (s *Service) AwaitReady() error {
	for range 1000 {
		if status, _, err := fasthttp.Get(nil, "http://"+s.Admin+"/readyz"); err == nil && status == fasthttp.StatusOK {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the service is not ready:\n%s", s.out)
}

// Output is the end of what the service has written since it was started.
func (s *Service) Output() string { return s.out.String() }

// Resident is how much memory the service has now, in bytes.
func (s *Service) Resident() int64 { return Resident(int(s.pid.Load())) }

// Resident is how much memory a process has now, in bytes, as Linux tells.
func Resident(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 10, 64)
			return kB << 10
		}
	}
	return 0
}

// Files is how many file descriptors the service has open.
func (s *Service) Files() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid.Load()))
	if err != nil {
		return 0
	}
	return len(list)
}

// Figures are what the service's /metrics tell. :: name with its labels → value
func (s *Service) Figures() (map[string]float64, error) {
	status, body, err := fasthttp.GetTimeout(nil, "http://"+s.Admin+"/metrics", MostPatience)
	if err != nil {
		return nil, err
	}
	if status != fasthttp.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d", status)
	}
	figures := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil {
			figures[line[:i]] = v
		}
	}
	return figures, nil
}

// An Answer is what a client got for one request. Status 0: nothing.
type Answer struct {
	Start, End time.Time // just before the request, and just after the answer
	Status     int
	Wrong      bool // it is a 200 that names somebody else
	Roles      string
}

// MostPatience is how long a client waits. The service answers before that.
const MostPatience = 30 * time.Second

// Ask sends one request of the session by way of a connection that is kept.
func (s *Service) Ask(who *Session) Answer { return s.AskAt("/nginx", who) }

// AskAt is like Ask for a path that has a policy.
func (s *Service) AskAt(path string, who *Session) Answer {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + s.Addr + path)
	if who.Field != "" {
		req.Header.Set(who.Field, who.Value)
	}
	a := Answer{Start: time.Now()}
	err := s.client.DoTimeout(req, resp, MostPatience)
	a.End = time.Now()
	if err != nil {
		return a
	}
	a.Status = resp.StatusCode()
	if a.Status == fasthttp.StatusOK {
		want := ""
		if who.User != nil {
			want = who.User.ID
		}
		a.Wrong = string(resp.Header.Peek("X-Authgear-User-Id")) != want
		a.Roles = string(resp.Header.Peek("X-Authgear-User-Roles"))
	}
	return a
}

// Forget tells the service that the session was signed out.
func (s *Service) Forget(who *Session) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + s.Addr + "/forget")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.Set(who.Field, who.Value)
	if err := s.client.DoTimeout(req, resp, MostPatience); err != nil {
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
