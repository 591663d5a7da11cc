# The whole set-up is a .venv beside this file; nothing is assumed but Python 3.11+ and make.
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
	@echo "next, MNIST:      $(BIN)/advnets data fetch mnist && $(BIN)/advnets train paper-mnist"
	@echo "next, your own:   $(BIN)/advnets train path/to/a/folder/of/images"

# A process for each core, each of one thread; a file is tested in one, as its tests share runs.
# By their names: ordered by how many tests they have, the long ones would come last, and alone.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

# Careless changes that no test notices, of the files and as many as are asked for.
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
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.12 or so")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[paper]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
# It asks for torchvision, which its formulas do not need; apart, or torchmetrics would find it too.
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --no-deps --target $(VENV)/apart torch-fidelity==0.4.0
	touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
