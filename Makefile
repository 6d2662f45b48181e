# watcher: every target is in `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# What the program needs of the system, what `make demo` needs besides, and what the tests and the
# linters need besides that. The linter of shell scripts is the only one that is not in the lock.
PACKAGES      := runc libnftables1 iproute2 python3-venv ca-certificates
DEMO_PACKAGES := busybox-static nftables
DEV_PACKAGES  := $(DEMO_PACKAGES) conntrack ethtool libcap2-bin netcat-openbsd procps systemd util-linux shellcheck \
  dbus firewalld iptables ufw e2fsprogs fuse3 python3-fusepy prometheus dnsmasq-base bind9-dnsutils
# The engines that the program is tried beside; nothing of them starts on the machine itself.
ENGINE_PACKAGES := $(DEV_PACKAGES) docker.io docker-cli podman netavark containerd containernetworking-plugins crun uidmap

# What the tests of a cluster need: its members are started by the tests alone.
CLUSTER_PACKAGES := $(DEV_PACKAGES) etcd-server etcd-client openssl faketime

# Any Python from 3.12 on; Debian's own first, since a virtual environment lives as long as its Python.
PYTHON ?= $(firstword $(foreach python,/usr/bin/python3 python3.14 python3.13 python3.12 python3,\
  $(if $(shell $(python) -c 'import sys; print(sys.version_info >= (3, 12) or "")' 2>/dev/null),$(python))))

VENV        := .venv
# What `make test-cluster` runs.
OF_CLUSTERS := tests/cluster tests/clustering tests/endpoints tests/etcd
TEST_FLAGS  ?= -n 4 --dist worksteal
LOCKED      := --require-hashes --only-binary :all:
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Where `make install` puts things. DESTDIR is for packagers: it is in front of every path that is
# written to and in none that is written into a file.
DESTDIR     ?=
PREFIX      ?= /usr/local
libdir      := $(PREFIX)/lib/watcher
sbindir     := $(PREFIX)/sbin
configdir   := /etc/watcher
unitdir     ?= $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib/systemd/system,/etc/systemd/system)
sysusersdir := $(PREFIX)/lib/sysusers.d

paths = DESTDIR="$(DESTDIR)" LIBDIR="$(libdir)" SBINDIR="$(sbindir)" UNITDIR="$(unitdir)" SYSUSERSDIR="$(sysusersdir)" CONFIGDIR="$(configdir)"

##@ From a checkout

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: packages $(VENV)/setup ## install what the program needs; leaves .venv/bin/watcher

.PHONY: demo
demo: packages-demo $(VENV)/setup ## see it happen on real containers, in under a minute
	@deploy/demo

.PHONY: demo-cluster
demo-cluster: packages-demo-cluster $(VENV)/setup ## see three hosts with one network, in a minute
	@deploy/demo-cluster

# pytest keeps what it has made of the tests: to make it anew is five seconds for each of its processes.
test test-accidents test-engines test-cluster: export PYTHONDONTWRITEBYTECODE :=

.PHONY: test
test: packages-dev $(VENV)/setup-dev ## run the tests (TEST_FLAGS=…)
	$(VENV)/bin/pytest $(TEST_FLAGS) --ignore tests/engines $(OF_CLUSTERS:%=--ignore %) -m "not accident"

.PHONY: test-accidents
test-accidents: packages-dev $(VENV)/setup-dev ## kills, lost and damaged stores at many points; very many at once
	$(VENV)/bin/pytest $(TEST_FLAGS) --ignore tests/engines $(OF_CLUSTERS:%=--ignore %) -m accident

.PHONY: test-engines
test-engines: packages-engines $(VENV)/setup-dev ## the tests beside Docker, Podman, containerd and crun
	$(VENV)/bin/pytest $(TEST_FLAGS) tests/engines

.PHONY: test-cluster
test-cluster: packages-cluster $(VENV)/setup-dev ## the tests of many hosts, beside a real etcd
	$(VENV)/bin/pytest $(TEST_FLAGS) $(OF_CLUSTERS)

.PHONY: lint
lint: packages-dev $(VENV)/setup-dev ## what CI holds the code to: ruff, mypy, shellcheck
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	shellcheck .ci/run deploy/demo deploy/demo-cluster deploy/install deploy/uninstall tests/support/boot.sh tools/lock tools/release tools/require

.PHONY: lock
lock: packages python ## lock the newest versions of every dependency
	@tools/lock $(PYTHON)

