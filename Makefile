# clusterd: everything a contributor types. `make help` lists it.
# A fresh Debian 12 or 13 with git, make and python3 is enough: missing system packages are named and installed by apt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation

BENCH_PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)-bench/bin/python -m pip install --quiet --require-hashes --no-build-isolation

CONFORMANCE_PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)-conformance/bin/python -m pip install --quiet --require-hashes --no-build-isolation

# systemd-python is a source package: it is compiled against libsystemd.
PACKAGES_RUN     := gcc libc6-dev libsystemd-dev pkg-config python3-dev python3-venv
PACKAGES_COMPILE := gcc libc6-dev python3-dev python3-venv
# The system ring builds the .deb, looks at it with lintian and boots Debian in a container, or several behind HAProxy.
PACKAGES_DEB     := build-essential debhelper fakeroot python3-dev python3-venv
PACKAGES_LINT    := lintian
PACKAGES_SYSTEM  := ansible-lint debootstrap systemd-container util-linux iproute2 $(PACKAGES_LINT)
# What stands beside clusterd in the examples and in the tests.
PACKAGES_EXAMPLES := caddy chromium-headless-shell haproxy nginx-light prometheus redis-server

# The engine as it is installed: compiled for $(PYTHON), from these.
COMPILED := build/compiled
SOURCES  := setup.py setup.cfg pyproject.toml LICENSE packaging/build-wheel requirements/compile.txt $(shell find service -name '*.py' -o -name '*.c' -o -name '*.css' -o -name '*.js')

# The Debian packages of the system ring, made of all that git would add.
DEBS     := build/packages
PACKAGED := $(shell git ls-files --cached --others --exclude-standard CHANGELOG.md README.md SECURITY.md debian docs etc examples packaging 2>/dev/null)

# What the tests of `make operate` have counted, and what those of `make conformance` have seen.
ROWS  := build/reliability.jsonl
CELLS := build/compatibility.jsonl

# For `make fuzz`.
SECONDS := 60

.DEFAULT_GOAL := help
.PHONY: help run check test-quickly test test-interpreted test-compiled test-system test-debian12 test-debian13 \
	packages lab hosts wheel wheels fuzz soak operate conformance lint format venv deb lint-deb docs bench lock clean

# What runs in this machine; the system ring boots others.
RINGS := tests/unit tests/engine tests/process tests/fuzz

# Each file is run by one of two processes: most tests wait more than they compute.
PYTEST := $(BIN)/python -m pytest --numprocesses=$(if $(ARGS),0,2) --dist=loadfile

# All that is asked of one framework is asked by one of two processes.
CONFORMING = --numprocesses=2 --dist=loadgroup $(ARGS)

BESIDE_EACH_OTHER = $(MAKE) --no-print-directory --jobs=5 --output-sync=target

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: venv ## run clusterd in the foreground with the example application (Ctrl-C drains and ends it)
	$(BIN)/clusterd --config etc/clusterd/clusterd.yaml

check: $(VENV)/test ## what to run all day: lint, and the rings without processes
	$(BESIDE_EACH_OTHER) lint test-quickly

test-quickly: $(VENV)/test
	$(PYTEST) tests/unit tests/engine

# The rings run beside each other too, each part of the system ring as soon as its package is built.
test: $(VENV)/test ## lint, then every test of every ring (ARGS='-k name' to choose)
	@if [ "$$(id -u)" = 0 ]; then packaging/system-packages $(PACKAGES_SYSTEM) $(PACKAGES_EXAMPLES); fi
	$(if $(ARGS),$(PYTEST) $(ARGS),$(BESIDE_EACH_OTHER) lint test-interpreted test-compiled test-debian12 test-debian13)

# Compiled to bytecode once: the services of the tests write none, and a thousand of them would each compile it anew.
test-interpreted: $(VENV)/test ## the rings that run in this machine, with the engine as it is in a checkout
	$(BIN)/python -m compileall -q service
	$(PYTEST) $(or $(ARGS),$(RINGS))

test-system: $(VENV)/test ## the system ring: the package in a booted Debian 12 and 13, beside each other
	$(BESIDE_EACH_OTHER) test-debian12 test-debian13

packages: $(DEBS)/bookworm/ready $(DEBS)/trixie/ready

