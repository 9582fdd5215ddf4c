#!/bin/sh
# Runs the main job: a development Authgear, an application, the service and real
# nginx with the shipped configuration. Prints what to try. Ctrl-C ends all.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

logs=$(mktemp -d)
children=
finish() {
	trap '' EXIT HUP INT TERM
	for pid in $children; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$logs"
}
trap finish EXIT
trap 'exit 130' HUP INT TERM # HUP: the terminal was closed, which nginx would take for a reload

# start NAME URL COMMAND...: run it, and wait until the URL answers anything.
start() {
	name=$1 url=$2
	shift 2
	if curl -so /dev/null --max-time 1 "$url"; then
		echo "Something else answers at $url: end it first." >&2
		exit 1
	fi
	"$@" >"$logs/$name" 2>&1 &
	pid=$!
	children="$children $pid"
	i=0
	until curl -so /dev/null --max-time 1 "$url"; do
		i=$((i + 1))
		if [ $i -gt 100 ] || ! kill -0 "$pid" 2>/dev/null; then
			echo "$name did not start:" >&2
			cat "$logs/$name" >&2
			exit 1
		fi
		sleep 0.1
	done
}

go build -o bin/authgear-dev ./internal/authgeartest/authgear-dev
start authgear-dev http://127.0.0.1:3000/healthz bin/authgear-dev
start authgear-forward-auth http://127.0.0.1:4181/healthz \
	env AUTHGEAR_ENDPOINT=http://127.0.0.1:3000 AUTHGEAR_LISTEN=127.0.0.1:4180 AUTHGEAR_LOG_DECISIONS=all bin/authgear-forward-auth
start nginx http://127.0.0.1:8080/ nginx -c "$PWD/nginx/nginx.conf" -g 'daemon off;'

cat "$logs/authgear-dev"
echo "# All of it runs until Ctrl-C. What the service decides:"
tail -n +1 -f "$logs/authgear-forward-auth" &
children="$children $!"
wait
