#!/usr/bin/env bash
# Builds real Kubernetes, etcd and CoreDNS binaries from their published Go modules into bin/k8s.
#
#   hack/build-k8s.sh kube-apiserver etcd kubectl ...
#
# A binary that is already there for the version its module asks for is left alone. Where
# KUBEBUILDER_ASSETS is set, a binary in that folder wins and is not built.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/bin/k8s
mkdir -p "$out"

# Kubernetes' programs parse their own version; an unstamped build prints v0.0.0-master and fails later.
kube_ldflags() {
	local version=$1 pkg=k8s.io/component-base/version commit date
	commit=f78e722310e50bcaca9276be22276d9e91d91308
	date=2026-01-01T00:00:00Z
	printf -- '-s -w'
	for kv in gitVersion="$version" gitMajor=1 gitMinor="$(cut -d. -f2 <<<"$version")" gitCommit=$commit \
		gitTreeState=clean buildDate=$date; do
		printf -- ' -X %s.%s' "$pkg" "$kv"
	done
}

build() {
	local name=$1 module dependency package version ldflags started
	case $name in
	kube-apiserver | kube-controller-manager | kube-proxy | kubectl)
		module=k8s dependency=k8s.io/kubernetes package=k8s.io/kubernetes/cmd/$name ;;
	etcd) module=etcd dependency=go.etcd.io/etcd/server/v3 package=$dependency ;;
	coredns) module=coredns dependency=github.com/coredns/coredns package=$dependency ;;
	*)
		echo "hack/build-k8s.sh: unknown program \"$name\"; it is one of kube-apiserver, kube-controller-manager, kube-proxy, kubectl, etcd, coredns" >&2
		exit 2
		;;
	esac
	if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$name ]]; then
		return
	fi
	version=$(cd "$root/hack/tools/$module" && go list -m -f '{{.Version}}' "$dependency")
	if [[ -x $out/$name && $(cat "$out/.$name.version" 2>/dev/null) == "$version" ]]; then
		return
	fi
	ldflags="-s -w"
	if [[ $module == k8s ]]; then ldflags=$(kube_ldflags "$version"); fi
	started=$SECONDS
	echo "building $name $version from its Go module (kube-apiserver takes about 6 minutes the first time) ..." >&2
	(cd "$root/hack/tools/$module" && go build -ldflags "$ldflags" -o "$out/$name.new" "$package")
	mv "$out/$name.new" "$out/$name"
	echo "$version" >"$out/.$name.version"
	echo "built $name in $((SECONDS - started)) s" >&2
}

command -v go >/dev/null || {
	echo "Go is missing: install Go 1.26 or newer" >&2
	exit 1
}
for name in "$@"; do build "$name"; done
