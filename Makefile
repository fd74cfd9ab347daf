# Every target makes its own environment in .venv when it is missing and says what it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-vllm test check lint fuzz pins audit bench soak docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); set PYTHON=…" >&2; exit 1; }
	@echo "==> making the environment in $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/upstream-protos --group upstream-protos
	@touch $@

setup: $(STAMP) ## make the environment

demo: $(STAMP) ## Envoy, endpoint picker and simulated model servers under load; ARGS=--once ends by itself
	@echo "==> igw demo $(ARGS)"
	@$(BIN)/igw demo $(ARGS)

demo-vllm: $(STAMP) ## two real vLLM servers on CPU behind the gateway (downloads about 3 GB, once)
	@echo "==> real vLLM servers behind igw up"
	@$(BIN)/python scripts/vllm_demo/run.py $(ARGS)

test: $(STAMP) ## all tests
	@echo "==> pytest (a file at a time on $(WORKERS) workers)"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMP) ## format, lint, types, import layers
	@echo "==> ruff format --check"; $(BIN)/ruff format --check .
	@echo "==> ruff check"; $(BIN)/ruff check .
	@echo "==> mypy --strict"; $(BIN)/mypy
	@echo "==> lint-imports"; $(BIN)/lint-imports

check: lint test ## the whole gate

$(VENV)/.installed-%: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group $*
	@touch $@

fuzz: $(VENV)/.installed-fuzz ## fuzzers, a minute each; ARGS="--target body --seconds 3600" for one, see docs/development.md
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

pins: $(VENV)/.installed-pins ## pin the dependencies in requirements/ again; ARGS=--upgrade takes the newest versions
	@$(BIN)/python scripts/pin_dependencies.py $(ARGS)

audit: $(STAMP) ## ask a vulnerability source about the pinned dependencies; 1: found some, 2: could not ask
	@$(BIN)/python scripts/audit_dependencies.py $(ARGS)

bench: $(STAMP) ## benchmarks; ARGS chooses one, see benchmarks/README.md
	@echo "==> benchmarks"
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(STAMP) ## half an hour of mixed load and random faults; ARGS="--minutes 2" for less
	@echo "==> soak $(ARGS)"
	@$(BIN)/python -m benchmarks soak $(ARGS)

docs: $(STAMP) ## write the generated pages of docs/ again
	@$(BIN)/python scripts/generate_docs.py
	@$(BIN)/python scripts/dashboard/generate.py

prometheus: $(STAMP) ## fetch prometheus and promtool for the tests that load the alerts and the dashboard in them
	@$(BIN)/python scripts/fetch_prometheus.py

clean: ## remove the environment, caches and build results
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
