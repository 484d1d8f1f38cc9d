# make demo   train, serve, ask, kill two nodes, report (about three minutes; sets everything up first)
# make test   the tests (about twenty minutes on two slow cores; ARGS=--long adds those that take minutes each)
# make check  linters and types
# make dist   the packages, into dist/, checked as an index would
# make bench  benchmarks
# make docs   the documentation, into site/

PYTHON ?= python3
VENV := .venv
ORTOOLS := .venv-ortools
HIVEMIND := .venv-hivemind
RUN := $(VENV)/bin/python
# On Linux the plain PyTorch wheel brings CUDA libraries; README.md says how to get the CPU build.
TORCH ?= torch==2.13.0

# Whatever is told elsewhere: else every process of every test compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check dist bench docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.train
	$(RUN) -m airmoe.cli demo $(ARGS)

test: $(VENV)/.dev
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

dist: $(VENV)/.dev
	rm -rf dist
	$(RUN) -m build --no-isolation
	$(RUN) -m twine check --strict dist/*

bench: $(VENV)/.dev $(ORTOOLS)/.ready $(HIVEMIND)/.ready
	$(RUN) benchmarks/selection.py
	$(RUN) benchmarks/joint.py
	$(RUN) benchmarks/gating.py
	$(RUN) benchmarks/federated_round.py
	$(RUN) benchmarks/flower_round.py
	test -d runs/bench || $(RUN) -m airmoe.cli train --out runs/bench
	$(RUN) benchmarks/node_process.py runs/bench
	$(RUN) benchmarks/hivemind.py runs/bench --python $(HIVEMIND)/bin/python

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

$(VENV)/.train: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "$(TORCH)" --editable ".[train]"
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(RUN) -m pip install --quiet "$(TORCH)" --editable ".[train,llm,flower,monitor,dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(RUN) -m pip install --quiet "$(TORCH)" --editable ".[train,llm,flower,monitor,dev,docs]"
	touch $@

# Competitors in the benchmarks only, so each in an environment of its own.
$(ORTOOLS)/.ready:
	test -x $(ORTOOLS)/bin/python || $(PYTHON) -m venv $(ORTOOLS)
	$(ORTOOLS)/bin/python -m pip install --quiet "ortools>=9.15,<10"
	touch $@

$(HIVEMIND)/.ready:
	test -x $(HIVEMIND)/bin/python || $(PYTHON) -m venv $(HIVEMIND)
	$(HIVEMIND)/bin/python -m pip install --quiet "$(TORCH)" "hivemind>=1.1.12,<2"
	touch $@

clean:
	rm -rf $(VENV) $(ORTOOLS) $(HIVEMIND) site dist .pytest_cache .mypy_cache .ruff_cache
