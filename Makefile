# Two commands: `make app` and `make test`. Each does all its own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app test fast lint bench gpu clean

app: $(VENV)/.app
	@$(BIN)/python -m moe_core serve --port $(PORT)

test: $(VENV)/.dev lint
	@$(BIN)/python tests/install_browser.py
	$(BIN)/python -m pytest -n 2 --dist loadfile

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.app
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.store

# On a machine with a CUDA device: no network, no browser; .venv where there is one, else PYTHON as it is.
gpu:
	@if test -x $(BIN)/python; then $(BIN)/python -m benchmarks.gpu; else $(PYTHON) -m benchmarks.gpu; fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.app: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MoEScope needs Python 3.11 or newer: make PYTHON=python3.12 app")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what the app needs (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
