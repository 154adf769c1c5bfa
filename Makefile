# Everything a user or CI types. Plain `python3 -m venv` and pip; nothing else is needed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Processes of the test suite, each with its own torch (about 1 GB)
WORKERS ?= 2
# A file's tests stay together, for they share what they start from; the long files come first
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help demo demo-all run status metrics dev test test-slow test-ui test-all test-faults test-stores test-ray docs check format data bench bench-training bench-encoding bench-serve try-elsewhere audit clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED)  ## The main job in minutes, offline: train on the shipped questions and print the metrics table
	$(BIN)/embed-pipeline run --dataset disease

demo-all: $(INSTALLED)  ## Every shipped data set and recipe; takes much longer
	$(BIN)/embed-pipeline run --on-request

test: $(INSTALLED)  ## Run the test suite, in minutes
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)  ## Run what the test suite leaves out: PostgreSQL, resumed trainings, nights
	$(PYTEST) -m slow

test-all: test test-slow test-ui  ## Run every test

test-ui: $(INSTALLED)  ## Walk through the real UI in a browser (chromium); screenshots in .embed_pipeline/screenshots
	$(BIN)/python -m pytest -x browser_tests

test-faults: $(INSTALLED)  ## Figures under faults, about an hour: kills, bad input, failing services, fuzz (KILLS=200 FUZZ_SECONDS=600 SEED=1)
	$(BIN)/python -m pytest fault_tests

test-stores: $(INSTALLED)  ## The contract of vector stores on real servers: QDRANT=http://… ELASTICSEARCH=http://… PGVECTOR=postgresql://… (keys: QDRANT_KEY= …)
	TEST_QDRANT='$(QDRANT)' TEST_QDRANT_KEY='$(QDRANT_KEY)' TEST_ELASTICSEARCH='$(ELASTICSEARCH)' \
	TEST_ELASTICSEARCH_KEY='$(ELASTICSEARCH_KEY)' TEST_PGVECTOR='$(PGVECTOR)' TEST_PGVECTOR_KEY='$(PGVECTOR_KEY)' \
	$(BIN)/python -m pytest embed_pipeline_tests/stores

test-ray: $(INSTALLED)  ## Encoding, mining and training on a Ray cluster of two nodes, one killed; installs the extra ray; minutes, CI does not run it
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	$(BIN)/python -m pytest embed_pipeline_tests/cluster

dev: $(INSTALLED)  ## Start the Dagster UI on http://127.0.0.1:3000
	$(BIN)/embed-pipeline dev

status: $(INSTALLED)  ## What is fresh, stale or missing
	$(BIN)/embed-pipeline status

metrics: $(INSTALLED)  ## Print the newest metrics table
	$(BIN)/embed-pipeline metrics

check: $(INSTALLED)  ## Format, lint, types, definitions; CI runs this and test-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	EMBED_PIPELINE_DAGSTER_STORAGE=.embed_pipeline/dagster $(BIN)/dagster definitions validate

docs: $(INSTALLED)  ## Build the documentation into site/, to be opened without a server: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

data: $(INSTALLED)  ## Write the shipped workbooks again (the same bytes)
	$(BIN)/python data/disease/generator/generate.py

bench: $(INSTALLED)  ## Benchmarks, run by hand; DATA=folder adds the public data sets
	$(BIN)/python benchmarks/clean_large_workbook.py
	$(if $(DATA),$(BIN)/python benchmarks/evaluate_public_sets.py $(DATA))

bench-training: $(INSTALLED)  ## Two libraries' plain recipes against ours: make bench-training DATA=folder
	$(BIN)/python benchmarks/train_side_by_side.py $(DATA)

bench-encoding: $(INSTALLED)  ## Texts a second beside sentence-transformers and FlagEmbedding; DATA=folder: your texts, one a line
	$(BIN)/python benchmarks/encode_side_by_side.py $(DATA)

bench-serve: $(INSTALLED)  ## The service against its own encoder on 127.0.0.1, with a reload under load; minutes
	$(BIN)/python benchmarks/serve_under_load.py

try-elsewhere: $(INSTALLED)  ## What other libraries make of an exported folder: make try-elsewhere FOLDER=... [SERVED=... MODEL=... [QDRANT=... ALIAS=...]]
	$(BIN)/python benchmarks/try_elsewhere.py $(FOLDER) $(if $(SERVED),--served $(SERVED) --model $(MODEL)) $(if $(QDRANT),--qdrant $(QDRANT) --alias $(ALIAS))

# In an environment of its own: what it needs is no dependency. --strict: a package that the database could not be asked about
# is an error, else a machine without a way to it would be told that nothing is known.
audit:  ## Known vulnerabilities in the locked packages (pip-audit asks pypi.org; needs the network)
	@test -x $(VENV)/audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet 'pip-audit>=2.9,<3')
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement constraints.txt

clean:  ## Remove all state: artifacts, vectors, metrics, Dagster's storage
	rm -rf .embed_pipeline

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12) and "Python 3.11 or 3.12 is needed, found " + sys.version + ". Name one: make PYTHON=python3.11")'
	@echo "Creating $(VENV) and installing the locked packages (once, some minutes, about 5 GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
