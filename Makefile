# Two commands for a fresh clone: `make train` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv looks at local wheels only through its own variable: pass on pip's where it is set
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
PACKAGES := core data routers eval gateway
ENTRY := train.py evaluate.py export.py collect.py scripts/make_pocket.py scripts/reproduce.py scripts/bench.py scripts/signals.py

.PHONY: setup train test lint types unit slow lock clean

setup: $(VENV)/.ready

# a new lock or a new dependency list makes the environment anew
$(VENV)/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^uv==/uv==/p' requirements.lock)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

train: setup
	$(BIN)/python train.py router=mf

test: setup lint types unit

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# an editable install is a hook that mypy cannot follow: links give it the package under its own name
types: setup
	@mkdir -p build/typing/routewright
	@for package in $(PACKAGES); do ln -sfn ../../../$$package build/typing/routewright/$$package; done
	MYPYPATH=build/typing $(BIN)/mypy --namespace-packages $(foreach package,$(PACKAGES),-p routewright.$(package))
	MYPYPATH=build/typing $(BIN)/mypy $(ENTRY)

unit: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" -q

slow: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow -q

# resolve again from pyproject.toml, holding what requirements.lock already pins; without +cpu torch brings gigabytes of CUDA
lock:
	sed -i 's/^\(torch==[0-9.]*\)$$/\1+cpu/' requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra train --extra serve --extra dev --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements.lock
	sed -i 's/+cpu$$//' requirements.lock

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
