# The front door: "make" tells what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

ifeq ($(shell command -v go),)
$(error there is no "go" in PATH; MasCRI needs Go 1.26 (under sudo: sudo env PATH=$$PATH make ...))
endif

HOSTARCH := $(shell go env GOHOSTARCH)
GOARCH   ?= $(shell go env GOARCH)
export GOARCH

# What is built for another architecture stays out of the way of the demo and tests.
BIN := bin$(if $(filter-out $(HOSTARCH),$(GOARCH)),/linux-$(GOARCH))

# The version is a semantic one, as the kubelet wants it: of the last tag, or 0.0.0.
# Root builds in a user's clone too, which git has to be told.
GIT     := git -c safe.directory="$(CURDIR)"
VERSION ?= $(shell v=$$($(GIT) describe --tags --match 'v*' --dirty 2>/dev/null) && echo "$${v#v}" || \
	echo "0.0.0-dev-g$$($(GIT) describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)")
COMMIT  ?= $(shell $(GIT) rev-parse HEAD 2>/dev/null)

# $(call build,directory) is the command that builds there.
build = CGO_ENABLED=0 go build -C $(1) -buildvcs=false -trimpath
STRIP := -s -w

# The version of a module that a directory under tools/ pins.
pinned = $(shell go list -C tools/$(1) -m -f '{{.Version}}' $(2))

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo '  GOARCH=arm64 make build builds for arm64, into bin/linux-arm64.'

## Building ##################################################################

PAUSE := internal/sandboximage/rootfs/$(GOARCH)/pause
IP    := internal/sandboximage/rootfs/$(GOARCH)/ip

.PHONY: build
build: $(BIN)/mascri $(BIN)/crictl $(BIN)/cni ## Build mascri, crictl and the CNI plugins into bin/

# Go knows best what of this is up to date.
.PHONY: FORCE
$(BIN)/mascri: $(PAUSE) $(IP) FORCE
	@echo "$@ $(VERSION)"
	@$(call build,.) -ldflags '$(STRIP) -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o $@ ./cmd/mascri

CC_amd64 := x86_64-linux-gnu-gcc
CC_arm64 := aarch64-linux-gnu-gcc
PAUSE_CC := $(if $(filter $(HOSTARCH),$(GOARCH)),gcc,$(CC_$(GOARCH)))
$(PAUSE): image/pause.c
	@command -v $(PAUSE_CC) >/dev/null || { echo "no $(PAUSE_CC): install a C compiler for $(GOARCH)" >&2; exit 1; }
	@echo "$@"
	@$(PAUSE_CC) -Os -std=c11 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables \
		-nostdlib -static -no-pie -fno-pie -s -Wl,--build-id=none -Wl,-z,noexecstack -o $@ $<

$(IP): tools/image/go.mod tools/image/go.sum
	@echo "$@ (u-root $(call pinned,image,github.com/u-root/u-root))"
	@$(call build,tools/image) -ldflags '$(STRIP)' -o "$(CURDIR)/$@" tool

$(BIN)/crictl: tools/cri/go.mod tools/cri/go.sum
	@echo "$@ $(call pinned,cri,sigs.k8s.io/cri-tools)"
	@$(call build,tools/cri) -o "$(CURDIR)/$@" \
		-ldflags '$(STRIP) -X sigs.k8s.io/cri-tools/pkg/version.Version=$(call pinned,cri,sigs.k8s.io/cri-tools)' tool

# Every plugin that tools/cni names. They are built into a new directory, so that
# none is left that is named no more.
CNI := github.com/containernetworking/plugins
$(BIN)/cni: tools/cni/go.mod tools/cni/go.sum
	@echo "$@ $(call pinned,cni,$(CNI))"
	@rm -rf $@ $@.new && mkdir -p $@.new
	@$(call build,tools/cni) -o "$(CURDIR)/$@.new/" \
		-ldflags '$(STRIP) -X $(CNI)/pkg/utils/buildversion.BuildVersion=$(call pinned,cni,$(CNI))' tool
	@mv $@.new $@

.PHONY: man
man: build ## Write the manual pages into out/man/, of the day of the commit
	@rm -rf out/man
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$($(GIT) log -1 --format=%ct 2>/dev/null || echo 0)} bin/mascri man out/man
	@echo out/man

# What the image has to hold of the licenses of others.
$(BIN)/THIRD_PARTY_LICENSES: contrib/packages/licenses.sh go.mod tools/cri/go.mod tools/cni/go.mod tools/image/go.mod
	@echo "$@"
	@mkdir -p $(@D)
	@contrib/packages/licenses.sh . ./cmd/mascri tools/cri tool tools/cni tool tools/image tool >$@

.PHONY: image
image: build $(BIN)/THIRD_PARTY_LICENSES ## Build the container image "mascri", for machines that run nothing but containers
	docker build --tag mascri --file image/Dockerfile .

