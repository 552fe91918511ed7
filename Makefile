# make demo | test | check | bench on a fresh machine: each makes .venv and installs what it needs.
# Variables: PYTHON (an interpreter >= 3.11), VENV (where the environment goes).

VENV ?= .venv
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$candidate && break; done)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check format bench lock clean

demo: $(INSTALLED)
	$(BIN)/python -m bench.demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tandem needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Pins versions with hashes and writes no address. Needs uv.
lock:
	uv pip compile pyproject.toml --extra sim --extra test --extra check --extra build --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade \
		--output-file requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out bench-out
