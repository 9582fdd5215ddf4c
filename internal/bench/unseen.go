//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// unseen compares JWTs that come once each with signatures verified in a loop. Each
// round has a new process, to which all are new.
func unseen(st *stand) (lines []line, err error) {
	all := questions(jwts(st.tokens), path, st.unseen)
	for _, mode := range []string{"jwt", "hybrid"} {
		fresh := func(time.Duration) (sample, error) {
			service, err := st.service(never, roomFor(st.unseen), "AUTHGEAR_MODE="+mode)
			if err != nil {
				return sample{}, err
			}
			defer service.processes[0].kill()
			time.Sleep(window) // for the keys
			return service.load(stream{requests: all, conns: conns, once: true, awake: true})(hour)
		}
		got, err := st.inTurn(st.long, st.verify, fresh)
		if err != nil {
			return nil, err
		}
		l := compared("unseen JWT, whole path, mode "+mode, got[0], got[1], atLeast(0.70), server{name: "loop of crypto/rsa"})
		l.floor = fmt.Sprintf("%s/s (%s)", thousands(typical(got[0], busy)), costs(got[0]))
		l.subject = fmt.Sprintf("%s/s (%s)", thousands(typical(got[1], busy)), costs(got[1]))
		if mode != "jwt" {
			l.work += ": each is confirmed behind"
			l.target = target{}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func (st *stand) verify(d time.Duration) (sample, error) {
	p, err := start(st.dir, serverCore, nil, st.helpers, "verify", d.String())
	if err != nil {
		return sample{}, err
	}
	if err := p.cmd.Wait(); err != nil {
		return sample{}, err
	}
	said, err := os.ReadFile(p.output)
	if err != nil {
		return sample{}, err
	}
	each, err := strconv.ParseFloat(strings.TrimSpace(string(said)), 64)
	return sample{cost: time.Duration(each)}, err
}
