# contimg: what can be done here. `make help` lists it.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Caches stay in the checkout, not in the user's home.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export XDG_CONFIG_HOME := $(CURDIR)/.cache/config
$(shell mkdir -p $(XDG_CONFIG_HOME))
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib

.PHONY: help setup demo demo-cluster test test-system soak check drill bench format lock release clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: .venv/.complete  ## install everything into .venv (once)

.venv/.complete: requirements.lock pyproject.toml tools/setup
	@tools/setup

demo: setup  ## half an hour of simulated sky to a calibrated mosaic
	@$(BIN)/contimg demo demo

demo-cluster: setup  ## the same on Slurm: two nodes on this machine (as root; installs it)
	@[ "$$(id -u)" = 0 ] || { echo "demo-cluster: a Slurm cluster needs root; make demo needs none" >&2; exit 1; }
	tools/setup-system
	build/slurm/bin/python tests/support/slurm_cluster.py build/slurm/bin/python -m contimg demo demo-cluster --profile profiles/slurm

test: setup  ## every test: science, workflow, break tests and drills in their short form
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder tests

test-system: setup  ## tests against real daemons: Prometheus, Alertmanager, Chromium, systemd, Slurm (installs them)
	@tools/setup-system
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder tests/system

soak: setup  ## the long break tests, then a stream with faults at random (SOAK="--hours 24 --seed 1", or "--hours 1 --groups 1000")
	@$(BIN)/pytest --long tests/faults
	PYTHONPATH=tests:tests/support $(BIN)/python -m faults.soak $(SOAK)

check: setup  ## the fast checks: format, lint, types, imports, workflow, unit tests
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	if $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 12))"; then $(BIN)/mypy; else echo "types: with Python 3.12"; fi
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check Snakefile rules
	tools/snakemake-lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" tests

drill: setup  ## break a data root for real and recover it by the commands of the recovery page
	@DRILL=long $(BIN)/pytest -s tests/drills

bench: setup  ## what it costs, against other ways, full size (BENCH=--small: to see that it works; BENCH="--only imaging")
	@$(BIN)/python -m benchmarks $(BENCH)

release: setup  ## build the sdist and the wheel of HEAD into dist/, with the locks, reproducibly
	@tools/release

format:  ## format the code
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile rules

lock: setup  ## resolve the dependencies anew
	@tools/lock

clean:  ## remove what the demo and the tests leave behind
	@rm -rf demo demo-cluster build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
