# make demo | test | check | bench on a fresh machine: each makes .venv and installs what it needs.
# Variables: PYTHON (an interpreter >= 3.11), VENV and BENCH_VENV (where the environments go), BENCH (what the
# load bench shall do; see docs/bench.md).

VENV ?= .venv
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$candidate && break; done)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_VENV ?= .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
BINARY_VENV ?= .venv-binary
BINARY_INSTALLED := $(BINARY_VENV)/.installed
AUDIT_VENV ?= .venv-audit
AUDIT_INSTALLED := $(AUDIT_VENV)/.installed
BENCH ?= --calls 50,100,200,500 --seconds 15 --baselines

.PHONY: demo test check format bench bench-smoke quality binary binary-demo package lock clean

demo: $(INSTALLED)
	$(BIN)/python -m bench.demo

.PHONY: live-demo
# An agent from an empty database, at the providers' real latencies: the steps with their milliseconds.
live-demo: $(INSTALLED)
	$(BIN)/python -m bench.live_demo

# Most of the slow tests wait for processes and clocks, so more of them run at once than there are cores. With
# TANDEM_SPECS naming a folder with the providers' OpenAPI documents, what is asked of them is checked by these.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: test-postgresql
# Everything about the control plane once more, with every store of the tests on a PostgreSQL server.
test-postgresql: $(INSTALLED)
	TANDEM_TEST_STORE=postgresql TANDEM_REQUIRE_POSTGRESQL=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/control

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The load bench beside the baselines, and its report in bench-out/. They need packages that nothing else needs.
bench: $(BENCH_INSTALLED)
	$(BENCH_VENV)/bin/python -m bench.load $(BENCH) --json bench-out/load.json --html bench-out/load.html

# What transcoding costs in speech quality (PESQ), beside plain G.711; and the cost of each stage of a frame.
quality: $(BENCH_INSTALLED)
	$(BENCH_VENV)/bin/python -m bench.quality
	$(BENCH_VENV)/bin/python -m bench.micro

# Five calls for three seconds: nothing is timed, every count has to be right.
bench-smoke: $(INSTALLED)
	$(BIN)/python -m bench.load --smoke --calls 5 --seconds 3 --warmup 1 --targets tandem,relay-epoll

# 200 calls for half an hour, on a machine that does nothing else: flat memory, all descriptors back, no gap.
.PHONY: soak
SOAK ?= --calls 200 --seconds 1800
soak: $(INSTALLED)
	$(BIN)/python -m bench.soak $(SOAK) --json bench-out/soak.json

.PHONY: thousand-calls
# A thousand queued calls of ten tenants at five a second each, the daemon killed three times meanwhile: a few minutes.
thousand-calls: $(INSTALLED)
	TANDEM_WALK_CALLS=10x100 $(BIN)/python -m pytest -n 0 -q -s -o faulthandler_timeout=900 tests/walks/test_calls_of_many_tenants.py

.PHONY: faults fuzz
# The fault table: 72 rows in 32 daemons, a quarter of an hour; at the end every row with its verdict. FAULTS are further arguments
# for pytest, such as -k 'REST or store'.
FAULTS ?=
faults: $(INSTALLED)
	$(BIN)/python -m tests.faults.table
	TANDEM_FAULTS=1 $(BIN)/python -m pytest -n 0 -o faulthandler_timeout=600 tests/faults $(FAULTS)

# 200 SIGKILLs of workers and control at random and 40 at named points, under 20 calls, in ten rounds with the checker's
# verdict after each; about an hour. An interrupted run goes on with CHAOS_MORE=--resume.
.PHONY: chaos
CHAOS ?= --kills 200 --named 40 --calls 20 --rounds 10 --seed 201
CHAOS_MORE ?=
chaos: $(INSTALLED)
	$(BIN)/python -m bench.chaos $(CHAOS) --json bench-out/chaos.json $(CHAOS_MORE)

# Decoders, the public port's handlers, and what is read from the disk at start: FUZZ_SECONDS for each target. Findings are
# in fuzz-out/; what reached code that the corpus did not reach is added to it.
FUZZ_SECONDS ?= 600
FUZZ ?= websocket twilio elevenlabs link webhook_form config spool journal head post_call initiation twilio_webhook
fuzz: $(INSTALLED)
	for target in $(FUZZ); do \
		$(BIN)/python tests/fuzz/fuzz.py $$target fuzz-out/$$target -max_total_time=$(FUZZ_SECONDS) || exit 1; \
		$(BIN)/python tests/fuzz/fuzz.py $$target fuzz-out/$$target -merge=1 || exit 1; done

