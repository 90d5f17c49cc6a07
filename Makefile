# Every target sets up what it needs: Python >= 3.10 and make are enough.
PYTHON ?= python3
VENV ?= .venv
REQUIREMENTS ?= requirements/dev.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(subst /,-,$(REQUIREMENTS))

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test follow soak hosts docs bench lint format requirements clean

SIZE ?= quick

help: ## Show every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment with everything below

$(READY): $(REQUIREMENTS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "The venv module is incomplete; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing $(REQUIREMENTS) into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(REQUIREMENTS)
	@touch $@

demo: setup ## Show the main job once on real input, check it, and end
	@$(BIN)/python -m demo once

serve: setup ## The same with a home page on localhost, until Ctrl-C
	@$(BIN)/python -m demo serve

test: setup ## Run the tests, on servers that they start themselves
	@$(BIN)/python -m tests $(ARGS)

follow: setup ## Follow the installation page, the recipes and the runbooks word by word; about five minutes
	@$(BIN)/python -m tests --host platform tests/docs/followed $(ARGS)

soak: setup ## Writers, workers and servers under random killing, then the oracle; about ten minutes
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

hosts: setup ## Host projects of 200 random shapes, each written to and compared with the oracle; about ten minutes
	@$(BIN)/python -m tests.integration.keys.at_random $(ARGS)

docs: setup ## Build the documentation into build/docs, and check it; a warning fails it
	@rm -rf build/docs
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs
	@$(BIN)/python -m tests --host platform -n 0 -q tests/whole/test_site.py
	@echo "build/docs/index.html"

bench: setup ## Measure beside rivals and limits, a few minutes; SIZE=full takes half an hour and writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks --size $(SIZE) $(ARGS)

lint: setup ## Formatting, lint, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

format: setup ## Rewrite the code as the linter wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

requirements: setup ## Compile the pinned requirements anew
	@$(BIN)/python -m pip install --quiet uv
	@for name in dev oldest middle newest; do \
	  flags=$$([ $$name = oldest ] || echo --universal); \
	  least=$$(case $$name in middle|newest) echo 3.12;; *) echo 3.10;; esac); \
	  $(BIN)/uv pip compile --quiet --upgrade $$flags --python-version $$least --no-emit-index-url --no-emit-find-links \
	    --no-annotate --custom-compile-command "make requirements" requirements/$$name.in -o requirements/$$name.txt; \
	done

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
