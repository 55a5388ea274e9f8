#!/usr/bin/env bash
# Runs a command in a fresh clone of the last commit on a machine that has Debian's smallest system, Go, make and git:
#
#   hack/bare.sh make demo
#
# The machine is a folder and namespaces, and Go's caches are this machine's. It needs root and debootstrap. All
# mounts are in a namespace of their own and go with it, so that what is left behind in any case is a folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# become_machine makes a folder the root of this mount namespace, and runs a command there. A chroot would not do:
# the kernel creates no user namespace in one.
become_machine() {
	local tree=$1 from
	shift
	mount --bind "$tree" "$tree"
	for from in "$GOROOT" "$GOMODCACHE" "$GOCACHE"; do
		mkdir -p "$from" "$tree$from"
		mount --bind "$from" "$tree$from"
	done
	mount -o remount,bind,ro "$tree$GOROOT"
	mount --rbind /dev "$tree/dev"
	mount --rbind /sys "$tree/sys"
	mount -t proc proc "$tree/proc"
	mkdir "$tree/old"
	cd "$tree"
	pivot_root . old
	umount --lazy /old
	rmdir /old
	cd /root/servicegroup
	unset KUBEBUILDER_ASSETS MAKEFLAGS MAKELEVEL MFLAGS
	HOME=/root PATH=$GOROOT/bin:/usr/sbin:/usr/bin:/sbin:/bin exec "$@"
}

if [[ ${1-} == --become-machine ]]; then
	shift
	become_machine "$@"
fi
if ((EUID)); then
	echo "hack/bare.sh: a machine of its own needs root" >&2
	exit 1
fi
if (($# == 0)); then
	echo "usage: hack/bare.sh COMMAND [ARGUMENT ...]" >&2
	exit 2
fi

# What this machine installs from: its distribution's own archive, as apt knows it.
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" 'Component: main' | head -1)
if [[ -z $mirror ]]; then
	echo "hack/bare.sh: apt knows no archive of $codename: run apt-get update" >&2
	exit 1
fi

tree=$(mktemp -d /var/tmp/bare.XXXXXX)
trap 'rm -rf --one-file-system "$tree"' EXIT
chmod 755 "$tree" # others than root have a machine's root folder, too
echo "making a bare machine ..."
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
if [[ -n ${http_proxy:-} ]]; then export http_proxy; fi
said=$(debootstrap --variant=minbase --include=make,git,ca-certificates "$codename" "$tree" "$mirror" 2>&1) || {
	echo "$said" >&2
	exit 1
}
git clone --quiet "$root" "$tree/root/servicegroup"
# How this machine gets at the network, and at Go's modules.
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
set -a
eval "$(go env -changed)"
GOROOT=$(go env GOROOT) GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE)
set +a
unshare --mount --pid --fork --kill-child "$0" --become-machine "$tree" "$@"
