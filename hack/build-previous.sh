#!/usr/bin/env bash
# Brings the release before this one into bin/previous: its program, its chart, and its kustomize tree, for
# the tests of upgrades. That is the last tag before this commit; as long as there is none, the first commit
# that had a chart. A clone without history has neither, and this commit stands for them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/bin/previous

if [[ $(git rev-parse --is-shallow-repository) == true ]]; then
	echo "git's history is not here, so upgrades are tested from this commit to itself; git fetch --unshallow --tags gets it" >&2
	name=HEAD
else
	name=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git log --diff-filter=A --format=%h -- charts/servicegroup/Chart.yaml | tail -1)
fi
commit=$(git rev-parse "$name^{commit}")
if [[ $(cat "$out/commit" 2>/dev/null) == "$commit" && $out/commit -nt hack/build-previous.sh ]]; then
	exit 0
fi

echo "building $name, the release before this one ..."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$commit" | tar x -C "$tree"
rm -rf "$out"
mkdir -p "$out/bin" "$out/hack"
(cd "$tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$name" -o "$out/bin/servicegroup" .)
cp -r "$tree/charts" "$tree/config" "$out"
cp "$tree/hack/kustomize.sh" "$out/hack"
ln -s ../../kustomize "$out/bin/kustomize"
echo "$commit" >"$out/commit"
