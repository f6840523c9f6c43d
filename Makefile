# Everything happens in .venv; nothing else of the machine is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
TORCH := torch==2.13.0
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: setup demo test check chaos bench help

setup: .venv/.installed ## Make .venv with everything in it

# torch first and alone: the same line takes the CPU wheel where one is offered and the CUDA build
# elsewhere, and the constraints name neither.
.venv/.installed: pyproject.toml constraints.txt Makefile
	@echo "Installing into .venv: about 2 GB, some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,dev]'
	touch $@

demo: setup ## Run the main job on this machine and show the results
	$(BIN)/poller demo

test: setup ## Run the tests
	$(BIN)/pytest

check: setup ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: setup ## Kill workers and cut connections for SECONDS, and count what was lost (SEED repeats)
	$(BIN)/python -m chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: setup ## Measure speed and memory against the baselines
	$(BIN)/python -m bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
