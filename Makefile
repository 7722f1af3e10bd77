# The two to know: `make demo` and `make test`. Each target sets itself up in .venv, once, and again when
# pyproject.toml has changed. ARGS goes to whatever the target runs: make test ARGS="-k ledger".

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
# Marks of what is installed. The first says by which Python, so that asking for another one starts over.
READY := $(VENV)/.ready-$(subst /,-,$(PYTHON))
DOCS_READY := $(VENV)/.ready-for-docs
FUZZ_READY := $(VENV)/.ready-for-fuzzing
MUTANTS_READY := $(VENV)/.ready-for-mutants
ROOMS_READY := $(VENV)/.ready-for-rooms

.PHONY: help
help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

.PHONY: demo
demo: $(READY)  ## devices, a backend and a relay that dies midway, on this machine's own readings
	@$(BIN)/python -m examples.demo $(ARGS)

.PHONY: test
test: $(ROOMS_READY)  ## all tests
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-all
test-all: test  ## all tests, then again on each other Python that is found
	@VENV=$(VENV) .ci/others $(ARGS)

.PHONY: coverage
coverage: $(READY)  ## the core's own tests; fails under 98 % branch coverage of the core
	@$(BIN)/coverage run -m pytest tests/proto $(ARGS)
	@$(BIN)/coverage report --fail-under=98

.PHONY: lint
lint: $(READY)  ## ruff: rules and format
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet

.PHONY: types
types: $(READY)  ## mypy --strict
	@$(BIN)/mypy --no-error-summary

.PHONY: bench
bench: $(ROOMS_READY)  ## what core, client and relay cost, each against its peer in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: sim
sim: $(READY)  ## simulated runs of every scenario under faults: is every promise kept? All night: ARGS="--for 8h"
	@$(BIN)/python -m metered_anyio.cli sim $(or $(ARGS),--seeds 200)

.PHONY: fuzz
fuzz: $(FUZZ_READY)  ## atheris, for all that reads what others wrote: ARGS="--inputs 1000000 --seconds 0"
	@$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: mutants
mutants: $(MUTANTS_READY)  ## small faults in the machines: which of them would no test notice?
	@$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: docs
docs: $(DOCS_READY)  ## the documentation, into docs/_build
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build $(ARGS)
	@echo docs/_build/index.html

.PHONY: clean
clean:  ## remove all that was made, environments included
	rm -rf .venv .venv-3.* build dist docs/_build .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find metered_proto metered_anyio metered_media tests testbed benchmarks examples docs -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml .ci/venv
	@.ci/venv "$(PYTHON)" "$(VENV)" dev
	@rm -f $(VENV)/.ready-*
	@touch $@

$(ROOMS_READY): $(READY) .ci/other-chairs
	@.ci/other-chairs
	@touch $@

$(DOCS_READY): $(READY)
	@.ci/venv "$(PYTHON)" "$(VENV)" docs
	@touch $@

$(FUZZ_READY): $(READY)
	@.ci/venv "$(PYTHON)" "$(VENV)" fuzz
	@touch $@

$(MUTANTS_READY): $(READY)
	@.ci/venv "$(PYTHON)" "$(VENV)" mutation
	@touch $@
