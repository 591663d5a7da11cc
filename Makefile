# Everything is installed into .venv beside this file; only Python 3.11+ and make are required.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow mutation lint clean

demo: $(VENV)/.runtime
	rm -rf runs/demo
	$(BIN)/advnets train digits --out runs/demo
	$(BIN)/advnets evaluate runs/demo
	@echo
	@echo "samples  runs/demo/samples/   report  runs/demo/report.html"
	@echo "MNIST:            $(BIN)/advnets data fetch mnist && $(BIN)/advnets train paper-mnist"
	@echo "your own images:  $(BIN)/advnets train path/to/a/folder/of/images"

# Run one process with one thread for each core. A file runs in one process, as its tests share
# runs; files run in the order of names: ordered by size, the longest would run last and alone.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

# Mutation testing: NUMBER random changes to SOURCES, and those that no test detects.
SOURCES ?= src/advnets/losses.py src/advnets/games/*.py src/advnets/training/*.py
NUMBER ?= 100
SEED ?= 0
mutation: $(VENV)/.dev
	$(BIN)/python tools/mutation.py $(SOURCES) --number $(NUMBER) --seed $(SEED)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required; set PYTHON, for example PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[paper]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
# torch-fidelity requires torchvision, which its formulas do not need: install it without, in a
# folder of its own, where torchmetrics does not find it.
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --no-deps --target $(VENV)/apart torch-fidelity==0.4.0
	touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