# Not where the machine cannot: the tests say so, and are skipped or fail.
$(DEBS)/%/ready: $(SOURCES) $(PACKAGED) | $(VENV)/test
	mkdir -p $(@D)
	if [ "$$(id -u)" = 0 ]; then $(BIN)/python -m tests.support.machines.building $* $(@D); fi
	@touch $@

# Tests that boot no Debian run with the first one. ONLY='-m operate' chooses among them.
ONLY := -m 'not long'
test-debian12: $(DEBS)/bookworm/ready
test-debian13: $(DEBS)/trixie/ready
test-debian12 test-debian13: test-debian%: $(VENV)/test
	CLUSTERD_PACKAGES=$(abspath $(DEBS)) $(BIN)/python -m pytest tests/system tests/hosts $(ONLY) \
		-k '$(if $(filter 12,$*),not trixie,trixie)'

# Without what the compiled modules cannot change: decisions, settings, and what does not serve requests.
test-compiled: $(VENV)/test $(COMPILED)/ready ## the same rings once more, with the engine compiled
	PYTHONPATH=$(abspath $(COMPILED)) CLUSTERD_ENGINE=compiled CLUSTERD_WHEELS=$(abspath build/wheel) $(PYTEST) -o pythonpath=$(COMPILED) \
		$(or $(ARGS),$(RINGS) -m 'not engine_independent')

lab: SUITE := bookworm
lab: ## three booted Debians with clusterd, a fourth with HAProxy, and a Prometheus, to play with until Ctrl-C (SUITE=trixie, as root)
	packaging/system-packages $(PACKAGES_SYSTEM) $(PACKAGES_EXAMPLES)
	$(MAKE) --no-print-directory $(DEBS)/$(SUITE)/ready
	$(BIN)/python -m tests.support.hosts.run $(SUITE) $(DEBS)/$(SUITE)/clusterd_*.deb

# A session of each Debian, one after the other: the hosts need all processors.
hosts: $(VENV)/test packages ## deploy to, restart and lose hosts behind HAProxy, with 200 clients; `make test` has a shorter form
	packaging/system-packages $(PACKAGES_SYSTEM) $(PACKAGES_EXAMPLES)
	CI=true CLUSTERD_PACKAGES=$(abspath $(DEBS)) CLUSTERD_CLIENTS_EACH=50 $(BIN)/python -m pytest tests/hosts $(ARGS)

fuzz: $(VENV)/test ## throw hostile bytes at the HTTP engine (SECONDS=60, SEED=number to see the same again)
	$(BIN)/python -m tests.fuzz.run $(SECONDS) $(SEED)

soak: SECONDS := 600
soak: $(VENV)/test ## kill, stop, starve and reload a service at random under mixed load (SECONDS=600, SEED=number); every request is accounted for
	$(BIN)/python -m tests.support.soak.run $(SECONDS) $(SEED)

operate: $(VENV)/test ## what an operator does and what fails, in booted Debians with requests counted: docs/reliability.md
	packaging/system-packages $(PACKAGES_SYSTEM)
	rm -f $(ROWS) && mkdir -p $(dir $(ROWS))
	CI=true CLUSTERD_RELIABILITY=$(abspath $(ROWS)) $(MAKE) --no-print-directory test-system ONLY='-m operate'
	$(BIN)/python -m tests.support.machines.reliability $(ROWS) docs/reliability.md

# The services run under the frameworks' own interpreter, the clients under the one of the tests.
conformance: $(VENV)/test $(VENV)-conformance/ready $(COMPILED)/ready ## frameworks and others' suites against the real server: docs/compatibility.md
	packaging/system-packages postgresql
	rm -f $(CELLS) && mkdir -p $(dir $(CELLS))
	CLUSTERD_CELLS=$(abspath $(CELLS)) $(BIN)/python -m pytest tests/conformance $(CONFORMING)
	CLUSTERD_CELLS=$(abspath $(CELLS)) PYTHONPATH=$(abspath $(COMPILED)) CLUSTERD_ENGINE=compiled \
		$(BIN)/python -m pytest -o pythonpath=$(COMPILED) tests/conformance $(CONFORMING)
	$(if $(ARGS),,$(BIN)/python -m tests.conformance.cells $(CELLS) docs/compatibility.md)

