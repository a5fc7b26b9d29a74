# Shoal. `make demo` shows it, `make test` checks it; both make the environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE := 1

# uv where it is installed, else pip.
UV := $(shell command -v uv)
ifdef UV
PIP_INSTALL := $(UV) pip install --quiet --python $(BIN)/python
else
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on
endif

.PHONY: install demo test test-unit test-integration test-contract test-cluster test-nodes test-kills test-milvus test-engines coverage lint audit format requirements clean

install: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Shoal needs Python 3.11 or newer (PYTHON=python3.12 make …)"; exit 1; }
	@$(PYTHON) -c 'import sys, sysconfig; sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))' || echo "Note: this Python was built without --enable-optimizations; one with them, such as Debian's, is about a tenth faster"
	@echo "Installing about 250 packages into $(VENV) (a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -r requirements-dev.txt
	@$(PIP_INSTALL) --no-deps --editable .
	@$(BIN)/python -m shoal_optimizer.assignment  # compiles its search now instead of in the first request
	@touch $(STAMP)

demo: install
	@$(BIN)/python -m shoal.cli.demo

test: lint test-unit test-integration test-cluster
	@echo "Not run here: make test-milvus, test-engines, test-contract, test-kills and test-nodes"

# Two processes. Integration tests are distributed by file: tests of one file share the servers they start.
PYTEST := $(BIN)/python -m pytest -q

test-unit: install
	@$(PYTEST) -n 2 --dist worksteal $(COVER) --ignore=tests/cluster --ignore=tests/nodes -m "not integration and not milvus and not engines"

test-integration: install
	@$(PYTEST) -n 2 --dist loadfile $(COVER) --ignore=tests/cluster --ignore=tests/nodes -m "integration and not milvus and not engines"

# Every operation against its OpenAPI document, with many generated requests.
test-contract: install
	@SHOAL_CONTRACT_EXAMPLES=100 SHOAL_CONTRACT_SEQUENCES=100 $(PYTEST) --timeout 3600 tests/shoal/test_openapi.py tests/shoal/test_openapi_stateful.py

test-cluster: install
	@$(PYTEST) tests/cluster

# Three hosts in network namespaces of this machine, their stores, and what their ends cost. Needs
# root, iproute2, 12 GiB of memory and about 10 minutes.
test-nodes: install
	@$(PYTEST) -s tests/nodes

# Usage after a hundred kills of its servers, instead of the five of test-integration.
test-kills: install
	@SHOAL_KILLS=100 $(PYTEST) -s tests/shoal/tenants/test_usage_kills.py

# The contract of the vectors store, and what is of Milvus alone, with Milvus 2.3 (whose etcd needs
# port 2380) and milvus-lite.
test-milvus: install
	@$(PYTEST) -m milvus tests/shoal/stores

# What stands on Redis, on Redis alone, a Redis Cluster, Sentinel, TLS and Valkey, with failovers.
test-engines: install
	@$(PYTEST) tests/shoal/stores/test_redis_engines.py tests/shoal/stores/test_redis_failover.py

# What the unit and integration tests cover: the total, and the files with the least. Measuring it
# slows them, so `make test` does not.
coverage:
	@rm -f .coverage .coverage.*
	@$(MAKE) test-unit test-integration COVER="--cov --cov-append --cov-report="
	@$(BIN)/coverage report | head -12
	@echo "Covered in all: $$($(BIN)/coverage report --format=total) %"

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Run: make format"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

# Known vulnerabilities of what is pinned for runtime. Asks osv.dev.
audit: install
	@$(BIN)/pip-audit --requirement requirements.txt --no-deps --disable-pip --vulnerability-service osv

format: install
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

# Pins what pyproject.toml asks for, keeping today's versions where they still fit. The packages that
# a CUDA build of torch brings along are left out: pip adds them where such a build is installed.
COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11
CUDA := ^(nvidia|cuda|triton)
requirements: install
	@$(COMPILE) --extra all --output-file requirements.txt pyproject.toml
	@cat requirements.txt requirements-dev.txt | grep -v '^-r' > $(VENV)/pins.txt
	@$(COMPILE) --extra dev --constraint requirements.txt --output-file $(VENV)/pins.txt pyproject.toml
	@{ echo "# Everything at runtime, pinned by \`make requirements\`."; grep -vE '$(CUDA)|^#' requirements.txt; } > $(VENV)/runtime.txt
	@{ echo "# What development and tests need besides, pinned by \`make requirements\`."; echo "-r requirements.txt"; grep -vE '$(CUDA)' $(VENV)/pins.txt | grep -vxFf $(VENV)/runtime.txt; } > requirements-dev.txt
	@mv $(VENV)/runtime.txt requirements.txt

clean:
	rm -rf $(VENV) .shoal
