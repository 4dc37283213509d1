# insitu: retrain models where the data lives. Every target sets up what it needs; a second use is instant.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help retrain test check bench docs screenshots up twin spark clean
help: ## Show the targets.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

retrain: .venv/.ready ## Retrain the example model on real data, end to end. MONTHS=10 has January to October in place.
	@$(BIN)/insitu demo prepare $(if $(MONTHS),--months '$(MONTHS)')
	@$(BIN)/insitu retrain flights

# With bytecode each of the many commands that tests start need not compile insitu anew.
test: .venv/.spark check ## Check and test everything; on Debian as root, install the system parts first.
	@tests/system-parts.sh
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: .venv/.ready ## Lint, types, and the direction of imports.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.ready $(if $(filter-out validation,$(BENCH)),,var/bench/venv/.ready) ## Measure. BENCH=name picks one; tables and var/bench/NAME.json.
	@$(BIN)/python -m bench $(BENCH)

docs: .venv/.ready ## Build the documentation into var/docs.
	@$(BIN)/mkdocs build --strict --quiet
	@echo "open var/docs/index.html"

screenshots: .venv/.ready ## Take the pictures of the documentation anew, of the report in var/report; needs Chromium.
	@$(BIN)/insitu report --open=no
	@$(BIN)/python docs/screenshots.py

up: .venv/.ready ## Prefect server with UI, worker, watcher and MLflow UI for the local site, until Ctrl-C.
	@$(BIN)/insitu up

twin: .venv/.ready ## Install what `insitu twin up` runs: Azurite, and on Debian as root sshd and docker-registry.
	@tests/system-parts.sh twin

spark: .venv/.spark ## Install what checking data on a Spark cluster needs: some 450 MB.

# The lock pins every package with its hashes; uv installs them in seconds and is itself one of them.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "insitu needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' requirements.lock)"
	@echo "installing the locked packages into .venv"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# On top, for sites with engine = "spark" and for tests: too much for everybody.
.venv/.spark: .venv/.ready requirements-spark.lock
	@echo "installing pyspark into .venv"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-spark.lock
	@touch $@

# What only the contenders of a bench need, no part of insitu.
var/bench/venv/.ready: .venv/.ready requirements-bench.lock requirements-spark.lock
	@echo "installing the contenders' packages into var/bench/venv"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/bench/venv
	@$(BIN)/uv pip sync --quiet --python var/bench/venv/bin/python --require-hashes --compile-bytecode requirements.lock requirements-bench.lock requirements-spark.lock
	@touch $@

clean: ## Remove everything that was made: the environment, data, state, models, images.
	rm -rf .venv var
