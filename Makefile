# What to type here. `make` alone says it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-rest sweep acceptance lint bench format docs lab clean venv set-up

PYTEST := .venv/bin/python -m pytest

# Compiled once, whatever the machine says of that: tests load our modules and start the lab's programs thousands of
# times. Not beside the sources, where Salt's file server would hand it out with the modules.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

# Each file with a fleet of the lab runs in one process, in its order, and those that take longest begin first
# (tests/conftest.py); all others fill the gaps. A fleet waits most of its time, hence more processes than cores.
SIDE_BY_SIDE := -n $(shell echo $$(( $$(nproc) + 1 ))) --dist loadscope --no-loadscope-reorder
WITHOUT_FLEETS := tests/functional tests/lint tests/unit tests/vectors
ON_FLEETS := tests/sweep tests/migration tests/lab tests/integration

# Files of ours; what is installed, built or cached lies elsewhere.
FILES := find . \( -path ./.git -o -path ./.venv -o -path ./lab/cache -o -path ./lab/run \) -prune -o -type f
# YAML by another name.
YAML := -path './pillar/*.sls' -o -path '*/master.d/*.conf' -o -path '*/minion.d/*.conf'
with_shebang = $(FILES) -print0 | xargs -0 awk 'FNR == 1 && /^\#!.*[\/ ]$(1)/ { print FILENAME } { nextfile }'

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: set-up ## bring a fleet up on this machine, migrate it, show the result, take it down
	@lab/demo

test: venv set-up ## ten minutes: all that needs no fleet, the story from end to end on one, an adversary's night on another
	$(PYTEST) $(SIDE_BY_SIDE) --walks=some tests/story tests/adversary $(WITHOUT_FLEETS)

test-all: test test-rest ## everything

# What test-all adds: the other fleets, every case of walks, and many more made-up ones where Hypothesis makes them up.
test-rest: venv set-up
	HYPOTHESIS_PROFILE=thorough $(PYTEST) $(SIDE_BY_SIDE) -m "fleet or hypothesis or walk" $(ON_FLEETS) $(WITHOUT_FLEETS)

# Some hours; SWEEP=3/10 is the third of ten parts, SWEEP=<commit> what `make test-all` chooses for that commit.
sweep: venv set-up ## cut a node's migration and its way back short at every step, in every way
	SWEEP=$${SWEEP:-all} $(PYTEST) tests/sweep
	PASSES=$${PASSES:-20} $(PYTEST) tests/adversary

# An hour. Not a part of `make test-all`, which proves the same on a client in user space; CI runs test_dead_san.py.
acceptance: venv set-up ## on a node with a kernel of its own: what only a kernel's NFS client shows
	$(PYTEST) -rs tests/acceptance

lint: venv ## formatting and style of Python, YAML, SLS and shell
	.venv/bin/ruff format --check . $$($(call with_shebang,python3))
	.venv/bin/ruff check . $$($(call with_shebang,python3))
	.venv/bin/yamllint --strict . $$($(FILES) \( $(YAML) \) -print)
	.venv/bin/salt-lint $$(find salt pillar -name '*.sls' -o -name '*.jinja')
	.venv/bin/shellcheck $$($(call with_shebang,(ba|da)?sh))

format: venv ## put Python files into their form
	.venv/bin/ruff format . $$($(call with_shebang,python3))
	.venv/bin/ruff check --fix . $$($(call with_shebang,python3))

docs: venv ## make docs/pillar.md, docs/reference.md and the end of docs/hazards.md out of what they are about
	.venv/bin/python docs/generate

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
