# `make help` lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# mpirun, mpicc and the FHI_AL commands come from the virtual environment.
export PATH := $(abspath $(BIN)):$(PATH)
# One thread a rank: ranks share the cores.
export OMP_NUM_THREADS := 1
ifeq ($(shell id -u),0)
# Open MPI refuses to run as root (as in a container) unless told that it is meant.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

EXAMPLE := examples/ethanol
INPUTS := control.in geometry.in mace_settings.yaml active_learning_settings.yaml

.DEFAULT_GOAL := help
.PHONY: help venv example test soak lint format benchmark docs clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(INSTALLED)  ## Make .venv with the pinned requirements and this package

# Again only when what is installed has changed; sources are used where they stand (-e).
$(INSTALLED): requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	touch $@

example: $(INSTALLED)  ## Run the main job on examples/ethanol, in examples/ethanol/run
	mkdir -p $(EXAMPLE)/run
	cp $(addprefix $(EXAMPLE)/,$(INPUTS)) $(EXAMPLE)/run
	$(BIN)/mpirun --oversubscribe -n 3 $(BIN)/FHI_AL --directory $(EXAMPLE)/run
	@echo "Results are in $(EXAMPLE)/run; the models:"
	@ls $(EXAMPLE)/run/model/*.model

test: lint  ## Check the code, then run all tests and print the coverage of src/
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --durations=15

soak: $(INSTALLED)  ## Look for rare faults for hours: 1,000 kills, all states of a run, fuzzing
	$(BIN)/python -m pytest -n 2 --dist worksteal -rP -m soak tests/faults
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=soak tests/fuzz

lint: $(INSTALLED)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(INSTALLED)  ## Measure speed, memory and accuracy on examples/ethanol
	$(BIN)/python benchmarks/ethanol.py

docs: $(INSTALLED)  ## Write generated pages and the picture of the layout, and build site/
	$(BIN)/python docs/generate_settings.py
	$(BIN)/python docs/generate_commands.py
	$(BIN)/python docs/make_layout.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The first page is site/index.html"

clean:  ## Remove what was built and run here, .venv included
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	rm -rf examples/*/run benchmarks/out
	rm -rf src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
