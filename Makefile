# Every target below `setup` makes the environment first: a fresh clone needs Python 3.12 and make.

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed
ARGS ?=
JOBS ?= 2

# True of an interpreter that can serve as the environment's, with pip.
USABLE := import sys, pip; sys.exit(sys.version_info < (3, 12))

.DEFAULT_GOAL := help
.PHONY: help setup demo test validate bench lint typecheck docs gallery clean

help:  ## list the targets
	@echo "make TARGET [PYTHON=python3.12] [ARGS='more arguments'] [JOBS=2, tests at a time]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment alone: .venv, tested versions, editable install

$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PY) -c '$(USABLE)' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || { \
	    echo "bnnzoo needs Python 3.12 or newer, and '$(PYTHON)' is not: give one with PYTHON=/path/to/python" >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv --clear .venv; }
	@echo "Installing bnnzoo and its dependencies into .venv (a minute or more the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: setup  ## compare priors, backends and temperatures on real data; writes report.html
	@$(PY) -m bnnzoo.demo $(ARGS)

test: setup  ## run the tests
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

validate: setup  ## run the slow statistical checks that `make test` leaves out
	@$(PY) -m pytest -n $(JOBS) --dist worksteal -m validate --results=docs/validation-results.md $(ARGS)

bench: setup  ## run every benchmark
	@set -e; for file in $(wildcard benchmarks/[a-z]*.py); do \
	  echo "== $$file"; $(PY) $$file $(ARGS); done

lint: setup  ## ruff (rules, then format) and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(MAKE) --no-print-directory typecheck

# mypy looks for bnnzoo.models inside bnnzoo/, so it is shown a tree in which it is there.
typecheck: setup  ## mypy alone
	@rm -rf .typecheck && mkdir -p .typecheck/bnnzoo
	@cd .typecheck/bnnzoo && ln -s ../../bnnzoo/* ../../models ../../inference ../../reports .
	@cd .typecheck && ../$(PY) -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p bnnzoo

docs: setup  ## build the site into docs/_build; a warning is an error
	@rm -rf docs/_build  # what is kept would hide warnings, and the catalogue of yesterday
	@$(PY) -m sphinx -W --keep-going -n -q docs docs/_build
	@echo "open docs/_build/index.html"

gallery: setup  ## run the examples of docs/gallery again: their pictures and their page
	@$(PY) docs/gallery/make.py

clean:  ## remove builds and caches; keeps .venv, runs and reports
	@rm -rf build dist docs/_build *.egg-info .typecheck .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
