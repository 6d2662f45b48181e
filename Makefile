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
  dbus firewalld iptables ufw e2fsprogs fuse3 python3-fusepy

# Any Python from 3.12 on; Debian's own first, since a virtual environment lives as long as its Python.
PYTHON ?= $(firstword $(foreach python,/usr/bin/python3 python3.14 python3.13 python3.12 python3,\
  $(if $(shell $(python) -c 'import sys; print(sys.version_info >= (3, 12) or "")' 2>/dev/null),$(python))))

VENV        := .venv
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

installed_config := $(DESTDIR)$(configdir)/watcher.toml

##@ From a checkout

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: packages $(VENV)/setup ## install what the program needs; leaves .venv/bin/watcher

.PHONY: demo
demo: packages-demo $(VENV)/setup ## see it happen on real containers, in under a minute
	@deploy/demo

.PHONY: test
test: packages-dev $(VENV)/setup-dev ## run the tests (TEST_FLAGS=…)
	$(VENV)/bin/pytest $(TEST_FLAGS)

.PHONY: lint
lint: packages-dev $(VENV)/setup-dev ## what CI holds the code to: ruff, mypy, shellcheck
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	shellcheck .ci/run deploy/demo tests/support/boot.sh

.PHONY: lock
lock: packages python ## lock the newest versions of every dependency
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch"/bin/pip install --quiet pip-tools; \
	compile() { env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null "$$scratch"/bin/pip-compile --quiet \
	  --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$$@"; }; \
	compile --output-file deploy/requirements.txt pyproject.toml; \
	compile --all-extras --constraint deploy/requirements.txt \
	  --output-file deploy/requirements-dev.txt pyproject.toml; \
	$(PYTHON) -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | compile --output-file deploy/requirements-build.txt -; \
	sed --in-place '1i# Locked by `make lock` from pyproject.toml.' deploy/requirements*.txt; \
	sed --in-place '/^$$/d; /considered to be unsafe/d' deploy/requirements*.txt

.PHONY: clean
clean: ## remove what the targets above left in the checkout
	rm -rf $(VENV) build watcher.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Packages are looked for each time, which takes 20 ms, and installed only where one is missing.
define require
missing=(); \
for package in $(1); do \
  [[ $$(dpkg-query --show --showformat='$${db:Status-Abbrev}' "$$package" 2>/dev/null) == ?i* ]] || missing+=("$$package"); \
