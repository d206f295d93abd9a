# make demo   the main job: a cluster is broken while clients use it, and a verdict says whether it held
# make test   all tests            make lint   style, types, layers
# make sim    many simulated seeds make bench  performance, as ratios
# make setup  installs only        make long   20,000 random histories for every model; about 15 minutes
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test long lint sim bench setup clean

demo: setup
	$(BIN)/testbed demo

test: setup
	$(BIN)/python -m pytest

long: setup
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/checkers/test_agreement.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

sim: setup
	$(BIN)/testbed sim configs/swarm.toml --seeds 80 --no-shrink
	$(BIN)/testbed sim configs/leases.toml --seeds 60 --no-shrink
	$(BIN)/testbed sim configs/crash.toml --seeds 20 --no-shrink

bench: setup
	$(BIN)/python -m benchmarks

setup: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
