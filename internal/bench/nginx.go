//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/internal/snippet"
	"authgear-forward-auth/nginx"
)

// behindNginx compares what a request costs nginx and the service with what it costs
// nginx and the bare handler.
func behindNginx(st *stand) (lines []line, err error) {
	one := questions(jwts(st.tokens), "/", 1)
	s := stream{requests: one, conns: conns}
	for _, socket := range []bool{true, false} {
		name := "TCP"
		var addrs [2]string
		for i := range addrs {
			if addrs[i], err = lab.FreeAddr(); err != nil {
				return nil, err
			}
			if socket {
				name = "unix socket"
				addrs[i] = "unix:" + filepath.Join(st.dir, fmt.Sprintf("auth%d.sock", i))
			}
		}
		floor, err := st.floorAt(addrs[0], 0)
		if err != nil {
			return nil, err
		}
		service, err := st.serviceAt(addrs[1], never)
		if err != nil {
			return nil, err
		}
		var fronts [2]server
		for i, auth := range []server{floor, service} {
			if fronts[i], err = st.nginx(auth); err != nil {
				return nil, err
			}
		}
		got, err := st.inTurn(st.short, fronts[0].load(s), fronts[1].load(s))
		if err != nil {
			return nil, err
		}
		r := ratio(got[1], got[0], cost)
		lines = append(lines, line{work: "nginx + auth_request, " + name + ", keep-alive", measure: "CPU per request, nginx and auth server, against the bare handler",
			floor: costs(got[0]), subject: costs(got[1]), ratio: &r, target: atMost(1.05, "")})
	}
	return lines, nil
}

// ownCache compares nginx that reuses an answer of the service for a second with nginx
// that keeps the resolver's for ten minutes, as Authgear documents it.
func ownCache(st *stand) ([]line, error) {
	one := questions(jwts(st.tokens), "/", 1)
	service, err := st.service(never, "AUTHGEAR_PROXY_CACHE=1s")
	if err != nil {
		return nil, err
	}
	ours, err := st.nginx(service, nginx.Cache...)
	if err != nil {
		return nil, err
	}
	recipe, err := st.startNginx("internal/doctor/testdata/documented.conf", server{name: "recipe"},
		"127.0.0.1:3001", strings.TrimPrefix(st.origin, "http://"),
		"proxy_pass http://127.0.0.1:8000;", "empty_gif;")
	if err != nil {
		return nil, err
	}
	s := stream{requests: one, conns: conns}
	got, err := st.inTurn(st.short, recipe.load(s), ours.load(s))
	if err != nil {
		return nil, err
	}
	r := ratio(got[1], got[0], busy)
	return []line{{work: "nginx with its own cache, 1 s", measure: byCore + ", against Authgear's documented `proxy_cache`, 10 min",
		floor: rates(got[0]), subject: rates(got[1]), ratio: &r, target: atLeast(0.98)}}, nil
}

// nginx starts nginx with the shipped configuration, and further edits of it, in front
// of an auth server. It answers what may pass by itself, so that no application is
// measured.
func (st *stand) nginx(auth server, edits ...string) (server, error) {
	return st.startNginx("nginx/nginx.conf", auth, append(edits,
		"worker_processes auto;", "worker_processes 1;",
		"server 127.0.0.1:4180;", "server "+auth.addr+";",
		"auth_request /_authgear;\n            proxy_pass http://app;", "auth_request /_authgear;\n            empty_gif;")...)
}

// startNginx starts nginx as one process with a file of the repository, edited.
func (st *stand) startNginx(file string, auth server, edits ...string) (server, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return server{}, fmt.Errorf("run this at the top of the repository: %w", err)
	}
	addr, err := lab.FreeAddr()
	if err != nil {
		return server{}, err
	}
	dir, err := os.MkdirTemp(st.dir, "nginx")
	if err != nil {
		return server{}, err
	}
	edited, err := snippet.Edit(string(text), append(edits,
		"error_log stderr warn;", "error_log stderr warn;\nmaster_process off;\ndaemon off;",
		"/tmp/authgear-nginx", dir+"/nginx",
		"listen 8080;", "listen "+addr+";\n        keepalive_requests 1000000000;")...)
	if err != nil {
		return server{}, fmt.Errorf("%s: %w", file, err)
	}
	edited = strings.ReplaceAll(edited, "/dev/shm/authgear-nginx-cache", dir+"/cache")
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(edited), 0o644); err != nil {
		return server{}, err
	}
	p, err := st.run(serverCore, addr, nil, program, "-p", dir, "-c", conf)
	return server{name: "nginx → " + auth.name, addr: addr, processes: append([]*process{p}, auth.processes...)}, err
}
