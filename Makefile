# Targets are listed by `make help`. They need Go and make; what the tests need besides is in hack/packages.sh.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
GO_TEST ?= go test -race -shuffle=on
# Where test binaries, KUBEBUILDER_ASSETS apart, come from.
K8S_BIN := bin/k8s

##@ Use

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: tools-demo build ## Show the main job: one VIP, two NodePorts, two unrelated groups of pods (KEEP=1 stays up).
	@CGO_ENABLED=0 go build -o bin/demo ./hack/demo
	@bin/demo

##@ Install

IMG ?= ghcr.io/servicegroup-dev/servicegroup:latest
# Optional parts: policies, monitoring.
COMPONENTS ?=
KUBECTL ?= kubectl
PLATFORMS ?= linux/amd64,linux/arm64
# buildah, or docker with buildx.
CONTAINER_TOOL ?= buildah
# The compiler's image, where it is not to be golang:1.26 itself but a mirror's.
GO_IMAGE ?=

.PHONY: deploy
deploy: bin/kustomize ## Install into the cluster of the kubeconfig (IMG=image, COMPONENTS="policies monitoring" for what is optional).
	@hack/kustomize.sh default "$(IMG)" $(COMPONENTS) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: bin/kustomize ## Delete what make deploy installed, but neither the CRD nor any ServiceGroup.
	@bin/kustomize build config/undeploy | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: build-installer
build-installer: bin/kustomize ## Write dist/install.yaml for kubectl apply --server-side -f (IMG=image, COMPONENTS=...).
	@mkdir -p dist
	@hack/kustomize.sh default "$(IMG)" $(COMPONENTS) >dist/install.yaml
	@echo "wrote dist/install.yaml"

.PHONY: image
image: ## Build and push the image for amd64 and arm64 (IMG=image, PLATFORMS=..., CONTAINER_TOOL=buildah or docker).
	@CONTAINER_TOOL=$(CONTAINER_TOOL) hack/push-image.sh "$(IMG)" "$(PLATFORMS)" "VERSION=$(VERSION)" $(if $(GO_IMAGE),"GO_IMAGE=$(GO_IMAGE)")

##@ Test

.PHONY: test
test: packages tools-test modules previous build bin/kustomize bin/helm ## Run all tests: unit, operator on a real API server, real packets.
	@echo "running unit tests, the operator's tests on a real kube-apiserver, and the lab's own ..."
	$(GO_TEST) $$(go list ./... | grep -v /test/)
	@echo "running the tests in the lab, one package after the other: real packets, agents, stories ..."
	$(GO_TEST) -p 1 -timeout 20m ./test/...
	@echo "running the tests of what is installed: kustomize, Helm, admission policies, image, alerts ..."
	cd test/install && $(GO_TEST) -p 1 -timeout 20m ./...
	@echo "all tests passed"

.PHONY: test-bare test-bare-full
test-bare: ## Run make demo on a machine with Debian's smallest system, Go, make and git (as root; clones the last commit).
	@hack/packages.sh git debootstrap
	@hack/bare.sh make demo
test-bare-full: ## Run make test on such a machine.
	@hack/packages.sh git debootstrap
	@hack/bare.sh make test

.PHONY: test-unit
test-unit: ## Run the tests of the pure rooms only, in seconds.
	$(GO_TEST) ./internal/plan/... ./internal/proxy/... ./internal/ruleset/...

.PHONY: test-install
test-install: packages tools-test modules previous build bin/kustomize ## Run the tests of what is installed: kustomize, Helm, admission policies, image, alerts.
	cd test/install && $(GO_TEST) -v -p 1 -timeout 20m ./...

.PHONY: test-dataplane
test-dataplane: packages-lab tools-test build ## Run what docs/parity.md names: the agent and its tables with real packets, and the tables of units.
	$(GO_TEST) ./internal/proxy/... ./internal/ruleset/... ./internal/nft/... ./internal/conntrack/... ./controllers/node/...
	$(GO_TEST) -p 1 -timeout 20m ./test/dataplane ./test/agent ./test/peer

.PHONY: test-stories
test-stories: packages-lab tools-test build ## Run the stories: what users do with Services, on a cluster in a box with real packets (RUN=S9 picks some).
	$(GO_TEST) -v -timeout 20m -run '$(RUN)' ./test/stories

.PHONY: test-soak
test-soak: tools-test build ## Leave a converged cluster alone and count the writes in the audit log (SOAK=10m for the real thing).
	go test -v -count=1 -timeout 2h ./test/soak

