# The commands anyone needs to remember. Each does its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench oracle fuzz test-faults test-environments test-gpu test-cluster test-clients dist clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ - /'

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

install: .venv/.installed  ## make .venv with everything in it

demo: install  ## the whole job on a small real model, with one HTML report at the end
	$(BIN)/fine-tuning-llm demo

JOBS ?= 2
test: install  ## the test suite, in JOBS (2) processes
	$(BIN)/python -m pytest -q -n $(JOBS) --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

check: install  ## style, types, spelling, who imports whom, how much the tools take of a context
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell README.md SKILL.md AGENTS.md CHANGELOG.md references
	$(BIN)/python -m pytest -q tests/test_boundaries.py
	$(BIN)/python -m benchmarks.surface --check

oracle: install  ## compare with what the tools answered before 0.2; FAST=1 for three minutes of it
	$(BIN)/python -m tests.oracle compare $(if $(FAST),--fast)

SECONDS ?= 600
fuzz: install  ## explore at random for SECONDS (600), print the seed and what was found
	$(BIN)/python -m tests.fuzz.explore --seconds $(SECONDS)

bench: demo  ## every measurement that a document quotes, then the documents' tables
	for script in $(filter-out benchmarks/tables.py,$(wildcard benchmarks/*.py)); do \
		$(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; done
	$(BIN)/python -m benchmarks.tables

test-faults: install  ## fault injection at full size, some minutes
	$(BIN)/python -m pytest -q -m faults

test-environments: install  ## GPTQ, AWQ and FP8 in the environment built for them, GiB and minutes
	$(BIN)/python -m pytest -q -m environments

test-gpu: install  ## the self-test of `doctor --gpu`: train, resume, merge, quantize, evaluate
	$(BIN)/python -m ft_tools.doctor.worker.gpu_self_test

test-cluster: install  ## a real Slurm and Ray, other tools' own validators; installs them
	FINE_TUNING_LLM_TEST_CLUSTER=1 $(BIN)/python -m pytest -q tests/cluster

dist: install  ## everything that is published: skill folder, wheel, plugins, MCPB, registry entry
	rm -rf dist
	$(BIN)/python -m release.assemble dist
	$(BIN)/python -m build --outdir dist

test-clients: install  ## real clients from npm: installed from the skill's folder, connected, and used
	FINE_TUNING_LLM_TEST_CLIENTS=1 $(BIN)/python -m pytest -q tests/clients

clean:  ## remove .venv and caches, never runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