lint: $(VENV)/test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/test ## put imports and layout in order
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

venv: $(VENV)/run ## make .venv with clusterd and clusterctl in it

wheel: ## build the wheel, compiled for $(PYTHON), into build/wheel/
	packaging/system-packages $(PACKAGES_COMPILE)
	packaging/build-wheel build/wheel $(PYTHON)

wheels: $(VENV)/test ## build a wheel for each supported Python of this machine into build/wheels/, and serve from each
	packaging/system-packages $(PACKAGES_COMPILE)
	rm -rf build/wheels
	set -e; for python in $$($(BIN)/python -m tests.support.interpreters); do \
		packaging/build-wheel build/wheels/$$(basename $$python) $$python; done
	CLUSTERD_WHEELS=$(abspath build/wheels) $(BIN)/python -m pytest tests/process/test_installed.py -k compiled_wheel

deb: ## build the Debian package into build/ (some minutes, most of them for the engine)
	packaging/system-packages $(PACKAGES_DEB)
	packaging/build-deb build

lint-deb: ## lintian on the package in build/, which fails for every tag without a reason in debian/clusterd.lintian-overrides
	packaging/system-packages $(PACKAGES_LINT)
	lintian --no-cfg --allow-root --pedantic --display-info --fail-on=error,warning,info,pedantic build/clusterd_*.deb

docs: venv ## write the generated files anew: JSON Schema, docs/settings.md, docs/metrics-reference.md, clusterd.yaml(5)
	$(BIN)/python -m clusterd.config.reference
	$(BIN)/python packaging/settings_manual.py
	$(BIN)/python packaging/metrics_manual.py
	$(BIN)/python packaging/completions.py

bench: $(VENV)-bench/clusterd ## measure, beside other servers: see bench/README.md
	packaging/system-packages wrk apache2-utils nginx-light openssl
	$(VENV)-bench/bin/python -m bench.run $(ARGS)

lock: ## resolve requirements/*.in anew into hash-locked requirements/*.txt
	packaging/lock-requirements

clean: ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-bench $(VENV)-conformance build .mypy_cache .ruff_cache .pytest_cache .hypothesis service/clusterd.egg-info

$(VENV)/run: requirements/build.txt requirements/run.txt requirements/systemd.txt setup.cfg pyproject.toml
	packaging/system-packages $(PACKAGES_RUN)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "clusterd needs Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements/build.txt
	$(PIP) --use-pep517 -r requirements/run.txt -r requirements/systemd.txt
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# An environment of its own: what the compared servers need is nobody else's business. uWSGI is compiled.
$(VENV)-bench/ready: $(VENV)/run requirements/bench.txt
	packaging/system-packages $(PACKAGES_COMPILE)
	$(PYTHON) -m venv $(VENV)-bench
	$(BENCH_PIP) -r requirements/build.txt
	$(BENCH_PIP) --use-pep517 -r requirements/run.txt -r requirements/systemd.txt
	$(BENCH_PIP) --use-pep517 -r requirements/bench.txt
	@touch $@

# What is measured is what is installed.
$(VENV)-bench/clusterd: $(VENV)-bench/ready $(COMPILED)/ready
	$(VENV)-bench/bin/python -m pip install --quiet --no-deps --force-reinstall build/wheel/clusterd-*.whl
	@touch $@

$(COMPILED)/ready: $(SOURCES) | $(VENV)/run
	packaging/system-packages $(PACKAGES_COMPILE)
	packaging/build-wheel build/wheel $(PYTHON)
	rm -rf $(COMPILED)
	$(PYTHON) -m zipfile -e build/wheel/clusterd-*.whl $(COMPILED)
	$(PYTHON) -m compileall -q $(COMPILED)
	@touch $@

# What frameworks need may contradict what tests need, and is under nobody's feet here.
$(VENV)-conformance/ready: requirements/build.txt requirements/conformance.txt
	$(PYTHON) -m venv $(VENV)-conformance
	$(CONFORMANCE_PIP) -r requirements/build.txt
	$(CONFORMANCE_PIP) -r requirements/conformance.txt
	@touch $@

$(VENV)/test: $(VENV)/run requirements/test.txt
	packaging/system-packages $(PACKAGES_COMPILE)
	$(PIP) -r requirements/test.txt
	@touch $@
