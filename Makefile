# The two commands of the README, each with its own set-up in .venv:
#   make demo    predict real crystals with the model that ships in the package
#   make test    run the tests
# PYTHON chooses the interpreter (3.11 or later), TORCH the build of PyTorch.

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXAMPLES := mlanet/examples/si.cif mlanet/examples/li.POSCAR mlanet/examples/mo.extxyz

# make fuzz COUNT=10000: wrong input of every kind; whatever is not a result or one line and a status is printed.
COUNT ?= 10000

.PHONY: demo test fuzz lint format wheel clean

demo: $(VENV)/.installed
	$(BIN)/mlanet predict $(EXAMPLES) --model elemental --output demo/predictions.extxyz --picture demo/predictions.png

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

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

clean:
	rm -rf $(VENV) demo dist

# PyTorch comes first and by itself, so that no other requirement can choose another build of it.
$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlanet needs Python 3.11 or later; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(PIP) install --constraint $(VENV)/constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint $(VENV)/constraints.txt --editable '.[dev]'
	touch $@
