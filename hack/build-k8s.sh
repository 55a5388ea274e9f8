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
# As Kubernetes releases them. Without it a machine that has gcc would build other packages than one that has
# none, and neither could use the other's cache.
export CGO_ENABLED=0

# module_of names the folder in hack/tools that a program is built in.
module_of() {
	case $1 in
	kube-apiserver | kube-controller-manager | kube-proxy | kubectl) echo k8s ;;
	etcd | coredns) echo "$1" ;;
	*)
		echo "hack/build-k8s.sh: unknown program \"$1\"; it is one of kube-apiserver, kube-controller-manager, kube-proxy, kubectl, etcd, coredns" >&2
		return 2
		;;
	esac
}

package_of() {
	case $1 in
	etcd) echo go.etcd.io/etcd/server/v3 ;;
	coredns) echo github.com/coredns/coredns ;;
	*) echo "k8s.io/kubernetes/cmd/$1" ;;
	esac
}

version_of() {
	local dependency=k8s.io/kubernetes
	if [[ $1 != k8s ]]; then dependency=$(package_of "$1"); fi
	cd "$root/hack/tools/$1" && go list -m -f '{{.Version}}' "$dependency"
}

# Kubernetes' programs parse their own version; an unstamped build prints v0.0.0-master and fails later.
kube_ldflags() {
	local version=$1 pkg=k8s.io/component-base/version commit date
	commit=f78e722310e50bcaca9276be22276d9e91d91308
	date=2026-01-01T00:00:00Z
	for kv in gitVersion="$version" gitMajor=1 gitMinor="$(cut -d. -f2 <<<"$version")" gitCommit=$commit \
		gitTreeState=clean buildDate=$date; do
		printf -- ' -X %s.%s' "$pkg" "$kv"
	done
}

# go_packages runs a go command in a module, with the packages of its programs behind the arguments.
go_packages() {
	local module=$1 name packages=()
	shift
	for name in ${wanted[$module]}; do packages+=("$(package_of "$name")"); done
	cd "$root/hack/tools/$module"
	exec go "$@" "${packages[@]}"
}

# all waits for the background processes, and ends the others when one fails.
all() {
	local pids=("$@")
	while (($#)); do
		shift
		wait -n || {
			kill "${pids[@]}" 2>/dev/null || true
			return 1
		}
	done
}

# compile builds the programs of all modules side by side, since a link keeps one core alone busy. It writes what
# go writes, and "total: N" when it knows how many packages there are to compile.
compile() {
	local module target ldflags pids=()
	for module in "${!wanted[@]}"; do
		go_packages "$module" list -deps -f '{{if and .Stale (ne .Name "main")}}{{.ImportPath}}{{end}}' >"$new/$module.stale" &
		pids+=($!)
	done
	all "${pids[@]}"
	sort -u "$new"/*.stale >"$new/stale"
	echo "total: $(wc -l <"$new/stale")"

	# Two builds that start together would both compile what they have in common.
	go build -v std
	pids=()
	for module in "${!wanted[@]}"; do
		mkdir "$new/$module"
		target=$new/$module/ ldflags="-s -w"
		if [[ $module == k8s ]]; then ldflags+=$(kube_ldflags "${versions[$module]}"); else target+=$module; fi
		go_packages "$module" build -v -ldflags "$ldflags" -o "$target" &
		pids+=($!)
	done
	all "${pids[@]}"
}

# progress reads what compile writes: the names of modules and packages become one line that moves or, where
# nobody sees it move, a line now and then; the rest is somebody's to read.
progress() {
	local line status compiled=0 downloaded=0 total=-1 shown=$SECONDS
	local -A stale=()
	while true; do
		status=0
		IFS= read -r -t 1 line || status=$?
		if ((status > 128)); then
			: # a second without news
		elif ((status)); then
			break
		elif [[ $line == "go: downloading "* ]]; then
			downloaded=$((downloaded + 1))
		elif [[ $line =~ ^total:\ ([0-9]+)$ ]]; then
			total=${BASH_REMATCH[1]}
			while IFS= read -r line; do stale[$line]=; done <"$new/stale"
		elif [[ $line == *" "* ]]; then
			printf '%s%s\n' "$clear" "$line" >&2
		elif [[ -n $line && -v stale[$line] ]]; then
			unset "stale[$line]"
			compiled=$((compiled + 1))
		fi
		if [[ -z $clear ]] && ((SECONDS < shown + 20)); then continue; fi
		shown=$SECONDS
		printf '%s    ' "$clear" >&2
		if ((total < 0)); then
			printf '%d modules downloaded' "$downloaded" >&2
		elif ((compiled < total)); then
			printf '%d of %d packages compiled' "$compiled" "$total" >&2
		else
			printf 'linking' >&2
		fi
		printf ', %d s%s' "$SECONDS" "$end" >&2
	done
	printf '%s' "$clear" >&2
}

command -v go >/dev/null || {
	echo "Go is missing: install Go 1.26 or newer" >&2
	exit 1
}
mkdir -p "$out"
declare -A wanted=() versions=()
names=()
for name in "$@"; do
	module=$(module_of "$name")
	if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$name ]]; then continue; fi
	if [[ -z ${versions[$module]:-} ]]; then versions[$module]=$(version_of "$module"); fi
	if [[ -x $out/$name && $(cat "$out/.$name.version" 2>/dev/null) == "${versions[$module]}" ]]; then continue; fi
	wanted[$module]+=" $name"
	names+=("$name")
done
if ((${#names[@]} == 0)); then exit 0; fi

clear='' end=$'\n'
if [[ -t 2 ]]; then clear=$'\r\e[K' end=''; fi
new=$(mktemp -d "$out/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
SECONDS=0
echo "building ${names[*]} from their Go modules (about 6 minutes the first time) ..." >&2
compile 2>&1 | progress
for name in "${names[@]}"; do
	module=$(module_of "$name")
	mv "$new/$module/$name" "$out/$name"
	echo "${versions[$module]}" >"$out/.$name.version"
done
echo "built ${names[*]} in $SECONDS s" >&2