.PHONY: release
release: ## Make archives, packages, bills of materials and checksums for amd64 and arm64, into out/release/
	@rm -rf out/release
	@contrib/packages/release.sh $(VERSION) out/release

.PHONY: clean
clean: ## Remove all that was built
	rm -rf bin out internal/sandboximage/rootfs/*/{pause,ip}

## Trying ####################################################################

.PHONY: demo
demo: deps build ## Run two pods on real Docker and connect them (KEEP=1 leaves them running)
	@test/demo.sh

.PHONY: deps
deps:
	@test/deps.sh

## Testing ###################################################################

LINT := bin/golangci-lint

.PHONY: test
test: deps build $(LINT) bin/critest ## Run every test but a kubelet's: linters, unit tests with the race detector, real Docker Engines, critest, the demo, the documents' commands
	@test/all.sh

.PHONY: critest
critest: deps build bin/critest ## Run critest alone; its report is out/critest/junit.xml
	@test/all.sh critest

.PHONY: test-kubelet
test-kubelet: deps build bin/kubelet bin/kubelet-stream ## Run a real kubelet on it (ten minutes to build), and print each behaviour with what shows it
	@test/all.sh kubelet

.PHONY: test-cluster
test-cluster: deps build bin/kubelet bin/cluster ## Make a cluster by kubeadm on it (half an hour to build), and print each behaviour with what shows it
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	@test/private.sh test/cluster/run.sh

# A test binary, which go knows no "tool" for.
bin/critest: tools/cri/go.mod tools/cri/go.sum
	@echo "$@ $(call pinned,cri,sigs.k8s.io/cri-tools)"
	@CGO_ENABLED=0 GOARCH=$(HOSTARCH) go test -C tools/cri -c -buildvcs=false -trimpath -o "$(CURDIR)/$@" \
		-ldflags '$(STRIP) -X sigs.k8s.io/cri-tools/pkg/version.Version=$(call pinned,cri,sigs.k8s.io/cri-tools)' \
		sigs.k8s.io/cri-tools/cmd/critest

# A kubelet, which names itself by what release tooling sets: about ten minutes on two cores.
KUBELET_VERSION := k8s.io/component-base/version
bin/kubelet: tools/kubelet/go.mod tools/kubelet/go.sum
	@echo "$@ $(call pinned,kubelet,k8s.io/kubernetes)"
	@GOARCH=$(HOSTARCH) $(call build,tools/kubelet) -o "$(CURDIR)/$@" \
		-ldflags '$(STRIP) -X $(KUBELET_VERSION).gitVersion=$(call pinned,kubelet,k8s.io/kubernetes)' tool

# kubectl's code for exec, attach and port-forward, which needs the same modules.
bin/kubelet-stream: tools/kubelet/go.mod tools/kubelet/go.sum tools/kubelet/stream/main.go
	@echo "$@"
	@GOARCH=$(HOSTARCH) $(call build,tools/kubelet) -ldflags '$(STRIP)' -o "$(CURDIR)/$@" ./stream

# A cluster's programs: half an hour on two cores. kubeadm names images by the version it is.
bin/cluster: tools/cluster/go.mod tools/cluster/go.sum tools/etcd/go.mod tools/etcd/go.sum tools/coredns/go.mod tools/coredns/go.sum tools/coredns/main.go
	@echo "$@ $(call pinned,cluster,k8s.io/kubernetes), etcd $(call pinned,etcd,go.etcd.io/etcd/server/v3), CoreDNS $(call pinned,coredns,github.com/coredns/coredns)"
	@rm -rf $@.new && mkdir -p $@.new
	@GOARCH=$(HOSTARCH) $(call build,tools/cluster) -o $(CURDIR)/$@.new/ \
		-ldflags '$(STRIP) -X $(KUBELET_VERSION).gitVersion=$(call pinned,cluster,k8s.io/kubernetes)' tool
	@GOARCH=$(HOSTARCH) $(call build,tools/etcd) -ldflags '$(STRIP)' -o $(CURDIR)/$@.new/etcd go.etcd.io/etcd/server/v3
	@GOARCH=$(HOSTARCH) $(call build,tools/coredns) -ldflags '$(STRIP)' -o $(CURDIR)/$@.new/coredns .
	@rm -rf $@ && mv $@.new $@

$(LINT): tools/lint/go.mod tools/lint/go.sum
	@echo "$@"
	@GOARCH=$(HOSTARCH) $(call build,tools/lint) -ldflags '$(STRIP)' -o "$(CURDIR)/$@" tool

.PHONY: lint
lint: $(LINT) ## Run the linters
	go vet ./...
	$(LINT) run

TIME ?= 60s

.PHONY: fuzz
fuzz: build ## Let each fuzz target look for new inputs for a minute (TIME=10m for more)
	@test/fuzz.sh $(TIME)

bin/govulncheck: tools/vuln/go.mod tools/vuln/go.sum
	@echo "$@ $(call pinned,vuln,golang.org/x/vuln)"
	@GOARCH=$(HOSTARCH) $(call build,tools/vuln) -ldflags '$(STRIP)' -o "$(CURDIR)/$@" tool

# The database is asked over the network (VULNDB for another): not part of the tests.
VULNDB ?= https://vuln.go.dev

.PHONY: vuln
vuln: bin/govulncheck ## Look for known vulnerabilities in what the binary calls (needs the network)
	bin/govulncheck -db $(VULNDB) ./cmd/mascri

# Prometheus' own judge of the alert rules, without its service discoveries: they are half of it.
bin/promtool: tools/promtool/go.mod tools/promtool/go.sum
	@echo "$@ $(call pinned,promtool,github.com/prometheus/prometheus)"
	@GOARCH=$(HOSTARCH) $(call build,tools/promtool) -tags remove_all_sd -ldflags '$(STRIP)' -o "$(CURDIR)/$@" tool

.PHONY: test-rules
test-rules: bin/promtool ## Check the alert rules in contrib/ by promtool (which takes minutes to build), and run their tests
	bin/promtool check config contrib/prometheus/scrape.yml
	bin/promtool check config --agent contrib/prometheus/scrape.yml
	bin/promtool check rules contrib/prometheus/mascri.rules.yml
	bin/promtool test rules contrib/prometheus/mascri.rules.test.yml

.PHONY: bench
bench: deps build ## Measure MasCRI beside containerd (some 25 minutes), and write docs/benchmarks (ARGS=-h tells of flags, as for other runtimes)
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	go run ./bench $(ARGS)

bin/crun:
	test/fetch-crun.sh $@

.PHONY: bench-crun
bench-crun: deps build bin/crun ## Measure lives of pods with crun beside runc, on MasCRI and on containerd, and write docs/benchmarks/crun
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	go run ./bench -out docs/benchmarks/crun -contestants containerd-2,mascri-28,containerd-2-crun,mascri-28-crun \
		-pods 10 -lists 1 -poll-pods 10 -poll 1 -restarts 1 -logs 1 -log-mb 1

.PHONY: soak
soak: deps build ## Take 2,000 pods through their lives (CYCLES=n for others), and write what they left to docs/benchmarks
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	go run ./bench -soak $(or $(CYCLES),2000)

.PHONY: test-churn
test-churn: deps build bin/kubelet bin/kubelet-stream ## Let a real kubelet's pods come and go for an hour (CHURN=10m for less): is each transition told by an event?
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	MASCRI_TEST_CHURN=$(or $(CHURN),1h) go test -v -count=1 -timeout 0 -run '^TestChurn$$' ./test/kubelet

.PHONY: bench-kubelet
bench-kubelet: deps build bin/kubelet ## Measure a real kubelet with 100 pods on MasCRI and on containerd (PODS=n for others), and write docs/benchmarks/kubelet.md
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	go run ./bench -kubelet $(or $(PODS),100)

.PHONY: test-release
test-release: deps build ## Build the release of this commit twice and compare, install, upgrade and remove the packages, run what is for arm64 emulated
	@test/release.sh

.PHONY: test-fresh
test-fresh: ## Take the time of the demo in a new Debian, from nothing to the first pod's IP
	@test/fresh.sh

.PHONY: test-many
test-many: deps build ## Run 300 pods on one bridge (PODS=n for others), and print times and memory
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	MASCRI_TEST_PODS=$(or $(PODS),300) go test -v -count=1 -timeout 30m -run '^TestManyPodsOnOneBridge$$' ./test/e2e

.PHONY: test-events
test-events: deps build ## Compare container events with polling over 5,000 transitions (TRANSITIONS=n for others)
	@[ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	MASCRI_TEST_TRANSITIONS=$(or $(TRANSITIONS),5000) go test -v -count=1 -timeout 30m -run '^TestEventsAgreeWithPolling$$' ./test/e2e

# Another walk each time, unless told which.
SEED   ?= $(shell date +%s)
STEPS  ?= 1000
ENGINE ?= 28

.PHONY: chaos
chaos: deps build ## Take a random walk of faults on a real engine (SEED=n STEPS=n, ENGINE=20.10 for the oldest)
	@[ $(ENGINE) != 28 ] || [ -x bin/engine28/usr/sbin/dockerd ] || test/fetch-engine.sh bin/engine28
	MASCRI_CHAOS_SEED=$(SEED) MASCRI_CHAOS_STEPS=$(STEPS) MASCRI_CHAOS_ENGINE=$(ENGINE) \
		go test -v -count=1 -timeout 0 -run '^TestChaos$$' ./test/e2e

.PHONY: test-vm
test-vm: deps build bin/THIRD_PARTY_LICENSES bin/critest bin/kubelet bin/kubelet-stream ## Run the demo, containers with limits, a kubelet, all chains of CNI plugins, the container image and an installation in a VM: systemd, cgroup v2, a current engine
	@test/vm.sh smoke
	@test/vm.sh workloads
	@test/vm.sh kubelet
	@test/vm.sh network
	@test/vm.sh image
	@test/vm.sh install
