# PulseRing: `make demo` runs a whole region on this machine, `make test` runs all tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
export OMP_NUM_THREADS ?= 1
export VENV

.PHONY: help setup setup-dev demo train test test-slow soak faults lint format doctor data rhythm-start clean

help: ## what can be made
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: ## set up .venv (torch, Horovod, everything pinned)
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev
	@scripts/system_packages.sh mosquitto:mosquitto chromium:chromium postgresql:postgres iproute2:ip

demo: setup ## a whole region on this machine; ARGS="--exit" ends by itself, ARGS="--help" tells more
	@$(PY) -m simulators demo $(ARGS)

train: setup ## the studies' recipe through the whole product: 40 rounds of 15 steps, three minutes on 2 cores
	@$(PY) -m simulators demo --exit --days 40 --steps 15 --mean-of 5 --root var/train $(ARGS)

test: setup-dev lint ## lint, then unit, contract, integration and end-to-end tests
	@$(PY) -m pytest -m "not slow" $(ARGS)

test-slow: setup-dev ## proofs that take minutes: kills, outages, the whole region twice
	@$(PY) -m pytest -m slow --timeout 900 $(ARGS)

soak: setup-dev ## an hour of faults at 500 wristbands, one a minute; ARGS="--minutes 10" for less
	@$(PY) -m benchmarks.soak $(ARGS)

faults: setup-dev ## 300 random schedules of kills, cuts, full disks, set clocks; half an hour; docs/faults.md
	@$(PY) -m tests.faults $(ARGS)

lint: setup-dev ## format check, lint, types, import contracts
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo 2>/dev/null || $(VENV)/bin/lint-imports

format: setup-dev ## format and mend what ruff can
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

doctor: ## check this machine and say what to do about each fault
	@$$( [ -x $(PY) ] && echo $(PY) || command -v python3 ) scripts/doctor.py $(ARGS)

data: setup ## download MIT-BIH (about 100 MB) into the user's cache
	@$(PY) -m common.ecg.download $(ARGS)

rhythm-start: setup ## teach the rhythm branch the simulated rhythms again, a minute; commit the file
	@$(PY) -m simulators.teach_rhythm

bench-%: BENCHMARKS = $(basename $(notdir $(shell grep -l '^if __name__' benchmarks/*.py)))
bench-%: ## measure a figure against its peer, such as bench-clinical
	@[ -n "$(filter $*,$(BENCHMARKS))" ] || { echo "no benchmark $*; there are: $(BENCHMARKS)" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup-dev
	@$(PY) -m benchmarks.$* $(ARGS)

clean: ## remove .venv, caches and var/; the Horovod wheel in the user's cache stays
	rm -rf $(VENV) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
