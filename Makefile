# Everything here runs on a machine with Rust, Python 3.11, gcc and make; `make setup` fetches the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

DATA ?= data
# The revision that proto/ must stay compatible with.
PROTO_BASE ?= HEAD~1
export ANNALS_VENV ?= .venv
export PATH := $(abspath $(ANNALS_VENV))/bin:$(PATH)

CLIENT := clients/python
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# CI builds what the lock file says; on a developer's machine a changed Cargo.toml updates it.
LOCKED := $(if $(CI),--locked)
STAGE := scripts/stage

.PHONY: help
help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

.PHONY: setup
setup: ## Install the development tools (quick when they are there)
	@scripts/setup

.PHONY: run
run: ## Start a server on ./data; DATA=… elsewhere, RELEASE=1 optimised (takes longer to build)
	cargo run $(LOCKED) $(if $(RELEASE),--release) -- serve --data $(DATA)

.PHONY: format
format: setup ## Format the code
	cargo fmt
	buf format --write --path proto/annals
	@if [ -d $(CLIENT) ]; then cd $(CLIENT) && ruff check --fix --quiet && ruff format; fi

.PHONY: ci
ci: check test ## What has to pass: check, then test

.PHONY: check
check: check-format check-proto check-dependencies check-python check-tidy check-clippy check-docs ## Everything that needs no server: format, lints, docs, house rules, dependencies, proto, Python types

.PHONY: check-format
check-format:
	@$(STAGE) "Rust is formatted" cargo fmt --check

.PHONY: check-proto
check-proto: setup
	@$(STAGE) "proto/ is well-formed and formatted" \
	  bash -ec 'buf lint && buf format --diff --exit-code --path proto/annals'
	@$(STAGE) "proto/ is compatible with $(PROTO_BASE)" scripts/proto-breaking $(PROTO_BASE)

.PHONY: check-dependencies
check-dependencies: setup
	@$(STAGE) "all dependencies are here" cargo fetch --quiet $(LOCKED)
	@$(STAGE) "licences and sources of dependencies are allowed" \
	  cargo deny --offline --all-features check --hide-inclusion-graph licenses bans sources
	@$(STAGE) "all dependencies are used" cargo shear

.PHONY: check-python
check-python: setup
ifneq ($(wildcard $(CLIENT)/pyproject.toml),)
	@$(STAGE) "ruff has nothing to say" bash -ec 'cd $(CLIENT) && ruff check --quiet && ruff format --quiet --check'
	@$(STAGE) "Python types are sound" bash -ec 'cd $(CLIENT) && mypy --strict'
	@$(STAGE) "Python stubs are those of proto/" python $(CLIENT)/scripts/generate_stubs.py --check
else
	@echo "skipped the Python checks: there is no $(CLIENT)"
endif

.PHONY: check-tidy
check-tidy:
	@$(STAGE) "the house rules hold (arrows, sizes, sorted and single dependencies)" \
	  cargo test $(LOCKED) --test tidy

.PHONY: check-clippy
check-clippy:
	@$(STAGE) "clippy has nothing to say" cargo clippy $(LOCKED) --all-targets -- -D warnings
	@$(STAGE) "it builds without SQL" cargo clippy $(LOCKED) --no-default-features --lib --bins -- -D warnings

# `--examples`, of which there need be none: dependencies then have the features that clippy checked them with.
.PHONY: check-docs
check-docs:
	@RUSTDOCFLAGS="-D warnings" $(STAGE) "the documentation has no broken links" \
	  cargo doc $(LOCKED) --lib --examples --no-deps --document-private-items

.PHONY: test
test: test-rust test-docs test-python ## All tests: Rust, examples in the documentation, the Python client against a server

.PHONY: test-rust
test-rust: setup
	@$(STAGE) "Rust tests" cargo nextest run $(LOCKED) $(if $(CI),--profile ci)

.PHONY: test-docs
test-docs:
	@$(STAGE) "examples in the documentation" cargo test $(LOCKED) --doc

# `--tests`: the program is then built from the dependencies of the Rust tests, and not a second time from its own.
.PHONY: test-python
test-python: setup
ifneq ($(wildcard $(CLIENT)/tests),)
	@$(STAGE) "the server is built" cargo build $(LOCKED) --bins --tests
	@ANNALS_BIN=$(TARGET)/debug/annals $(STAGE) "Python tests" python -m pytest --quiet $(CLIENT)/tests
else
	@echo "skipped the Python tests: there is no $(CLIENT)/tests"
endif

.PHONY: bench
bench: ## Run the benchmarks; BENCH=name for one of them
ifneq ($(wildcard benches/*.rs),)
	cargo bench $(LOCKED) $(if $(BENCH),--bench $(BENCH))
else
	@echo "skipped the benchmarks: there is no benches/"
endif

# How long a soak takes: MINUTES=5, HOURS=24, at most 168 hours. Other settings: SOAK_… in the environment, which
# `cargo bench --bench soak` lists.
MINUTES ?=
HOURS ?=
.PHONY: soak
soak: ## Load, reads and restarts of an optimised server for MINUTES=5 or HOURS=1, all checked; SOAK_REPORT=file.md
	@[ -n "$(MINUTES)$(HOURS)" ] || { echo "say for how long: make soak MINUTES=5, or HOURS=1"; exit 2; }
	SOAK_MINUTES=$(MINUTES) SOAK_HOURS=$(HOURS) SOAK_REPORT=$(abspath $(or $(SOAK_REPORT),soak-report.md)) \
	  cargo bench $(LOCKED) --bench soak

EVENTS ?=
.PHONY: scale
scale: ## What a log of EVENTS=100000000 costs: opening, memory, disk, lookups; SCALE_REPORT=file.md
	@[ -n "$(EVENTS)" ] || { echo "say how many: make scale EVENTS=100000000"; exit 2; }
	SCALE_EVENTS=$(EVENTS) SCALE_REPORT=$(abspath $(or $(SCALE_REPORT),scale-report.md)) cargo bench $(LOCKED) --bench scale