.PHONY: fuzz
fuzz: ## Fuzz every decoder of what others may write, each for FUZZTIME (30s).
	@hack/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: bench
bench: packages-lab tools-bench build ## Measure the agent and kube-proxy side by side (BENCH=quick: a smoke run; BENCH_SIZES=1000,10000).
	@go build -o bin/bench ./test/bench
	@bin/bench

.PHONY: bench-operator
bench-operator: tools-bench build ## Measure the operator beside kube-controller-manager (BENCH=quick: a smoke run).
	@hack/build-k8s.sh kube-controller-manager
	@go build -o bin/bench-operator ./test/benchoperator
	@bin/bench-operator

##@ Develop

.PHONY: build
build: ## Build bin/servicegroup, the operator and node agent, and the kubectl plugin under the names kubectl looks for.
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/servicegroup .
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/kubectl-servicegroup ./cmd/kubectl-servicegroup
	@for name in kubectl-svcg kubectl_complete-servicegroup kubectl_complete-svcg; do ln -sf kubectl-servicegroup bin/$$name; done

.PHONY: generate
generate: bin/controller-gen bin/crd-ref-docs ## Generate deep copies, the CRD, the manager's role, docs/reference.md, and what the chart shares with config/.
	bin/controller-gen object paths=./api/...
	bin/controller-gen crd paths=./api/... output:crd:dir=config/crd
	bin/controller-gen rbac:roleName=servicegroup-manager paths=./controllers/... output:rbac:dir=config/rbac
	bin/crd-ref-docs --log-level=ERROR --source-path=api/v1alpha1 --config=hack/reference/config.yaml \
		--templates-dir=hack/reference --renderer=markdown --output-path=docs/reference.md
	@hack/chart-files.sh

.PHONY: lint
lint: bin/golangci-lint ## Run the linters.
	bin/golangci-lint run ./...
	cd test/install && $(CURDIR)/bin/golangci-lint run ./...

.PHONY: verify
verify: generate lint ## Generate everything, lint, and fail if anything changed.
	go mod tidy
	cd test/install && go mod tidy
	go vet ./...
	cd test/install && go vet ./...
	git diff --exit-code

.PHONY: tools
tools: ## Build etcd, kube-apiserver, kube-controller-manager, kube-proxy, kubectl and CoreDNS into bin/k8s.
	@hack/build-k8s.sh etcd kube-apiserver kube-controller-manager kube-proxy kubectl coredns

.PHONY: tools-demo tools-test tools-bench
tools-demo:
	@hack/build-k8s.sh etcd kube-apiserver kubectl
tools-bench:
	@hack/build-k8s.sh etcd kube-apiserver kube-proxy
tools-test:
	@hack/build-k8s.sh etcd kube-apiserver kubectl kube-controller-manager kube-proxy coredns

# What tests need of Debian, asked for before anything is built. The image is also run as another architecture's.
LAB_PROGRAMS := nft iptables gcc
.PHONY: packages packages-lab
packages:
	@hack/packages.sh $(LAB_PROGRAMS) git curl conntrack buildah crun $(if $(filter aarch64,$(shell uname -m)),qemu-x86_64-static,qemu-aarch64-static)
packages-lab:
	@hack/packages.sh $(LAB_PROGRAMS)

.PHONY: previous
previous: ## Build the release before this one into bin/previous, for the tests of upgrades.
	@hack/build-previous.sh

# The image is built in tests without a network, and its recipe downloads every module.
.PHONY: modules
modules:
	@go mod download

bin/controller-gen: hack/tools/dev/go.mod
	@echo "building controller-gen ..."
	@cd hack/tools/dev && go build -o $(CURDIR)/$@ sigs.k8s.io/controller-tools/cmd/controller-gen

bin/helm: hack/tools/helm/go.mod
	@echo "building helm ..."
	@cd hack/tools/helm && go build -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ helm.sh/helm/v4/cmd/helm

bin/crd-ref-docs: hack/tools/dev/go.mod
	@echo "building crd-ref-docs ..."
	@cd hack/tools/dev && go build -o $(CURDIR)/$@ github.com/elastic/crd-ref-docs

bin/kustomize: hack/tools/dev/go.mod
	@echo "building kustomize ..."
	@cd hack/tools/dev && go build -o $(CURDIR)/$@ sigs.k8s.io/kustomize/kustomize/v5

bin/golangci-lint: hack/tools/lint/go.mod
	@echo "building golangci-lint (about 3 minutes the first time) ..."
	@cd hack/tools/lint && go build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: clean
clean: ## Delete what was built.
	rm -rf bin dist
