# What to type here. `make` alone says it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test sweep lint bench format lab clean venv set-up

PYTEST := .venv/bin/python -m pytest

# Compiled once, whatever the machine says of that: tests load our modules and start the lab's programs thousands of
# times. Not beside the sources, where Salt's file server would hand it out with the modules.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

# Tests that need no daemons and no lab. The others have a lab for each file, three of which are up at a time: those that
# take longest first, so that they end at about the same time.
SIDE_BY_SIDE := tests/functional tests/lint tests/unit tests/vectors
LONG := tests/sweep tests/migration
ON_FLEETS := $(LONG) $(filter-out $(LONG) $(SIDE_BY_SIDE) %/support %/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

# Files of ours; what is installed, built or cached lies elsewhere.
FILES := find . \( -path ./.git -o -path ./.venv -o -path ./lab/cache -o -path ./lab/run \) -prune -o -type f
# YAML by another name.
YAML := -path './pillar/*.sls' -o -path '*/master.d/*.conf' -o -path '*/minion.d/*.conf'
with_shebang = $(FILES) -print0 | xargs -0 awk 'FNR == 1 && /^\#!.*[\/ ]$(1)/ { print FILENAME } { nextfile }'

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: set-up ## bring a fleet up on this machine, migrate it, show the result, take it down
	@lab/demo

test: venv set-up ## everything that CI runs, except for lint
	$(PYTEST) -n 2 $(SIDE_BY_SIDE)
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder $(ON_FLEETS)

# Some hours; SWEEP=3/10 is the third of ten parts. What `make test` ran of it is said at its end.
sweep: venv set-up ## cut a node's migration and its way back short at every step, in every way
	SWEEP=$${SWEEP:-all} $(PYTEST) tests/sweep

lint: venv ## formatting and style of Python, YAML, SLS and shell
	.venv/bin/ruff format --check . $$($(call with_shebang,python3))
	.venv/bin/ruff check . $$($(call with_shebang,python3))
	.venv/bin/yamllint --strict . $$($(FILES) \( $(YAML) \) -print)
	.venv/bin/salt-lint $$(find salt pillar -name '*.sls' -o -name '*.jinja')
	.venv/bin/shellcheck $$($(call with_shebang,(ba|da)?sh))
	$(PYTEST) --quiet --no-header tests/lint/test_docstrings.py

format: venv ## put Python files into their form
	.venv/bin/ruff format . $$($(call with_shebang,python3))
	.venv/bin/ruff check --fix . $$($(call with_shebang,python3))

bench: set-up ## figures about the migration, as ratios
	@lab/bench

lab: set-up ## bring a fleet up and leave it up (then: lab/lab --help)
	lab/lab up

clean: ## take the labs down and remove what was installed and built in this checkout
	@for run in lab/run/*/; do [ ! -d "$$run" ] || LAB=$$(basename "$$run") lab/lab down; done
	rm -rf .venv lab/cache lab/run .pytest_cache .ruff_cache .hypothesis
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +

# What the lab needs; it runs on the machine's own Python.
set-up:
	@lab/debian-packages
	@lab/lab set-up

# What the tests and linters need.
venv: .venv/complete

.venv/complete: requirements-salt.txt requirements-dev.txt
	@lab/venv
