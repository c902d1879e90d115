# `make demo` and `make test` need Python 3.11 or newer and nothing else; a C++ compiler is used
# where there is one. Everything is installed into .venv, once, and again when its list changes.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint requirements-dev.lock
PHOTOS ?=
PYTEST_ARGS ?=

.PHONY: setup demo test lint bench bench-recall lock clean

setup: $(VENV)/.dev

# The demonstration needs neither test nor lint tools, so it has an installation of its own, and
# compiles only what it uses.
demo: $(VENV)/.demo
	@$(BIN)/nciihash demo $(PHOTOS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@for script in benchmarks/*.py; do $(BIN)/python "$$script" || exit 1; done

# Which edited copies are found, and how near different pictures come: some minutes. PHOTOS and HARD
# are folders; without them there are only scikit-image's few photos.
bench-recall: $(VENV)/.dev
	@$(PIP) --editable '.[dev,demo,bench-recall]'
	$(BIN)/python benchmarks/recall.py $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(HARD),--hard $(HARD)) \
	    --out benchmarks/results

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/it" \
	    if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml requirements-dev.lock | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes a minute the first time."
	@$(PIP) --no-compile --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes a minute the first time."
	@$(PIP) --editable '.[dev,demo,bench]'
	@touch $@ $(VENV)/.demo

# Pin again what the extras ask for, from a fresh environment: names and versions, no addresses.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet '.[dev,demo,bench]'
	{ echo '# Made by `make lock`: what `make demo` and `make test` install.'; \
	  build/lock/bin/python -m pip --disable-pip-version-check freeze --exclude nciihash; \
	} > build/requirements && mv build/requirements requirements-dev.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