done; \
if (( $${#missing[@]} == 0 )); then exit 0; fi; \
if ! command -v apt-get >/dev/null; then \
  echo "warning: this is not a Debian; see to what these packages have there: $${missing[*]}" >&2; exit 0; \
fi; \
if (( EUID != 0 )); then \
  echo "error: these packages are missing; as root, say: apt-get install $${missing[*]}" >&2; exit 1; \
fi; \
echo "installing $${missing[*]}"; \
export DEBIAN_FRONTEND=noninteractive; \
apt-get -qq update </dev/null; \
apt-get -qq install --yes --no-install-recommends "$${missing[@]}" </dev/null >/dev/null
endef

.PHONY: packages packages-demo packages-dev
packages:
	@$(call require,$(PACKAGES))
packages-demo:
	@$(call require,$(PACKAGES) $(DEMO_PACKAGES))
packages-dev:
	@# Debian's firewalld would start at once, and close this machine: it is for the tests alone.
	@if ! command -v firewalld >/dev/null && [[ ! -e /etc/systemd/system/firewalld.service && $$EUID == 0 ]]; then \
	  mkdir -p /etc/systemd/system && ln -s /dev/null /etc/systemd/system/firewalld.service; fi
	@$(call require,$(PACKAGES) $(DEV_PACKAGES))

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
	@echo "installing into $(DESTDIR)$(libdir)"
	@rm -rf "$(DESTDIR)$(libdir)"
	@install -d "$(DESTDIR)$(libdir)" "$(DESTDIR)$(sbindir)" "$(DESTDIR)$(unitdir)" "$(DESTDIR)$(configdir)"
	@$(PYTHON) -m venv --without-pip "$(DESTDIR)$(libdir)"
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	mkdir "$$scratch"/{source,wheel}; \
	cp -r pyproject.toml README.md LICENSE watcher handlers "$$scratch/source"; \
	$(PYTHON) -m venv "$$scratch/venv"; \
	pip=("$$scratch/venv/bin/pip" --quiet); \
	into=("$${pip[@]}" --python "$(DESTDIR)$(libdir)/bin/python" install --no-compile); \
	"$${pip[@]}" install $(LOCKED) --requirement deploy/requirements-build.txt; \
	"$${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$$scratch/wheel" "$$scratch/source"; \
	"$${into[@]}" $(LOCKED) --requirement deploy/requirements.txt; \
	"$${into[@]}" --no-deps --no-index --find-links "$$scratch/wheel" watcher
	@# No file may speak of DESTDIR: neither the first lines of scripts, nor pyvenv.cfg, nor bytecode.
	@rm -f "$(DESTDIR)$(libdir)"/bin/[Aa]ctivate* "$(DESTDIR)$(libdir)"/.gitignore
	@for file in "$(DESTDIR)$(libdir)"/bin/* "$(DESTDIR)$(libdir)/pyvenv.cfg"; do \
	  if [[ ! -L $$file ]]; then sed --in-place "1s|^#!$(DESTDIR)/|#!/|; /^command = /d" "$$file"; fi; \
	done
	@"$(DESTDIR)$(libdir)/bin/python" -m compileall -q -s "$(DESTDIR)" -p / "$(DESTDIR)$(libdir)/lib"
	@ln -sfn "$(libdir)/bin/watcher" "$(DESTDIR)$(sbindir)/watcher"
	@sed "s|^ExecStart=/usr/local/sbin/|ExecStart=$(sbindir)/|" deploy/watcher.service >"$(DESTDIR)$(unitdir)/watcher.service"
	@chmod 644 "$(DESTDIR)$(unitdir)/watcher.service"
	@install -m 644 deploy/run-runc.mount "$(DESTDIR)$(unitdir)/run-runc.mount"
	@install -m 644 deploy/watcher.toml "$(DESTDIR)$(libdir)/watcher.toml"
	@if [[ ! -e "$(installed_config)" ]]; then \
	  install -m 644 deploy/watcher.toml "$(installed_config)"; \
	elif ! cmp -s deploy/watcher.toml "$(installed_config)"; then \
	  install -m 644 deploy/watcher.toml "$(installed_config).new"; \
	  echo "kept $(installed_config); this version's is beside it as watcher.toml.new"; \
	fi
	@if [[ -z "$(DESTDIR)" ]]; then \
	  if [[ -d /run/systemd/system ]]; then systemctl daemon-reload; fi; \
	  echo "now say: systemctl enable --now watcher"; \
	fi

# A configuration that somebody edited stays; the one installed is known by the copy in libdir.
.PHONY: uninstall
uninstall: ## what install made, less a configuration that was edited; `watcher down` comes first
	@if [[ -z "$(DESTDIR)" && -d /run/systemd/system && -e "$(unitdir)/watcher.service" ]]; then \
	  systemctl disable --now watcher.service; \
	  systemctl disable run-runc.mount; \
	fi
	@for config in "$(DESTDIR)$(libdir)/watcher.toml" deploy/watcher.toml; do \
	  if cmp -s "$$config" "$(installed_config)"; then rm -f "$(installed_config)"; fi; \
	done
	@rm -f "$(installed_config).new" "$(DESTDIR)$(sbindir)/watcher" "$(DESTDIR)$(unitdir)"/{watcher.service,run-runc.mount}
	@rm -rf "$(DESTDIR)$(libdir)"
	@rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(unitdir)" "$(DESTDIR)$(dir $(unitdir))" 2>/dev/null || true
	@if [[ -e "$(installed_config)" ]]; then echo "kept $(installed_config), which was edited"; \
	else rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(configdir)" 2>/dev/null || true; fi
	@if [[ -z "$(DESTDIR)" && -d /run/systemd/system ]]; then systemctl daemon-reload; fi

##@ For maintainers

.PHONY: release
release: ## keep the tree as the release that pyproject.toml says: an archive and a tag
	@version=$$(sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml); archive=tests/releases/$$version.zip; \
	refuse() { echo "error: $$*" >&2; exit 1; }; \
	[[ $$version =~ ^[0-9]+\.[0-9]+\.[0-9]+$$ ]] || refuse "$$version in pyproject.toml is no version to release"; \
	[[ ! -e $$archive ]] || refuse "$$version is released, $$archive is there; set the next version in pyproject.toml"; \
	[[ -z $$(git status --porcelain) ]] || refuse "the tree is dirty; commit what \`git status\` shows"; \
	grep -q "^__version__ = \"$$version\"$$" watcher/__init__.py || refuse "watcher/__init__.py has another version than $$version"; \
	grep -q "^## $$version - " CHANGELOG.md || refuse "CHANGELOG.md has no heading \"## $$version - \" and a date"; \
	git tag --annotate --message "watcher $$version" "v$$version"; \
	mkdir -p tests/releases; \
	TZ=UTC git archive --format=zip --output="$$archive" HEAD watcher handlers; \
	echo "made the tag v$$version and $$archive; set the next version (x.y.z.dev0), and commit both"

##@ Measured

# netavark and CNI's plugins are what it is compared with; the rest compiles and feeds the C programs.
BENCH_PACKAGES := gcc libc6-dev libnftables-dev netavark containernetworking-plugins iptables

.PHONY: bench
bench: packages-bench $(VENV)/setup ## what it costs, beside the kernel and its peers (BENCH_FLAGS=--quick)
	@$(VENV)/bin/python -m bench $(BENCH_FLAGS)

.PHONY: packages-bench
packages-bench:
	@$(call require,$(PACKAGES) $(DEMO_PACKAGES) $(BENCH_PACKAGES))

##@ Long runs (SOAK=10000, WIDE=5000, FUZZ=1000000)

SOAK ?= 10000
WIDE ?= 5000
FUZZ ?= 1000000

.PHONY: soak
soak: packages-dev $(VENV)/setup-dev ## SOAK containers come and go, WIDE at once; every failure point; random histories
	@$(VENV)/bin/python -m tests.soak $(SOAK)
	@WATCHER_KILL_STEP=1 WATCHER_MODEL_EXAMPLES=$(or $(MODEL),$(shell echo $$(($(SOAK) / 50 + 1)))) \
	  WATCHER_WIDE=$(WIDE) \
	  $(VENV)/bin/pytest $(TEST_FLAGS) --timeout=0 tests/recovery/test_killed.py tests/recovery/test_model.py tests/networks/test_wide.py

.PHONY: fuzz
fuzz: $(VENV)/setup-dev ## FUZZ inputs of any bytes; what is found stays in tests/fuzz/corpus
	@$(VENV)/bin/python tests/fuzz/fuzz.py $(FUZZ)
