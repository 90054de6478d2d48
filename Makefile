# Two commands: `make train` shows chairs being learned, `make test` checks everything. Needs git, make, Python 3.11 to 3.14.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help train test test-slow pretrained lint typecheck format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing sdfsrn into $(VENV): a few minutes the first time"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

train: $(VENV)/.installed ## learn chairs from single pictures; results in outputs/
	$(BIN)/python -m sdfsrn.train

test: $(VENV)/.installed-dev ## run the tests, on all cores (those marked slow: make test-slow)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed-dev ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

pretrained: $(VENV)/.installed ## make the package's own model from a run: make pretrained RUN=outputs/train/...
	@test -d "$(RUN)" || { echo "error: a run's folder is needed: make pretrained RUN=outputs/train/..."; exit 1; }
	$(BIN)/python -m sdfsrn.pretrained $(RUN)

lint: $(VENV)/.installed-dev ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

typecheck: $(VENV)/.installed-dev ## check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## put the style right
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean: ## remove the environment, caches and built files (outputs/ stays)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
