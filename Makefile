# Two commands do everything: `make demo` and `make test`. Both make .venv when it is missing or
# older than pyproject.toml or constraints.txt; nothing outside this folder is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
KERNELS := .venv/.kernels
# The tests of a file stay in one process, which makes their stores and servers once.
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-slow check clean
help:
	@echo "make demo        compare the ways to a small model on embedded data (minutes)"
	@echo "make test        run the tests"
	@echo "make test-slow   run the slow tests too"
	@echo "make check       format, lint and types"
	@echo "make clean       remove .venv and caches; results/local and data stay"

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv with $(PYTHON) (once; needs the package index) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python >= 3.11 is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv --clear .venv
	@$(INSTALL) --editable '.[dev,servers]'
	@touch $@

# A gigabyte that only the GPU's kernels need, whose tests run in its interpreter.
$(KERNELS): $(READY)
	@echo "Adding triton to .venv (once) ..."
	@$(INSTALL) --editable '.[dev,gpu,servers]'
	@touch $@

demo: $(READY)
	$(BIN)/harness run demo

test: $(KERNELS)
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(KERNELS)
	$(BIN)/python -m pytest -m 'not soak'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
