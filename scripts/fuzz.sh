#!/usr/bin/env bash
# Runs every fuzz target of this module for the given time, one after another. They are
# found by their names; what one finds is in the testdata/fuzz beside it. Without
# -fuzzminimizetime Go takes most of the time to shorten what reaches new code.
set -euo pipefail
cd "$(dirname "$0")/.."
for package in $(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do
	targets=$(go test -list '^Fuzz' "$package")
	for target in $(grep '^Fuzz' <<<"$targets"); do
		out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x "$package" 2>&1) || { echo "$out"; exit 1; }
		echo "$package $target $(grep -o 'elapsed: .*' <<<"$out" | tail -1)"
	done
done
