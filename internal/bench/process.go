//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process is one that is measured, or that helps, on a core of its own.
type process struct {
	cmd    *exec.Cmd
	output string // the file that it writes to
}

// start runs a program on a core, with these variables of its own. Go programs take
// the number of their threads from it.
func start(dir string, core int, env []string, program string, args ...string) (*process, error) {
	out, err := os.CreateTemp(dir, filepath.Base(program)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{output: out.Name()}
	p.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(core), program}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	return p, p.cmd.Start()
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// patience is how long something that must happen may take.
const patience = 10 * time.Second

// awaitListener waits until somebody listens at an address.
func (p *process) awaitListener(addr string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c, err := dial(addr); err == nil {
			return c.Close()
		}
	}
	said, _ := os.ReadFile(p.output)
	return fmt.Errorf("%s does not listen at %s:\n%s", strings.Join(p.cmd.Args, " "), addr, bytes.TrimSpace(said))
}

// dial connects to host:port or unix:/path.
func dial(addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", addr)
}

// cpu is the time that a process has had of its core so far.
func cpu(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED: the sum over its threads, by the nanosecond
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

func cpuOf(ps []*process) (sum time.Duration, err error) {
	for _, p := range ps {
		d, err := cpu(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// resident is how much memory the process has now, in bytes.
func (p *process) resident() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 64)
			return kB * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", p.cmd.Process.Pid)
}
