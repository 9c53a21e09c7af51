# One command each; `make help` lists them.
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$p" && break; done)
BIN = $(VENV)/bin
CONSTRAINTS ?= constraints.txt
EXTRAS ?= sample,dev
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run  ## sync the API once (the sample API if API_KEY is not set) and print a report
	@$(BIN)/python -m analytics_assets run

ui: $(VENV)/run  ## serve the Dagster UI on the same data, at http://127.0.0.1:3000/assets (PORT=... for another)
	@$(BIN)/python -m analytics_assets ui $(PORT:%=--port %)

ui-readonly: $(VENV)/run  ## serve a UI that changes nothing, also beside the other, at http://127.0.0.1:3001/assets
	@$(BIN)/python -m analytics_assets ui --read-only $(PORT:%=--port %)

test: $(VENV)/dev  ## run the tests
	$(BIN)/python -m pytest -m "not ui and not long and not postgres and not deploy and not chart" -n auto --dist worksteal

test-postgres: $(VENV)/dev  ## run the tests of the data on a Postgres server, which they start and stop
	$(BIN)/python -m pytest -m "postgres and not long" -n auto --dist worksteal

test-deploy: $(VENV)/deploy  ## test the deployments for a team and on Kubernetes, without containers
	$(BIN)/python -m pytest -m deploy -n 2 --dist loadfile

test-chart: $(VENV)/deploy  ## render Dagster's Helm chart (CHART=...) with the values of deploy/kubernetes
	DAGSTER_CHART=$(CHART) $(BIN)/python -m pytest -m chart

test-ui: $(VENV)/dev  ## run the tests that look at the UI in a browser (Chromium)
	$(BIN)/python -m pytest -m ui

test-long: $(VENV)/dev  ## kill runs at random, and simulate an hour of an API's life, in a quarter of an hour
	$(BIN)/python -m pytest -m long -n auto --dist worksteal

check: $(VENV)/dev  ## lint, type check, import contracts, definitions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check defs

bench: benchmarks/.venv/made  ## compare the main job with other tools, in a quarter of an hour
	@BEFORE=$(abspath $(BEFORE)) benchmarks/.venv/bin/python -m benchmarks

bench-full: benchmarks/.venv/made  ## the same with up to 1,040,550 rows, in an hour or two, into benchmarks/results.md (BEFORE=... for another checkout beside it)
	@BEFORE=$(abspath $(BEFORE)) benchmarks/.venv/bin/python -m benchmarks --full --output benchmarks

docs: $(VENV)/dev  ## generate from the code: docs/tables.md, docs/configuration.md, .env.example, the table in README.md
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/dev  ## take the pictures in docs/ again, from a browser on the sample data
	@$(BIN)/python -m analytics_assets_tests.defs.screenshots

constraints: $(VENV)/dev  ## pin the newest versions that fit together
	rm -rf $(VENV)-pins && $(PYTHON) -m venv $(VENV)-pins
	$(VENV)-pins/bin/python -m pip install --quiet -e '.[sample,dev,deploy]'
	$(VENV)-pins/bin/python -m pip freeze --all --exclude pip --exclude-editable > constraints.txt
	rm -rf $(VENV)-pins

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..." >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): a minute or two, once" >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@$(INSTALL) '.[sample]'
	@touch $@

$(VENV)/dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@$(INSTALL) '.[$(EXTRAS)]'
	@touch $@ $(VENV)/run

$(VENV)/deploy: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@$(INSTALL) '.[$(EXTRAS),deploy]'
	@touch $@ $(VENV)/dev $(VENV)/run

benchmarks/.venv/made: pyproject.toml $(CONSTRAINTS) benchmarks/.venv-airbyte/made benchmarks/.venv-singer/made
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[sample,bench]'
	@touch $@

# A peer that cannot be installed is reported as missing; the rest is measured.
benchmarks/.venv-%/made: benchmarks/requirements-%.txt
	@echo "Setting up $(@D), once" >&2
	@$(PYTHON) -m venv $(@D)
	@-$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: help run ui ui-readonly test test-postgres test-deploy test-chart test-ui test-long check bench bench-full docs screenshots constraints
