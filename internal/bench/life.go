//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"authgear-forward-auth/internal/lab"
)

// starts measures how long the service takes from its start to its first right
// answer: 401 to nobody while Authgear is away, else 200 to a JWT.
func starts(st *stand) (lines []line, err error) {
	nobody, somebody := question(path, "Accept-Language: en"), question(path, jwts(st.tokens).field(0))
	gone, err := lab.FreeAddr()
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		work, endpoint, question, status string
		limit                            float64
	}{
		{"start, Authgear away", "http://" + gone, nobody, "401", 50},
		{"start, Authgear present, with one fetch of the keys", st.origin, somebody, "200", 100},
	} {
		var times []float64
		for range 2*st.long.rounds + 1 {
			d, err := st.startOnce(c.endpoint, c.question, c.status)
			if err != nil {
				return nil, err
			}
			times = append(times, float64(d))
		}
		all := spreadOf(times)
		lines = append(lines, line{work: c.work, measure: "process start to the first " + c.status,
			subject: fmt.Sprintf("%s (%s–%s)", millis(time.Duration(all.median)), millis(time.Duration(all.low)), millis(time.Duration(all.high))),
			value:   all.median / 1e6, target: atMost(c.limit, "ms")})
	}
	return lines, nil
}

func (st *stand) startOnce(endpoint, question, status string) (time.Duration, error) {
	addr, err := lab.FreeAddr()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	p, err := start(st.dir, serverCore, []string{"AUTHGEAR_ENDPOINT=" + endpoint, "AUTHGEAR_LISTEN=" + addr, "AUTHGEAR_ADMIN_LISTEN=127.0.0.1:0"}, st.binary)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	err = firstAnswer(addr, []byte(question), status)
	return time.Since(begin), err
}

// idle measures a service that has nothing to do, and its program.
func idle(st *stand) ([]line, error) {
	service, err := st.service()
	if err != nil {
		return nil, err
	}
	if err := firstAnswer(service.addr, []byte(question(path, jwts(st.tokens).field(0))), "200"); err != nil {
		return nil, err
	}
	time.Sleep(st.long.each)
	size, err := service.processes[0].resident()
	if err != nil {
		return nil, err
	}
	program, err := os.Stat(st.binary)
	if err != nil {
		return nil, err
	}
	file := float64(program.Size())
	return []line{
		{work: "idle", measure: "resident memory", subject: megabytes(size), value: size / 1e6, target: atMost(25, "MB")},
		{work: "program", measure: "size", subject: megabytes(file), value: file / 1e6, target: atMost(15, "MB")},
	}, nil
}

// firstAnswer asks until the answer has this status.
func firstAnswer(addr string, question []byte, status string) error {
	for begin := time.Now(); time.Since(begin) < patience; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue // it does not listen yet
		}
		var b [1 << 10]byte
		if _, err = c.Write(question); err == nil {
			_, err = c.Read(b[:])
		}
		c.Close()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(b[:], []byte("HTTP/1.1 "+status)) {
			return nil
		}
	}
	return fmt.Errorf("%s does not answer %s", addr, status)
}

// allocations are counted by the benchmark of the gate.
func allocations(st *stand) (lines []line, err error) {
	const name = "BenchmarkGate"
	out, err := exec.CommandContext(st.ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchmem", "-benchtime", "100000x",
		"authgear-forward-auth/internal/forwardauth").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	for _, m := range regexp.MustCompile(name+`/(\S+?)(?:-\d+)?\s.*\s(\d+) allocs/op`).FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{work: "remembered " + strings.ReplaceAll(m[1], "_", " "), measure: "allocations per request in our code",
			subject: m[2], value: n, target: atMost(0, "per request")})
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s tells no allocations:\n%s", name, out)
	}
	return lines, nil
}
