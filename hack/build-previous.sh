#!/usr/bin/env bash
# Builds the release before this one into bin/previous, its program and its chart, for the tests of upgrades.
# That is the last tag before this commit; as long as there is none, the first commit that had a chart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=bin/previous

if [[ $(git rev-parse --is-shallow-repository 2>/dev/null) != false ]]; then
	echo "the release before this one is in git's history, which is not here; get it with: git fetch --unshallow --tags" >&2
	exit 1
fi
name=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git log --diff-filter=A --format=%h -- charts/servicegroup/Chart.yaml | tail -1)
commit=$(git rev-parse "$name^{commit}")
if [[ $(cat "$out/commit" 2>/dev/null) == "$commit" ]]; then
	exit 0
fi

echo "building $name, the release before this one ..."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$commit" | tar x -C "$tree"
rm -rf "$out"
mkdir -p "$out"
(cd "$tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$name" -o "$OLDPWD/$out/servicegroup" .)
cp -r "$tree/charts/servicegroup" "$out/chart"
echo "$commit" >"$out/commit"
