# What people do here. `make test` is what CI runs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

E2E := tests/e2e
PYTEST := $(E2E)/.venv/bin/python -m pytest -c $(E2E)/pytest.ini --rootdir $(E2E) $(E2E)
FUZZ_RUNS ?= 20000
BENCH_OUT ?= bench/out
BENCH_ARGS ?=
FUZZ_TARGETS := decoder round_trip event_id config dialects http1

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The proxy, an upstream that fails on request, and a page to try both
	cargo run --release -- demo

.PHONY: test
test: setup check unit loom fuzz e2e ## Everything: installs what tests need, then runs them all
	@echo "make test: all passed"

.PHONY: setup
setup: ## Browser, nginx, Python and Node packages for the tests, in folders that git ignores
	scripts/setup-tests.sh

.PHONY: check
check: ## Formatting, lints, documentation, the sample configuration
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	cargo run --quiet -- check --config config.toml

.PHONY: unit
unit: ## Rust tests: units, models, stories over loopback sockets
	cargo test --workspace --quiet

.PHONY: loom
loom: ## The tail under every interleaving
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
	  cargo test --quiet --release -p streamkeeper-session --test tail_loom

.PHONY: fuzz
fuzz: ## Every fuzz target over its corpus and FUZZ_RUNS more inputs
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/target/found/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$target fuzz/target/found/$$target fuzz/corpus/$$target \
	    -- -runs=$(FUZZ_RUNS) -verbosity=0; \
	done

.PHONY: e2e
e2e: ## Real SDKs, browsers and apps through the released binary
	cargo build --release --quiet
	STREAMKEEPER_BIN=$(CURDIR)/target/release/streamkeeper $(PYTEST)

.PHONY: bench
bench: ## Codec and ring; then the whole process beside other proxies (ratios in one run): bench/out/report.md
	scripts/setup-bench.sh envoy
	cargo bench -p streamkeeper-sse --bench codec
	cargo bench -p streamkeeper-session --bench ring
	cargo build --release --workspace
	cargo run --release -p streamkeeper-bench -- --out $(BENCH_OUT) $(BENCH_ARGS)

.PHONY: count
count: ## Instructions and system calls per event: the same on a fast and a slow machine
	scripts/setup-bench.sh count
	scripts/count.sh

.PHONY: deny
deny: ## Licences, sources, banned and duplicate crates
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --quiet
	cargo deny check bans licenses sources