.PHONY: clean
clean: ## remove what the targets above left in the checkout
	rm -rf $(VENV) build watcher.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: packages packages-demo packages-dev packages-engines packages-cluster packages-demo-cluster
packages:
	@tools/require $(PACKAGES)
packages-demo:
	@tools/require $(PACKAGES) $(DEMO_PACKAGES)
packages-dev:
	@tools/require $(PACKAGES) $(DEV_PACKAGES)
packages-engines:
	@tools/require $(PACKAGES) $(ENGINE_PACKAGES)
packages-demo-cluster:
	@tools/require $(PACKAGES) $(DEMO_PACKAGES) etcd-server
packages-cluster:
	@tools/require $(PACKAGES) $(CLUSTER_PACKAGES)

.PHONY: python
python:
	@if [[ -z "$(PYTHON)" ]]; then \
	  echo "error: no Python from 3.12 on was found; install one and say: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi

$(VENV)/bin/python: | packages python
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)

# Build requirements are locked as well, hence no build isolation. A stamp is older than the lock, or
# pyproject.toml, or the environment, only where something is to be done.
$(VENV)/setup: $(VENV)/bin/python deploy/requirements.txt deploy/requirements-build.txt pyproject.toml
	@echo "installing what deploy/requirements.txt locks"
	@$(VENV)/bin/pip install --quiet $(LOCKED) --requirement deploy/requirements-build.txt
	@$(VENV)/bin/pip install --quiet $(LOCKED) --requirement deploy/requirements.txt
	@$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/setup-dev: $(VENV)/setup deploy/requirements-dev.txt
	@echo "installing what deploy/requirements-dev.txt locks"
	@$(VENV)/bin/pip install --quiet $(LOCKED) --requirement deploy/requirements-dev.txt
	@touch $@

##@ On a machine (DESTDIR, PREFIX=/usr/local)

.PHONY: install
install: packages python ## the program, its systemd unit and /etc/watcher/watcher.toml
	@$(paths) LOCKED="$(LOCKED)" deploy/install $(PYTHON)

.PHONY: uninstall
uninstall: ## what install made, less a configuration that was edited; `watcher down` comes first
	@$(paths) deploy/uninstall

##@ For maintainers

.PHONY: release
release: ## keep the tree as the release that pyproject.toml says: an archive and a tag
	@tools/release

##@ Measured

# netavark and CNI's plugins are what it is compared with; the rest compiles and feeds the C programs.
BENCH_PACKAGES := gcc libc6-dev libnftables-dev netavark containernetworking-plugins iptables aardvark-dns dnsmasq-base etcd-server

.PHONY: bench
bench: packages-bench $(VENV)/setup ## what it costs, beside the kernel and its peers (BENCH_FLAGS=--quick)
	@$(VENV)/bin/python -m bench $(BENCH_FLAGS)

.PHONY: packages-bench
packages-bench:
	@tools/require $(PACKAGES) $(DEMO_PACKAGES) $(BENCH_PACKAGES)

##@ Long runs (SOAK=10000, WIDE=5000, FUZZ=1000000)

SOAK ?= 10000
WIDE ?= 5000
FUZZ ?= 1000000

.PHONY: soak
soak: packages-cluster $(VENV)/setup-dev ## SOAK containers come and go, WIDE at once; every failure point; random histories
	@$(VENV)/bin/python -m tests.soak $(SOAK)
	@WATCHER_KILL_STEP=1 WATCHER_MODEL_EXAMPLES=$(or $(MODEL),$(shell echo $$(($(SOAK) / 50 + 1)))) \
	  WATCHER_WIDE=$(WIDE) \
	  $(VENV)/bin/pytest $(TEST_FLAGS) --timeout=0 --kills=1000 tests/recovery/test_killed.py tests/recovery/test_model.py \
	  tests/share/test_moving_killed.py tests/share/test_share_killed.py tests/networks/test_wide.py \
	  tests/live/test_connect_killed.py tests/live/test_connect_ended.py tests/store/test_store_removed.py \
	  tests/cluster/test_agreeing.py tests/cluster/test_agreeing_model.py

.PHONY: fuzz
fuzz: $(VENV)/setup-dev ## FUZZ inputs of any bytes, what is found stays in tests/fuzz/corpus; FUZZ questions of names
	@$(VENV)/bin/python tests/fuzz/fuzz.py $(FUZZ)
	@$(VENV)/bin/python -m tests.names.fuzz $(FUZZ)
