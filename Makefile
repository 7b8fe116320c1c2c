# `make quickstart` and `make test` need Python 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin
GARDEN_BIN := .venv-garden/bin
JAX_BIN := .venv-jax/bin
# XLA compiles each shape of each operation; for tests it need not optimise.
HASTY := XLA_FLAGS=--xla_backend_optimization_level=0

.PHONY: help venv venv-garden venv-jax quickstart test test-fast test-garden test-jax engines test-engines fuzz chaos lint format clean

help:
	@echo "make quickstart   set up and run the main job on generated data"
	@echo "make test         set up and run every test"
	@echo "make test-fast    the same without the tests marked slow"
	@echo "make fuzz         look for inputs that break something, an hour of CPU time"
	@echo "make test-garden  set up .venv-garden, which has the Model Garden, and test against it"
	@echo "make test-jax     set up .venv-jax, which has no TensorFlow, and test there"
	@echo "make test-engines fetch Flink, Spark and Prism, and test on them (needs Java 17, Maven and Go)"
	@echo "make chaos        kill, fill and cut off what jobs need: PART=local, storage or flink"
	@echo "make lint         ruff and pyright"
	@echo "make venv         only set up .venv"

venv: .venv/.installed

.venv/.installed: pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deepmac needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel build
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The wheel without what it depends on, and then all of that but TensorFlow.
venv-jax: .venv-jax/.installed

.venv-jax/.installed: .venv/.installed pyproject.toml setup.py
	$(PYTHON) -m venv .venv-jax
	$(JAX_BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -c 'import tomllib; \
	  project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  extras = project["optional-dependencies"]; \
	  print(*(d for d in project["dependencies"] if not d.startswith("tensorflow")), \
	    *extras["jax"], *(d for d in extras["test"] if d.startswith("pytest")), sep="\n")' \
	  > .venv-jax/requirements.txt
	$(JAX_BIN)/python -m pip install --quiet --requirement .venv-jax/requirements.txt
	@touch $@

quickstart: venv
	$(BIN)/deepmac quickstart --out quickstart

# In CI that is a failure, not a notice: see tests/support/browser.py.
WITHOUT_BROWSER := command -v chromium > /dev/null || \
  echo "note: no chromium here, so no page was opened in a browser (apt-get install chromium)"

# Each worker takes about 4 GiB.
WORKERS ?= 2

test: venv .engines/bin/fake-gcs-server
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not engines"
	@$(WITHOUT_BROWSER)

test-fast: venv .engines/bin/fake-gcs-server
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not slow and not engines"
	@$(WITHOUT_BROWSER)

# A store that keeps to conditions, for the tests of commits; without Go they are skipped.
.engines/bin/fake-gcs-server:
	@mkdir -p .engines/bin
	@if command -v go > /dev/null; then \
	  GOBIN=$(CURDIR)/.engines/bin go install github.com/fsouza/fake-gcs-server@v1.56.1; \
	else echo "note: no go here, so commits to gs:// are not tested"; fi

TARGETS ?= config coco rle records checkpoints images
MINUTES ?= 10
SEED ?= 0

fuzz: venv
	PYTHONPATH=tests/support TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m fuzzing $(TARGETS) --minutes $(MINUTES) --seed $(SEED)

# The Model Garden holds TensorFlow at 2.20. Of what it depends on, only what the tests import.
venv-garden: .venv-garden/.installed

.venv-garden/.installed: pyproject.toml setup.py tests/garden/requirements.txt
	$(PYTHON) -m venv .venv-garden
	$(GARDEN_BIN)/python -m pip install --quiet --upgrade pip
	$(GARDEN_BIN)/python -c 'import tomllib; \
	  project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  ours = [d for d in project["dependencies"] if not d.startswith(("tensorflow", "apache-beam"))]; \
	  extras = project["optional-dependencies"]; \
	  tests = [d for d in extras["test"] if d.startswith("pytest")]; \
	  print(*ours, *tests, sep="\n")' > .venv-garden/ours.txt
	$(GARDEN_BIN)/python -m pip install --quiet --no-compile --requirement .venv-garden/ours.txt \
	  --requirement tests/garden/requirements.txt
	$(GARDEN_BIN)/python -m pip install --quiet --no-compile --no-deps 'tf-models-official>=2.20,<2.21' \
	  tensorflow-datasets --editable .
	@touch $@

test-garden: venv-garden
	$(GARDEN_BIN)/python -m pytest -m garden -W ignore tests/garden

# Not `python -m pytest`: that would put this folder on the path, before the wheel. The wheel is
# made from the source archive: setuptools would find removed files again in `build`.
test-jax: venv-jax
	rm -rf .venv-jax/dist
	$(BIN)/python -m build --no-isolation --outdir .venv-jax/dist > .venv-jax/build.log
	$(JAX_BIN)/python -m pip install --quiet --no-deps --force-reinstall .venv-jax/dist/*.whl
	$(BIN)/python tests/support/native_golden.py .venv-jax/weights
	$(HASTY) $(JAX_BIN)/pytest tests/without_tensorflow tests/model/test_mask_heads.py \
	  -k "not hourglass10 and not hourglass32"

PART ?= local
TRIALS ?= 200

chaos: venv .engines/bin/fake-gcs-server
	PYTHONPATH=tests/support $(BIN)/python -W ignore -m chaos $(PART) --trials $(TRIALS) --seed $(SEED)

# What runs on other engines than our processes; downloads some 500 MB the first time.
engines: venv
	$(BIN)/python tests/support/engine_files.py

test-engines: engines
	$(BIN)/python -m pytest -m engines tests/engines

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-garden .venv-jax .engines build dist *.egg-info quickstart
