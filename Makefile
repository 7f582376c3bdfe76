# Nightshift. `make help` lists what there is; docs/testing.md says how long each takes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export UV_SYSTEM_CERTS := 1
export PYTHONUNBUFFERED := 1
# Where it is set, hundreds of processes compile the same sources anew, seconds each.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
# Tests side by side: some of them wait, for processes and time limits.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell echo $$((3 * $$(nproc) / 2)))
UV := $(BIN)/uv
CORE_TESTS := tests/core tests/api tests/policies
LOCK := $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11")'
	@echo "[setup] Python environment in .venv"
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: venv
venv: .venv/.ready ## Make the Python environment from the locked requirements

.PHONY: lock
lock: venv ## Lock the requirements again after an edit of requirements/*.in
	cd requirements && ../$(LOCK) uv.in -o uv.txt
	cd requirements && ../$(LOCK) runtime.in -o runtime.txt
	cd requirements && ../$(LOCK) -c runtime.txt dev.in -o dev.txt
	cd requirements && ../$(LOCK) -c dev.txt bench.in -o bench.txt
	cd requirements && ../$(LOCK) -c dev.txt gateway.in -o gateway.txt

.PHONY: helm
helm: venv
	@$(BIN)/python -m e2e.cluster tool helm

.PHONY: demo
demo: venv ## From nothing to a chat answer of real vLLM in a real cluster
	@$(BIN)/python -m e2e.demo

.PHONY: check
check: venv ## Formatting, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: fast
fast: helm ## Fast tests; no cluster
	@$(BIN)/pytest tests --numprocesses=auto

.PHONY: sim
sim: venv ## 10,000 judged rollouts in any order of events, with any fault (minutes)
	@$(BIN)/pytest tests/sim/judged --rollouts 10000 --numprocesses=auto -q

.PHONY: coverage
coverage: helm ## The tests of decisions once more, with the coverage gate of the core
	@$(BIN)/pytest $(CORE_TESTS) --numprocesses=auto --cov --cov-report=
	@$(BIN)/coverage report --include='*/nightshift/core/*' --fail-under=96

.PHONY: other-tests
other-tests: helm
	@$(BIN)/pytest tests $(CORE_TESTS:%=--ignore=%) --numprocesses=auto

.PHONY: test
test: ## Everything set up, all fast tests, the stories, the engine contract
	@$(MAKE) --no-print-directory check coverage other-tests
	@$(BIN)/python -m e2e.run --suite test

.PHONY: e2e
e2e: venv ## The gateway's tests on every HAProxy, and every story (T=NAME for one story); resumes where it stopped
	@$(if $(T),,$(BIN)/pytest tests/gateway --every-haproxy --numprocesses=auto)
	@$(BIN)/python -m e2e.run --suite all $(if $(T),--story $(T))

.PHONY: crash
crash: venv ## Kill the operator at every write of the simulated stories, then at every kind of write on the local cluster
	@$(BIN)/pytest tests/runtime/test_crash.py --every-crash-point --numprocesses=auto -q
	@$(BIN)/python -m e2e.crash

.PHONY: contract
contract: venv ## The engine contract against simulator, real vLLM and a second simulator
	@$(BIN)/python -m e2e.run --suite contract

.PHONY: cluster-up
cluster-up: venv ## Start the local cluster (or reuse it)
	@$(BIN)/python -m e2e.cluster up

.PHONY: cluster-down
cluster-down: venv ## Stop the local cluster; images and caches stay
	@$(BIN)/python -m e2e.cluster down

.PHONY: generate
generate: helm ## Write the generated files: CRD, chart copy, install.yaml, references of API and metrics, drawings
	@$(BIN)/python -m tools.generate all

.PHONY: check-generated
check-generated: helm ## Check that the generated files are current
	@$(BIN)/python -m tools.generate all --check

.PHONY: transcript
transcript: venv ## Put the terminal output of the last `make demo` into README.md
	@$(BIN)/python -m tools.transcript

.PHONY: format
format: venv ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove what was built in this directory (not the cluster's caches)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist build
