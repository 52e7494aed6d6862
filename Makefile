# `make help` lists the targets. Everything runs in .venv, made by `make install`; nothing else on the machine is needed
# than python3 (3.11 or newer, with venv), make and git.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Touched last, so that an interrupted installation is done again.
INSTALLED := $(VENV)/.installed
DATA      := $(VENV)/.data
DOCS      := $(VENV)/.docs
FASHION_MNIST := /usr/share/datasets/fashion-mnist

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test check docs bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) $(DATA) ## .venv with lutnas and its pinned dependencies (again only when those changed)

demo: install ## the main job on this machine: profile, search, pick, verify (at most 10 minutes)
	$(BIN)/python -m benchmarks.demo

# Some tests measure time. What fails beside another test has to pass by itself.
test: install ## every test but the slow ones, on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile \
	  || { [ $$? -eq 1 ] && $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none; }

check: install ## lint, format, types, who may import what, and each program on its own extra
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check-wheels $(BIN)/python

docs: install $(DOCS) ## the documentation as a site, in site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install ## every benchmark; rewrites the tables of docs/results.md
	$(BIN)/python -m benchmarks all

clean: ## removes .venv, caches and build results; keeps runs/
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "lutnas needs Python 3.11 or newer: make install PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "this Python cannot make virtual environments (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing lutnas and its pinned dependencies into $(VENV): torch is large, this takes minutes the first time"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[agent,server,search,dev]'
	@touch $@

# What builds the site, for `make docs` alone.
$(DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# Fashion-MNIST from Debian's package where that costs nobody a question. Tried once per installation: without it `search`
# has other sources.
$(DATA): $(INSTALLED)
	@if [ -d $(FASHION_MNIST) ] || [ "$$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then :; else \
	  echo "installing the Debian package dataset-fashion-mnist"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  get="timeout 300 apt-get -qq -o DPkg::Lock::Timeout=120"; \
	  package="install -y --no-install-recommends dataset-fashion-mnist"; \
	  $$get $$package >/dev/null 2>&1 || { $$get update && $$get $$package; } >/dev/null 2>&1 \
	    || echo "could not install dataset-fashion-mnist: search looks for the images elsewhere"; \
	fi
	@touch $@
