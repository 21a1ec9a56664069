# `make` lists the targets. `make demo` and `make test` work in a fresh clone.

PYTHON ?= python3
VENV   := .venv
# Of the tests: one more than two cores, because some tests wait. Their order is that of tests/conftest.py.
PROCESSES ?= 3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test joint chaos fuzz parity lint format bench bench-gpu clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Install the locked versions into .venv, again when they change

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "AAI needs Python 3.11 or newer: make install PYTHON=python3.12"; exit 1; }
	@echo "Installing AAI and its dependencies, including PyTorch, into $(VENV). This takes some minutes, once."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## Run the demo with the shipped models, offline, into demo/
	@$(BIN)/aai demo demo

test: lint ## Run all checks and tests
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

chaos: install ## Kill drivers, actors and nodes during stages, and run the slow tests (some minutes)
	$(BIN)/pytest -m "chaos or slow" tests

joint: install ## Test PE-AV with timm and torchvision, which get an environment of their own
	@test -x .venv-joint/bin/pip || $(PYTHON) -m venv .venv-joint
	@.venv-joint/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,joint]'
	.venv-joint/bin/pytest tests/models/test_joint.py tests/tasks/test_joint.py

fuzz: install ## Try 2,000 random inputs on each reader (half an hour); a failure prints what replays it
	AAI_FUZZ_PROFILE=nightly $(BIN)/pytest tests/fuzz

PARITY := .venv-parity

parity: install $(PARITY)/.installed ## Compare our CLAP embeddings with those of the package laion-clap
	@PYTHONPATH=. $(BIN)/python tests/parity/compare.py $(PARITY)/bin/python

# The compiled parts of torchvision and torchaudio are for other builds of PyTorch; those in Python are enough.
$(PARITY)/.installed: tests/parity/requirements.txt tests/parity/undeclared.txt
	@test -x $(PARITY)/bin/pip || $(BIN)/python -m venv $(PARITY)
	@$(PARITY)/bin/python -m pip install --quiet --requirement tests/parity/requirements.txt
	@$(PARITY)/bin/python -m pip install --quiet --no-deps --requirement tests/parity/undeclared.txt
	@find $(PARITY)/lib*/python*/site-packages/torchvision $(PARITY)/lib*/python*/site-packages/torchaudio \
		-name '*.so' -delete
	@touch $@

lint: install ## Check style, format, import layers and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: install ## Format the code and apply automatic fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: ## List the benchmarks
	@ls bench/*.py bench/gpu/__main__.py 2>/dev/null || echo "There are no benchmarks."

# The Python that has PyTorch for the GPU: make bench-gpu GPU_PYTHON=.venv/bin/python ONLY=embed,fit
GPU_PYTHON ?= $(PYTHON)
bench-gpu: ## Measure what the GPU of this machine shows, in under 8 minutes, into gpu.json and gpu.md
	$(GPU_PYTHON) -m bench.gpu --only "$(ONLY)"

clean: ## Remove caches, build outputs and demo/; keep .venv
	@rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
