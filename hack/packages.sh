#!/usr/bin/env bash
# Installs the Debian packages of the programs that are missing:
#
#   hack/packages.sh PROGRAM ...
#
# It needs root and apt-get; elsewhere it fails, and names the line to run.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

packages=()
for program in "$@"; do
	case $program in
	# Building and running the image needs root, and without it those tests are skipped.
	buildah | crun | qemu-*-static) if ((EUID)); then continue; fi ;;
	esac
	if command -v "$program" >/dev/null; then continue; fi
	case $program in
	nft) packages+=(nftables) ;;
	gcc) packages+=(gcc libc6-dev) ;; # for the race detector
	qemu-*-static) packages+=(qemu-user-static) ;;
	*) packages+=("$program") ;;
	esac
done
if ((${#packages[@]} == 0)); then exit 0; fi

if ((EUID)) || ! command -v apt-get >/dev/null; then
	sudo=sudo
	if ((EUID == 0)); then sudo=''; fi
	echo "programs are missing; get them with: ${sudo:+$sudo }apt-get install ${packages[*]}" >&2
	exit 1
fi
echo "installing ${packages[*]} ..."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq "${packages[@]}" >/dev/null
