# `make quickstart` and `make test` need Python 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help venv quickstart test test-fast fuzz lint format clean

help:
	@echo "make quickstart   set up and run the main job on generated data"
	@echo "make test         set up and run every test"
	@echo "make test-fast    the same without the tests marked slow"
	@echo "make fuzz         look for inputs that break something, an hour of CPU time"
	@echo "make lint         ruff and pyright"
	@echo "make venv         only set up .venv"

venv: .venv/.installed

.venv/.installed: pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deepmac needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel build
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

quickstart: venv
	$(BIN)/deepmac quickstart --out quickstart

test: venv
	$(BIN)/python -m pytest

test-fast: venv
	$(BIN)/python -m pytest -m "not slow"

TARGETS ?= config coco rle records checkpoints images
MINUTES ?= 10
SEED ?= 0

fuzz: venv
	PYTHONPATH=tests/support TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m fuzzing $(TARGETS) --minutes $(MINUTES) --seed $(SEED)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist *.egg-info quickstart
