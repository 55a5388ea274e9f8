#!/usr/bin/env bash
# Builds the image for several platforms with buildah or docker, and pushes them under one name:
#
#   CONTAINER_TOOL=buildah hack/push-image.sh IMAGE PLATFORM[,PLATFORM ...] [NAME=VALUE ...]
#
# The rest are arguments of the Dockerfile. Every file gets the time SOURCE_DATE_EPOCH, by default that of the
# commit, and the platforms are sorted, so that a commit gives the same image wherever it is built.
set -euo pipefail
if (($# < 2)); then
	echo "usage: hack/push-image.sh IMAGE PLATFORM[,PLATFORM ...] [NAME=VALUE ...]" >&2
	exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=$1 platforms=$(tr , '\n' <<<"$2" | LC_ALL=C sort -u)
shift 2
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
tool=${CONTAINER_TOOL:-buildah}
if ! command -v "$tool" >/dev/null; then
	echo "$tool is missing; get buildah with: apt-get install buildah, or set CONTAINER_TOOL=docker, which needs buildx" >&2
	exit 1
fi

case ${tool##*/} in
buildah)
	# Older ones know no BUILDPLATFORM, and newer ones read SOURCE_DATE_EPOCH, which would be the time twice.
	unset SOURCE_DATE_EPOCH
	list=$("$tool" manifest create "localhost/push-image:$$")
	trap '"$tool" manifest rm "$list" >/dev/null' EXIT
	# Asked for several platforms at once, it lists them in the order in which they happened to be finished.
	for platform in $platforms; do
		"$tool" build --platform="$platform" --manifest="localhost/push-image:$$" --identity-label=false --timestamp="$epoch" \
			--build-arg=BUILDPLATFORM="linux/$(go env GOHOSTARCH)" "${@/#/--build-arg=}" .
	done
	"$tool" manifest push --all --format=oci "$list" "docker://$image"
	;;
docker)
	SOURCE_DATE_EPOCH=$epoch "$tool" buildx build --platform="${platforms//$'\n'/,}" "${@/#/--build-arg=}" \
		--output=type=registry,rewrite-timestamp=true --tag="$image" .
	;;
*)
	echo "CONTAINER_TOOL=$tool is neither buildah nor docker" >&2
	exit 2
	;;
esac
