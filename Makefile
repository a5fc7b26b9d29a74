# Shoal. `make demo` shows it, `make test` checks it; both make the environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE := 1

.PHONY: install demo test test-unit test-integration test-cluster lint clean

install: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Shoal needs Python 3.11 or newer (PYTHON=python3.12 make …)"; exit 1; }
	@$(PYTHON) -c 'import sys, sysconfig; sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))' || echo "Note: this Python was built without --enable-optimizations; one that was, such as Debian's, answers a tenth quicker"
	@echo "Making the environment in $(VENV) (about 250 packages, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -m shoal_optimizer.assignment  # compile its search now, not in the first request
	@touch $(STAMP)

demo: install
	@$(BIN)/python -m shoal.local.demo

test: lint test-unit test-integration test-cluster

# Two at a time, whole files, so that tests of one file share what they start.
PYTEST := $(BIN)/python -m pytest -q
TWO := -n 2 --dist loadfile

test-unit: install
	@$(PYTEST) -n 2 --dist worksteal --ignore=tests/cluster -m "not integration"

test-integration: install
	@$(PYTEST) $(TWO) --ignore=tests/cluster -m integration

test-cluster: install
	@$(PYTEST) tests/cluster

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

clean:
	rm -rf $(VENV) .shoal
