# amphorad: `make demo` and `make test` set up everything they need and say so; `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
CFLAGS ?= -O2 -g1
export CFLAGS

BIN     := $(VENV)/bin
SOURCES := $(shell find amphorad -name '*.pyx' -o -name '*.pxd' -o -name '*.h') pyproject.toml
BUILT   := $(VENV)/.built
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
install-extras = $(BIN)/python tools/requirements $(1) >$(VENV)/extras.txt && $(PIP) -r $(VENV)/extras.txt
# One stamp per set of extras, so that the demo does not install what only tests need.
TESTED  := $(VENV)/.extras-test
DEVELOPED := $(VENV)/.extras-dev
BENCHED := $(VENV)/.extras-bench

SANITIZE_DIR   := build/sanitize
SANITIZE_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
# `FAST=1` leaves the slow tests out; `ARGS` goes to pytest, the bench or the fuzzers as it is. Most tests wait for other processes, so
# files of tests run side by side; `WORKERS=0` runs them in pytest's own process, for a debugger.
WORKERS ?= $(shell nproc)
PYTEST_ARGS := $(if $(FAST),-m "not slow") $(ARGS)
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 1800

.PHONY: help demo test lint bench bench-locust sanitize fuzz soak image test-image build clean system-build system-test system-bench
.DEFAULT_GOAL := help

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST) | awk -F: '{printf "  make %-14s%s\n", $$1, $$2}'

demo: $(BUILT)  ## three demo members, the load balancer on loopback, and a live view
	@$(BIN)/amphorad demo $(ARGS)

test: $(TESTED)  ## the whole test suite (FAST=1: without the slow tests; ARGS="-k name": some)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

lint: $(DEVELOPED)  ## ruff, formatting, mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TESTED) system-bench  ## CPU per unit of work against HAProxy and nginx, interleaved
	$(BIN)/python -m bench $(ARGS)

bench-locust: $(BENCHED)  ## load shapes with locust, headless
	$(BIN)/python -m bench.load $(ARGS)

sanitize: $(TESTED)  ## the suite with the engine built under address and undefined-behaviour sanitizers
	@echo "== sanitize: building a second copy of the engine in $(SANITIZE_DIR)"
	@mkdir -p $(SANITIZE_DIR)
	@tar -cf - --exclude='*.so' --exclude='*.c' --exclude=__pycache__ amphorad tests bench pyproject.toml README.md LICENSE \
	    2>/dev/null | tar -xf - -C $(SANITIZE_DIR)
	@cd $(SANITIZE_DIR) && CFLAGS="$(SANITIZE_FLAGS)" LDFLAGS="-fsanitize=address,undefined" \
	    $(abspath $(BIN))/python -c 'from setuptools import setup; setup()' -q build_ext --inplace
	cd $(SANITIZE_DIR) && AMPHORAD_SANITIZED=1 PYTHONMALLOC=malloc \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    $(abspath $(BIN))/python -m pytest -p no:cacheprovider $(SIDE_BY_SIDE) $(PYTEST_ARGS)

fuzz: $(TESTED)  ## every fuzzer for FUZZ_SECONDS (default 600) seconds
	@for fuzzer in tests/fuzz/fuzz_*.py; do \
	    echo "== $$fuzzer for $(FUZZ_SECONDS) seconds"; \
	    $(BIN)/python -m $$(echo $${fuzzer%.py} | tr / .) --seconds $(FUZZ_SECONDS) $(ARGS) || exit 1; \
	done

soak: $(TESTED) system-bench  ## SOAK_SECONDS (default 1800) of churn: connections, applies, member deaths
	$(BIN)/python -m bench.soak --seconds $(SOAK_SECONDS) $(ARGS)

image: system-build  ## the amphora image, images/out/amphorad.qcow2 (root or sudo; see images/README.md)
	@tools/system-packages --python "$(PYTHON)" image
	@PYTHON="$(PYTHON)" images/build $(ARGS)

test-image: $(TESTED)  ## the image under qemu and as a pair of containers, driven by the real Octavia driver (about 20 minutes)
	@tools/system-packages --python "$(PYTHON)" image vm
	@[ -e images/out/amphorad.qcow2 ] || PYTHON="$(PYTHON)" images/build
	@$(BIN)/python -m pytest -m "vm or nspawn" tests/image $(ARGS)

build: $(BUILT)  ## the virtual environment with the engine built

clean:  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find amphorad \( -name '*.so' -o -name '*.c' -o -name '*.o' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

system-build:
	@tools/system-packages --python "$(PYTHON)" build

system-test:
	@tools/system-packages --python "$(PYTHON)" build test

system-bench:
	@tools/system-packages --python "$(PYTHON)" build bench

$(BIN)/python: | system-build
	@echo "== virtual environment: $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.tools: | $(BIN)/python
	@echo "== build tools: pip, setuptools, cython"
	@$(PIP) 'setuptools>=77' 'cython>=3.1,<4' wheel
	@touch $@

# Translated by all processors first, because pip would do one module after the other. The file has pip compile several modules
# at once, and only what changed: without it, pip compiles into a new folder each time.
$(BUILT): $(SOURCES) | $(VENV)/.tools
	@echo "== building the engine (CFLAGS: $(CFLAGS)); about three minutes the first time, on two processors"
	@$(BIN)/python -c 'import os, Cython.Build as b; b.cythonize("amphorad/**/*.pyx", nthreads=os.cpu_count(), quiet=True)'
	@printf '[build_ext]\nparallel = %s\nbuild_lib = build/editable\nbuild_temp = build/objects\n' $$(nproc) >$(VENV)/build.cfg
	@DIST_EXTRA_CONFIG=$(abspath $(VENV))/build.cfg $(PIP) --no-build-isolation -e .
	@touch $@

$(TESTED): $(BUILT) | system-test
	@echo "== test tools: pytest, hypothesis, and the Octavia renderer as an oracle"
	@$(call install-extras,test octavia vrrp-render)
	@touch $@

$(DEVELOPED): $(TESTED)
	@echo "== developer tools: ruff, mypy, coverage"
	@$(call install-extras,dev)
	@touch $@

$(BENCHED): $(BUILT) | system-bench
	@echo "== load tools: locust, matplotlib"
	@$(call install-extras,bench)
	@touch $@
