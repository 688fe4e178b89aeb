# Two commands: `make demo` (a real model uses a real skill, then the TUI) and `make test`. Each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
PACKAGES := daemon/skilldeck_daemon tui/skilldeck_tui shared/skilldeck_shared
# Tiny models lose from a second thread: two threads on a busy machine fell to 3.5 tokens/s.
export OMP_NUM_THREADS ?= 1
# Many container images set it. The tests start hundreds of processes, and each would compile every module anew: 1.7 s
# instead of 0.9 s for `skilldeckd --help`.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint unit fuzz setup proto clean

help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: .make/daemon ## set everything up, run a skill with the bundled model, open the TUI
	$(BIN)/skilldeckd demo

test: .make/dev lint unit ## set up, lint, type-check and run every test

setup: .make/daemon ## only the set-up of `make demo`

lint: .make/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)

unit: .make/dev
	@# What fails beside others on busy cores runs once more, alone; both results are shown. This goes when full runs no longer
	@# need it: in the last one 2 of 5,455 did, a lost key and a scroll position, which are mended.
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not timing" || $(BIN)/pytest -q -m "not timing" --last-failed --last-failed-no-failures none
	@# The few that depend on the clock say why (`@pytest.mark.timing`): alone, and once more when one fails.
	$(BIN)/pytest -q -m timing || $(BIN)/pytest -q -m timing --last-failed --last-failed-no-failures none

fuzz: .make/dev ## a minute of generated hostile inputs (make fuzz SECONDS=600 for more); what breaks the daemon joins the corpus
	cd tests && ../$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60)

proto: .make/dev ## regenerate the stubs of the control protocol
	cd shared && PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -I . \
	  --python_out=. --pyi_out=. --grpclib_python_out=. skilldeck_shared/proto/control.proto

.make/daemon: pyproject.toml .ci/setup
	.ci/setup daemon
	@mkdir -p .make && touch $@

.make/dev: pyproject.toml .ci/setup
	.ci/setup dev
	@mkdir -p .make && touch .make/daemon $@

clean: ## remove what set-up and tests made
	rm -rf .venv .make .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
