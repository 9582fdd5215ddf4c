#!/usr/bin/env bash
# Runs every fuzz target of this module for the given time, one after another. They are
# found by their names; what one finds is in the testdata/fuzz beside it. Without
# -fuzzminimizetime Go takes most of the time to shorten what reaches new code.
set -euo pipefail
cd "$(dirname "$0")/.."

# justLate is whether all that failed is that the time was over: Go before 1.27 sometimes
# takes its own end for a failure (go.dev/issue/75804). Whatever a target finds, or says,
# has more lines than these.
justLate() {
	grep -A1 "^--- FAIL: $target (" <<<"$out" | grep -qx '    context deadline exceeded' &&
		! grep -qi 'failing input\|panic\|_test.go:' <<<"$out"
}

for package in $(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do
	targets=$(go test -list '^Fuzz' "$package")
	for target in $(grep '^Fuzz' <<<"$targets"); do
		out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x "$package" 2>&1) ||
			justLate || { echo "$out"; exit 1; }
		echo "$package $target $(grep -o 'elapsed: .*' <<<"$out" | tail -1)"
	done
done
