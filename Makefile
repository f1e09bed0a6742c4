# On a fresh Linux machine with Python 3.11 and make, nothing else prepared:
#   make demo    the main job on the rehearsal corpus
#   make test    lint, types, all tests
# Both install into .venv first (about 5 GB: torch brings CUDA), once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest --durations=10

.DEFAULT_GOAL := help
.PHONY: help demo test lint types fast slow install install-test clean

help:
	@echo 'make demo     install, then pretrain a small EMOD on rehearsal data (minutes)'
	@echo 'make test     install, then lint, types and all tests (up to 20 minutes)'
	@echo 'make lint | types | fast | slow     the layers of make test, one at a time'
	@echo 'make install  .venv with what the jobs need;  make install-test  and the tests'
	@echo 'make clean    remove .venv and the caches of tools'
	@echo 'PYTHON=/path/to/python3.11 make ...  chooses the interpreter (now: $(PYTHON))'

demo: install
	$(BIN)/python jobs/pretrain_emod.py

# Cheapest first: what fails early has cost little.
test: lint types fast slow

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-test
	$(BIN)/mypy

# A process on each core, which computes on that one alone.
fast: install-test
	OMP_NUM_THREADS=1 $(PYTEST) -n auto --dist loadfile -m 'not slow and not ray'

slow: install-test
	$(PYTEST) -m 'slow or ray'

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

# A stamp is touched last: an interrupted installation is continued by the next call.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/bin/python:
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'need Python 3.11 or newer, got: $(PYTHON)' "$$('$(PYTHON)' --version 2>&1)"; \
	  echo 'install it, or name one: PYTHON=/path/to/python3.11 make ...'; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip' || { \
	  echo 'need the venv module of $(PYTHON) (Debian, Ubuntu: apt install python3.11-venv)'; exit 1; }
	'$(PYTHON)' -m venv $(VENV)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
