# Two commands do all set-up: `make demo` runs the main job, `make test` passes the tests.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: all demo test fuzz freshness floods faults soak memory bench profile build lint vulnerabilities nginx haproxy redis-server systemd-analyze chromium proxies containers alerts page

all: build

# nethttpomithttp2: nothing here speaks HTTP/2, which would be half a megabyte.
build:
	CGO_ENABLED=0 go build -tags nethttpomithttp2 -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/authgear-forward-auth .

demo: nginx build
	@scripts/demo.sh

# count: a remembered result knows nothing of the service, which is a process of
# its own. p: the tests of outages and freshness want the machine for themselves.
# Without the detector of races: allocations, of which it makes some, and the connections of
# internal/direct, which it must not see, with what rests on them.
test: nginx haproxy redis-server systemd-analyze chromium proxies lint containers alerts page
	go test -race -count=1 -p=1 ./...
	go test -count=1 -run 'Allocates|Direct' ./cache ./internal/forwardauth ./internal/direct
	go test -count=1 -p=1 -run 'UnixSocket|Systemd|Stop|KeepsNobodyOut|StandsStill|ManyRequests' . ./nginx ./haproxy ./caddy
	scripts/fuzz.sh 5s

# fuzz runs every fuzz target for so long, one after another; `make test` runs each for
# 5 s. A target is found by its name, so there is no list to keep.
FUZZTIME = 30s
fuzz:
	scripts/fuzz.sh $(FUZZTIME)

# freshness measures how long after a revocation the last request passes. It takes
# some 20 minutes, -only fleet some 9 of them; `make test` runs a short form.
freshness: redis-server
	go run ./internal/freshness

# These put the real service through what docs/reliability.md tells, and write its tables:
# some 12, 3, 30 and 15 minutes. `make test` runs short forms.
floods faults soak memory:
	go run ./internal/reliability -update docs/reliability.md $@

# bench measures what the service costs, beside the least that it could, and writes
# the table of docs/benchmarks.md. It takes some 20 minutes on a quiet machine of two
# cores; `go run ./internal/bench -only hot` measures some rows, -quick gives a short form.
bench: nginx
	go run ./internal/bench -update docs/benchmarks.md

# profile writes what the service does most, which Go's compiler takes into account
# wherever the program is built. It takes some 40 seconds; a profile of older code does no harm.
profile:
	go run ./internal/bench -profile default.pgo

lint:
	test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(ACTIONLINT) .github/workflows/*.yml

# vulnerabilities asks vuln.go.dev, so it needs the network: CI runs it.
vulnerabilities:
	go run $(GOVULNCHECK) ./...

# nginx is what the demo runs. The tests run HAProxy and Redis, too, ask systemd what it
# makes of our units, and look at the status page in Chromium.
nginx: PACKAGE = nginx-light
haproxy: PACKAGE = haproxy
redis-server: PACKAGE = redis-server
systemd-analyze: PACKAGE = systemd
chromium: PACKAGE = chromium
nginx haproxy redis-server systemd-analyze chromium:
	@command -v $@ >/dev/null || [ -x /usr/sbin/$@ ] || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGE); \
		else \
			echo '$@ is missing. Install it, for example: sudo apt-get install $(PACKAGE)' >&2; exit 1; \
		fi; }

# proxies are those that no package has, built from their published modules. Each in
# a module of its own: so the service's dependencies stay few, and theirs are
# those of their release. The first time takes some minutes.
proxies: bin/caddy bin/traefik

bin/caddy: e2e/caddy/go.mod
	cd e2e/caddy && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../$@ github.com/caddyserver/caddy/v2/cmd/caddy

bin/lego/go.mod: e2e/traefik/lego.sh
	e2e/traefik/lego.sh

bin/traefik: e2e/traefik/go.mod e2e/traefik/lego.sh | bin/lego/go.mod
	cd e2e/traefik && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../$@ github.com/traefik/traefik/v3/cmd/traefik

# containers checks what can be known without Docker and Kubernetes: the Compose files
# and the Dockerfile as Docker reads them, the programs that its commands build, what
# kustomize makes of deploy/kubernetes by the schemas of Kubernetes, Envoy's configuration
# as Envoy reads it, and Traefik's labels as Traefik reads them (built as bin/traefik, so
# compiled once).
# count: a remembered result knows nothing of files outside its module.
containers: bin/traefik bin/lego/go.mod
	cd e2e/compose && go vet ./... && go test -count=1 ./...
	cd e2e/kubernetes && go vet ./... && go test -count=1 ./...
	cd e2e/envoy && go vet ./... && go test -count=1 ./...
	cd e2e/traefik && CGO_ENABLED=0 go test -count=1 -trimpath ./...

# alerts checks the alerts and the dashboard by Prometheus's own code, against what the
# service exports.
alerts:
	cd e2e/prometheus && go vet ./... && go test -count=1 ./...

# page looks at the status page as an operator does. `cd e2e/page && go test -run Pictures
# -update` makes the pictures of docs/status-page.md anew.
page: chromium
	cd e2e/page && go vet ./... && go test -count=1 ./...
