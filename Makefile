# The commands of the README, each with its own set-up in .venv:
#   make demo      predict real crystals with the model that ships in the package
#   make test      run the quick tests
#   make test-all  run these, then those marked slow
#   make test-long run those that take minutes each, before a release
#   make mutants   show that the quick tests notice every small error in the equations
#   make docs      build the site from docs/ into build/site/index.html
#   make linkcheck ask every address that the site links to; needs the network
# PYTHON chooses the interpreter (3.11 or later), TORCH the build of PyTorch.

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Bytecode is made of what is imported, when it is imported: most of the files never are.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --no-compile
# Tests start many processes: without bytecode each of them would compile the package again.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# Oxides, a semiconductor, metals, an alloy, a layered crystal, a salt.
EXAMPLES := mlanet/examples

# make fuzz COUNT=10000: wrong input of every kind; whatever is not a result or one line and a status is printed.
COUNT ?= 10000

.PHONY: demo test test-all test-long mutants soak fuzz lint format wheel docs linkcheck clean

demo: $(VENV)/.installed
	$(BIN)/mlanet predict $(EXAMPLES) --output demo/predictions.extxyz --picture demo/predictions.png

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not long"

test-all: test
	$(PYTEST) -m slow

test-long: $(VENV)/.installed-dev
	$(PYTEST) -m long

mutants: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py

# What takes minutes: KILLS gives its numbers, as in make soak KILLS="--train 900 --simulate 800 --sweep 300".
soak: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py kills $(KILLS)

fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzzing.py --count $(COUNT)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mlanet
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel --no-isolation

# Warnings are errors: a broken link inside the site, a page that no other leads to, a docstring that cannot be set.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html -d build/doctrees docs build/site
	@echo "open build/site/index.html"

linkcheck: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet -b linkcheck -d build/doctrees docs build/linkcheck

clean:
	rm -rf $(VENV) build demo dist

# PyTorch comes first and by itself, so that no other requirement can choose another build of it.
$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlanet needs Python 3.11 or later; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) "$(TORCH)"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(INSTALL) --constraint $(VENV)/constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --constraint $(VENV)/constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --constraint $(VENV)/constraints.txt --editable '.[docs]'
	touch $@
