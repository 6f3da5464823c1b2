# Each target makes the environment first: nothing else has to be typed in a fresh clone.
#
#   make demo    build a corpus, embed it, search it      make lint    ruff
#   make test    run every test                           make types   pyright
#   make check   ruff, pyright and the quick unit tests: before each commit
#   make fuzz    millions of hostile messages at the decoders
#   make chaos   KILLS=200 processes killed at random
#   make coverage    the branches of the core, the codec and the commit path
#   make docs    write docs/cli.md and docs/screens.md from the command line
#   make bench   run the benchmarks                       make clean   remove what was built (distclean: the environments too)
#
#   PYTHON=python3.12   which Python makes the environment (3.11 or newer)
#   VENV=.venv          where it is
#   TORCH=torch         which torch to install, in pip's words; the default is the version of constraints.txt
#   ARGS="-k codec"     more arguments for pytest
#   CHUNKS=1500         how many chunks the demo embeds
#   WORKERS=4           tests side by side: most of the time they wait for processes
#   INPUTS=10000000, SEED=0   of the fuzzer
#   BENCH=bench         the folder for corpus and results of the benchmarks

SHELL := /bin/bash
.DELETE_ON_ERROR:
# The tests start a thousand processes: each would compile the packages anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: demo test check coverage lint types docs bench fuzz chaos env clean distclean

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell grep '^torch==' constraints.txt)
CHUNKS ?= 1500
KILLS ?= 200
ARGS ?=
WORKERS ?= 4
INPUTS ?= 10000000
SEED ?= 0
BENCH ?= bench

# The tests that say what those files do, and no other: what a simulation happens to run is not tested by that alone.
COVERING := $(addprefix tests/unit/,coordinator/core/test_pool_*.py protocol/wire/test_codec.py protocol/wire/test_arrays.py \
  protocol/run_directory/test_durable.py protocol/run_directory/test_directory_lock.py \
  coordinator/intake/test_chunk_loader.py coordinator/intake/test_record_spans.py exporter/segments/test_segment_builder.py \
  exporter/run_directory/test_run_directory.py exporter/run_directory/test_spec_change.py exporter/run_directory/test_scrub.py \
  exporter/test_export_*.py exporter/*/test_export_*.py)

# Left to `make test`: what loads models, and what tries thousands of worlds, cuts, bytes or messages, or every mutant.
LONG := $(addprefix --ignore=tests/unit/,worker/encoders worker/models coordinator/core/test_mutants.py \
  coordinator/core/test_simulation.py coordinator/intake/test_hostile_input.py coordinator/reading/test_json_values.py \
  client/evaluation/test_recommendation.py exporter/test_power_cut.py exporter/run_directory/test_scrub.py \
  protocol/wire/test_decoder_fuzz.py protocol/wire/test_codec.py protocol/run_directory/records/test_records.py \
  test_stdlib_corpus.py)

BIN := $(VENV)/bin
STAMP := $(VENV)/.embedfleet-installed
# Python compiles a module when it is first imported: most of those that are installed never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
DEMO := demo
SEARCH := $(BIN)/embedfleet search $(DEMO)/run --top-k 3

demo: $(DEMO)/corpus/corpus.jsonl
	@test -e $(DEMO)/chunks-$(CHUNKS) || { rm -rf $(DEMO)/run $(DEMO)/chunks-*; touch $(DEMO)/chunks-$(CHUNKS); }
	$(BIN)/embedfleet run $(DEMO)/corpus/corpus.jsonl --out $(DEMO)/run --dense all-MiniLM-L6-v2 --sparse bm25 --limit $(CHUNKS)
	$(SEARCH) "parse command line arguments"
	$(SEARCH) "run coroutines with staggered start times"
	$(SEARCH) "compare two sequences of lines and show the differences"
	@echo 'More: $(BIN)/embedfleet search $(DEMO)/run "your words"'

# A rebuilt corpus may have other content; a run of the old one is then refused.
$(DEMO)/corpus/corpus.jsonl: examples/stdlib_corpus.py | $(STAMP)
	rm -rf $(DEMO)/run
	$(BIN)/python examples/stdlib_corpus.py $(DEMO)/corpus

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

# pyright runs beside the tests: it takes one core for most of their time.
check: lint
	@$(BIN)/pyright --pythonpath $(BIN)/python & types=$$!; \
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal -m "not slow" tests/unit $(LONG) $(ARGS); tests=$$?; \
	wait $$types && exit $$tests

coverage: $(STAMP)
	$(BIN)/coverage run -m pytest $(COVERING)
	$(BIN)/coverage report

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/decoder_fuzz.py --inputs $(INPUTS) --seed $(SEED)

chaos: $(STAMP)
	$(BIN)/pytest tests/chaos --kills $(KILLS) -s $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m typer embedfleet.client.cli.app utils docs --name embedfleet --title "Command line" --output docs/cli.md
	$(BIN)/python -m embedfleet.tests.screens

# What ran, on which machine, goes to files in BENCH; the tables of benchmarks/results/README.md are made of such files.
bench: $(STAMP)
	$(BIN)/python examples/stdlib_corpus.py $(BENCH)
	$(BIN)/python benchmarks/script.py $(BENCH)/corpus.jsonl --backends torch torch-packed openvino --out $(BENCH)/script.json
	$(BIN)/python benchmarks/kinds.py --texts short mixed long --backends torch torch-packed openvino --out $(BENCH)/kinds.json
	$(BIN)/python benchmarks/throughput.py $(BENCH)/corpus.jsonl --out $(BENCH)/throughput.json
	$(BIN)/python benchmarks/roofline.py --backends torch torch-packed openvino --out $(BENCH)/roofline.json
	$(BIN)/python benchmarks/optimizations.py --out $(BENCH)/optimizations.json
	$(BIN)/python benchmarks/tokenizing.py --out $(BENCH)/tokenizing.json
	$(BIN)/embedfleet run $(BENCH)/corpus.jsonl --out $(BENCH)/run --dense all-MiniLM-L6-v2 --sparse bm25 --limit 1500
	$(BIN)/python benchmarks/search.py $(BENCH)/run --out $(BENCH)/search.json
	$(BIN)/python benchmarks/busy_cores.py $(BENCH)/corpus.jsonl --out $(BENCH)/busy-cores.json
	$(BIN)/python benchmarks/plan.py $(BENCH)/corpus.jsonl --out $(BENCH)/plan.json
	$(BIN)/python benchmarks/ceiling.py --out $(BENCH)/ceiling.json
	$(BIN)/python benchmarks/memory.py --out $(BENCH)/memory.json
	$(BIN)/python benchmarks/detection.py --out $(BENCH)/detection.json

env: $(STAMP)

# torch comes first, and alone, so that pip takes the build that was asked for; the rest then leaves it as it is.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "embedfleet needs Python 3.11 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one, as in: make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@echo "Installing into $(VENV); the first time this takes some minutes."
	@sed '/^torch==/d' constraints.txt > $(VENV)/constraints.txt
	$(PIP) $(TORCH)
	$(PIP) -c $(VENV)/constraints.txt -e '.[torch,qdrant,demo,eval,otel,dev]'
	@touch $@

clean:
	rm -rf $(DEMO) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.*venv/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .ci-venv .wheel-venv *.egg-info
