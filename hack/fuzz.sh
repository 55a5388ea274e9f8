#!/usr/bin/env bash
# Runs every fuzz target for a bounded time each:
#
#   hack/fuzz.sh 30s
#
# Go tells the end of the time as a failure, "context deadline exceeded", when it comes while an input is
# minimized; that is none unless an input was written down, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT
while read -r file name; do
	echo "fuzzing $name of $(dirname "$file") for $1"
	if go test -run="^$name\$" -fuzz="^$name\$" -fuzztime="$1" "$(dirname "$file")" >"$output" 2>&1; then
		tail -n 1 "$output"
	elif grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input written' "$output"; then
		echo "ended in the middle of an input"
	else
		cat "$output"
		exit 1
	fi
done < <(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sed 's/:func / /' | sort)