# The program for machines without Python, as one file and as a folder (dist/tandem-dir); and the demo with it.
binary: dist/tandem

dist/tandem: $(BINARY_INSTALLED) $(wildcard gateway/*.py gateway/*.pyx gateway/*.pxi control/*.py control/*/*.py policy/*.py policy/*/*) systemd/binary/tandem.spec systemd/binary/entry.py
	$(BINARY_VENV)/bin/pyinstaller --noconfirm --log-level ERROR --distpath dist --workpath build/binary systemd/binary/tandem.spec
	dist/tandem --version

binary-demo: dist/tandem $(INSTALLED)
	TANDEM_EXECUTABLE=$(abspath dist/tandem) $(BIN)/python -m bench.demo

# A Debian package of that folder with the units, the configuration and the user. Needs dpkg-deb.
package: dist/tandem
	systemd/debian/build dist/tandem-dir dist

# The package unpacked and tried: what is in it, its scripts, and the daemon as systemd would start it.
package-check: package $(INSTALLED)
	TANDEM_PACKAGE="$$(ls -t dist/tandem_*.deb | head -1)" $(BIN)/python -m pytest -q tests/package

# The package under a real systemd, in namespaces of its own, with a call in progress: a minute. Wants root; exit code 77 where
# this is not permitted.
.PHONY: systemd-demo
systemd-demo: package $(INSTALLED)
	$(BIN)/python -m bench.systemd_demo "$$(ls -t dist/tandem_*.deb | head -1)"

# A deploy with 50 calls in progress: none may be dropped.
.PHONY: deploy-demo package-check
deploy-demo: $(INSTALLED)
	$(BIN)/python -m bench.deploy

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tandem needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_INSTALLED): requirements-bench.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tandem needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements-bench.lock
	TANDEM_BUILD_BENCH=1 $(BENCH_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BINARY_INSTALLED): requirements-binary.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tandem needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	test -x $(BINARY_VENV)/bin/python || $(PYTHON) -m venv $(BINARY_VENV)
	$(BINARY_VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements-binary.lock
	$(BINARY_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Known vulnerabilities in what is pinned: exit 1 when there are some, 3 when the registry could not be asked.
.PHONY: audit sbom
audit: $(AUDIT_INSTALLED)
	@mkdir -p build
	@for lock in requirements.lock requirements-binary.lock; do rm -f build/audit.json; \
		$(AUDIT_VENV)/bin/pip-audit --requirement $$lock --require-hashes --disable-pip --progress-spinner off \
			--format json --output build/audit.json && continue; \
		test -s build/audit.json && { cat build/audit.json; exit 1; }; \
		echo "audit: the registry told no vulnerabilities of $$lock: is it within reach, does it serve them?" >&2; exit 3; \
	done

# What is in a release, as CycloneDX (JSON), from the lock of the binary.
sbom: $(AUDIT_INSTALLED)
	@mkdir -p dist
	$(AUDIT_VENV)/bin/cyclonedx-py requirements requirements-binary.lock --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file dist/tandem.cdx.json

$(AUDIT_INSTALLED): requirements-audit.txt
	test -x $(AUDIT_VENV)/bin/python || $(PYTHON) -m venv $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/python -m pip install --quiet --requirement requirements-audit.txt
	@touch $@

# Pins versions with hashes and writes no address. Needs uv.
lock:
	uv pip compile pyproject.toml --extra sim --extra test --extra check --extra build --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade \
		--output-file requirements.lock
	uv pip compile pyproject.toml --extra sim --extra bench --extra build --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade \
		--output-file requirements-bench.lock
	uv pip compile pyproject.toml --extra binary --extra build --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade \
		--output-file requirements-binary.lock

clean:
	rm -f gateway/_express.c gateway/*.so bench/load/_swift.c bench/load/*.so
	rm -rf $(VENV) $(BENCH_VENV) $(BINARY_VENV) $(AUDIT_VENV) build dist *.egg-info demo-out bench-out
