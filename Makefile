# `make` lists the targets. `make demo` and `make test` each take a fresh clone all the way.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test chaos lint format bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Make .venv with the locked versions: once, and again when they change

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "AAI needs Python 3.11 or newer. Name one: make install PYTHON=python3.12"; exit 1; }
	@echo "Installing AAI and what it needs, PyTorch among it, into $(VENV): this takes minutes, once."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## Run the demo of the tiny world, offline, into demo/
	@$(BIN)/aai demo demo

test: lint ## Run every check and every test
	$(BIN)/pytest

chaos: install ## Kill drivers, actors and nodes in the middle of stages, some minutes
	$(BIN)/pytest -m chaos tests

lint: install ## Check style, format, layers and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: install ## Put the code into the house format, and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: ## List the benches
	@ls bench/*.py 2>/dev/null || echo "There are no benches yet."

clean: ## Remove caches, build outputs and demo/, but not .venv
	@rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
