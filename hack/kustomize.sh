#!/usr/bin/env bash
# Prints config/NAME with an image and optional components:
#
#   hack/kustomize.sh default IMAGE [policies] [monitoring]
set -euo pipefail
if (($# < 2)); then
	echo "usage: hack/kustomize.sh NAME IMAGE [COMPONENT ...]" >&2
	exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=$1 image=$2
shift 2
mkdir -p dist
overlay=$(mktemp -d dist/kustomize.XXXXXX)
trap 'rm -rf "$overlay"' EXIT
{
	printf 'resources: [../../config/%s]\n' "$name"
	if (($#)); then echo components:; fi
	for component; do
		if [[ ! -d config/components/$component ]]; then
			echo "there is no component \"$component\"; it is one of: $(ls config/components | xargs)" >&2
			exit 2
		fi
		printf -- '- ../../config/components/%s\n' "$component"
	done
} >"$overlay/kustomization.yaml"
(cd "$overlay" && ../../bin/kustomize edit set image "ghcr.io/servicegroup-dev/servicegroup=$image")
bin/kustomize build "$overlay"
