# Everything happens in .venv; nothing else of the machine is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
TORCH := torch==2.13.0
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: setup demo test check chaos soak bench promtool infra checkov image-check deploy sbom audit help

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

soak: setup ## Analyse VIDEOS small videos (1,000) and look whether anything grows
	$(BIN)/python -m chaos.soak --videos $(or $(VIDEOS),1000)

bench: setup ## Measure speed and memory against the baselines
	$(BIN)/python -m bench

image-check: ## Build the image without docker and run it as ECS does (root, buildah, debootstrap)
	deploy/image-check

deploy: ## Deploy what is committed to ENVIRONMENT (see deploy/ecs/deploy.py --help)
	$(PYTHON) deploy/ecs/deploy.py $(or $(ENVIRONMENT),$(error say which, such as make deploy ENVIRONMENT=dev))

# Both in build/, in an interpreter of their own: what they need is no business of the service.
sbom: build/.tools ## List what the image's Python is made of (CycloneDX): build/sbom.json
	build/tools/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json build/requirements.txt

audit: build/.tools ## Ask PyPI's advisories about it; fails too where they cannot be asked
	build/tools/bin/pip-audit --strict --no-deps --disable-pip --requirement build/requirements.txt

build/.tools: .venv/.installed constraints.txt deploy/ecs/installed.py
	$(PYTHON) -m venv build/tools
	build/tools/bin/pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1
	$(BIN)/python deploy/ecs/installed.py > build/requirements.txt
	touch $@

# What the tests of deploy/prometheus ask; where it is not to be had, they are skipped and say so.
promtool: setup
	-@deploy/prometheus/install $(BIN)

# Three at once on any machine, and the longest first: applying is for the most part waiting.
infra: setup promtool ## Check terraform/ and deploy/, and apply them to an emulator of AWS
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder tests/infra

# Apart from `infra`: it needs an interpreter of its own, and a minute to install.
checkov: build/.checkov ## Check terraform/ against checkov's rules; each exception has its reason beside it
	build/checkov/bin/checkov --directory terraform --framework terraform --skip-path terraform/tests \
		--compact --quiet --skip-download

build/.checkov:
	$(PYTHON) -m venv build/checkov
	build/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30
	touch $@

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
