# `make demo` and `make test` are all a fresh machine needs; both set up `.venv` themselves.
# Another interpreter: make test PYTHON=python3.12

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that is Python 3.11 or later makes the environment.
PYTHON ?= python3 python3.13 python3.12 python3.11
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := pyproject.toml constraints.txt Makefile
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS)

# What the tests need of the system, as <Debian package>:<program> and <Debian package>:<font family, _ for a space>. It is
# installed where that is allowed (root, apt-get); elsewhere the tests say what to install, and fail on a build server.
SYSTEM_PROGRAMS := chromium:chromium tmux:tmux fontconfig:fc-list
SYSTEM_FONTS := fonts-dejavu-core:DejaVu_Sans fonts-liberation:Liberation_Sans

# One stamp for what `wirebert` needs to run, one for the tools that check it. A stamp holds the folder it was made in,
# because an editable installation points there: an environment that was copied or moved, or whose Python is gone or too
# old, is set up again.
RUN_STAMP := $(VENV)/run.stamp
DEV_STAMP := $(VENV)/dev.stamp
IS_FIT := import pip, sys; sys.exit(sys.version_info < (3, 11))
IS_USABLE := $(shell test "$$(cat $(RUN_STAMP) 2>/dev/null)" = "$(CURDIR)" \
	&& $(BIN)/python -c '$(IS_FIT)' 2>/dev/null && echo yes)
ifneq ($(IS_USABLE),yes)
.PHONY: $(RUN_STAMP)
endif

.PHONY: help demo test check soak setup format-check lint types quick-types tests quick-tests system-programs format reference docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' Makefile

demo: $(RUN_STAMP) ## train a small model on generated traffic and show its report
	$(BIN)/python -m wirebert demo

test: format-check lint types tests ## the gate: format, lint, types, and all tests but the soak

check: $(DEV_STAMP) ## the quick part of the gate, under a minute
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target format-check lint quick-types quick-tests

soak: SYSTEM_PROGRAMS += rsyslog:rsyslogd
soak: $(DEV_STAMP) system-programs ## kills at any moment, whole commands, long fuzzing, an installed wheel: before a release
	-$(PIP) install --quiet --constraint constraints.txt atheris  # guides the fuzzing; Linux alone
	$(PYTEST) -m soak --timeout=1800

setup: $(DEV_STAMP) ## only set up .venv with the development tools

format-check: $(DEV_STAMP)
	$(BIN)/ruff format --check .

lint: $(DEV_STAMP)
	$(BIN)/ruff check .

types: $(DEV_STAMP)
	$(BIN)/python -m basedpyright --project pyproject.toml

quick-types: $(DEV_STAMP)
	$(BIN)/python -m basedpyright --project pyproject.toml src

tests: $(DEV_STAMP) system-programs
	$(PYTEST)

quick-tests: $(DEV_STAMP)
	$(PYTEST) -m "not slow and not soak" --hypothesis-profile=quick

system-programs:
	@missing=; \
	for need in $(SYSTEM_PROGRAMS); do command -v $${need#*:} >/dev/null || missing="$$missing $${need%:*}"; done; \
	for need in $(SYSTEM_FONTS); do \
	  fc-list "$$(echo $${need#*:} | tr _ ' ')" 2>/dev/null | grep -q . || missing="$$missing $${need%:*}"; \
	done; \
	test -z "$$missing" || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
	  echo "installing$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get install -qq -y --no-install-recommends $$missing >/dev/null 2>&1 \
	  || { apt-get -qq update && apt-get install -qq -y --no-install-recommends $$missing >/dev/null; } \
	  || echo "$$missing: cannot be installed here"; \
	}

format: $(DEV_STAMP) ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(DEV_STAMP) ## write the generated pages: docs/cli.md, settings.md, api.md, schemas/ and the notebook
	$(BIN)/python -m pytest -q tests/test_documents.py tests/test_schemas.py tests/test_notebook.py --update-docs

docs: $(DEV_STAMP) ## build the documentation site, without a network, into build/docs
	$(BIN)/python -m sphinx -c docs -b html -W --keep-going -q . build/docs
	@echo "open build/docs/index.html"

clean: ## remove the environment (runs/ is kept)
	rm -rf $(VENV) build dist .ruff_cache src/*.egg-info

# The stamp is written last and in one move, so that a failed download leaves none and the next `make` goes on from there.
$(RUN_STAMP): $(INPUTS)
	@echo "setting up $(VENV) (once; the download takes a few minutes)"
	@rm -f $(RUN_STAMP) $(DEV_STAMP)
	@$(BIN)/python -c '$(IS_FIT)' 2>/dev/null && exit 0; \
	for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  exec "$$python" -m venv --clear $(VENV); \
	done; \
	echo "wirebert needs Python 3.11 or later and found none as $(PYTHON): name one, as in make PYTHON=/path/to/python3.12" >&2; \
	exit 1
	$(PIP) install --quiet --constraint constraints.txt setuptools
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[train]'
	@echo "$(CURDIR)" > $@.part && mv $@.part $@

$(DEV_STAMP): $(RUN_STAMP)
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[train,dev]'
	@echo "$(CURDIR)" > $@.part && mv $@.part $@
