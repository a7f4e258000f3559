# Everything from a fresh machine with Python 3.11 or newer and make: `make run`, `make test`.
# More options for pip, e.g. make setup PIP_ARGS="--no-index --find-links wheels" (docs/install.md)
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run ui compare quick test test-all coverage lint docs lock setup clean

## train (by default the tutorial's fourteen stages), e.g. make run ARGS="model=cnn_adaptive optim=sgd_momentum"
run: ARGS ?= experiment=tutorial
run: $(INSTALLED)
	$(BIN)/python -m experiments $(ARGS)

## the MLflow UI over the runs of this folder, e.g. make ui ARGS="--port 5001"
ui: $(INSTALLED)
	$(BIN)/python -m experiments.ui $(ARGS)

## the latest sweep side by side, e.g. make compare ARGS="--html page.html"
compare: $(INSTALLED)
	$(BIN)/python -m experiments.compare $(ARGS)

## in about a minute: the tests that start no process and make no whole run
quick: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not process and not long"

## in about ten minutes: those, and the ones with whole runs and short processes
test: $(INSTALLED)
	$(BIN)/python -m pytest

## all tests, the slow ones (browser, servers, whole data) too
test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or not slow"

## which lines the tests of `make test` run, in the terminal and in htmlcov/
coverage: $(INSTALLED)
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html

## style, types and the direction of imports
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy .ci/lock.py .ci/lowest.py
	$(BIN)/lint-imports

## the documentation site, in build/site/index.html
docs: $(INSTALLED)
	rm -rf build/site build/site-source build/site-cache
	mkdir -p build/site-source
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs/site -d build/site-cache build/site-source build/site

## requirements.lock anew, after pyproject.toml or constraints.txt changed (Python 3.11 on Linux x86_64)
lock: $(INSTALLED)
	$(BIN)/python .ci/lock.py

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	@echo "1 of 2: a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@echo "2 of 2: the packages; minutes at the first time, since PyTorch alone is 200 MB, or gigabytes with CUDA"
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev]" $(PIP_ARGS)
	@touch $@
	@echo "Set up in $(VENV). For commands without make, activate it: . $(BIN)/activate"

clean:
	rm -rf $(VENV) build dist htmlcov .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
