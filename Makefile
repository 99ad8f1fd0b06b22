# Every target is one line of shell over tools that `./install.sh --test` put into .venv.
SHELL := /bin/bash
UV ?= uv
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make lock"

# install.sh brings these in a step of their own: which ones, and of which bytes, depends on the index and the machine
OF_TORCH := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-, cublas cuda-cupti cuda-nvrtc \
	cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

.DEFAULT_GOAL := help
.PHONY: help check test lint format lock docs bundle

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

check: ## Set up, then lint, types, layers and all tests: what continuous integration runs
	./install.sh --test

test: ## All tests, with the set-up as it is
	.venv/bin/python -m pytest

lint: ## Lint, format check, types, layers
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: ## Rewrite the code in the project's format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

lock: ## Write the lock files anew from pyproject.toml (needs uv; each lock keeps to the one before)
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --group install --output-file requirements.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --group install --extra test --constraints requirements.lock --output-file requirements-test.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra finetuning --constraints requirements-test.lock $(OF_TORCH:%=--no-emit-package %) --output-file requirements-finetuning.lock
	$(COMPILE) $(LOCK_FLAGS) --group egp --constraints requirements-test.lock --output-file requirements-egp.lock
	$(COMPILE) $(LOCK_FLAGS) --group build --constraints requirements.lock --output-file requirements-build.lock
	$(COMPILE) $(LOCK_FLAGS) --group starters --no-deps --output-file requirements-starters.lock

docs: ## Write the generated tables of the documentation anew
	.venv/bin/cog -r -I . docs/*.md README.md

bundle: ## Everything an installation without a network needs, as appliance-bundle.tar
	./install.sh --bundle appliance-bundle.tar
