# Everything that is done to this repository has a target here; `make` prints them.
# Needs Python 3.11 or newer and make. Say which Python with: make run PYTHON=/path/to/python3

VENV := .venv
PY := $(VENV)/bin/python
TORCH := .venv-transformers
UV := $(VENV)/uv/bin/uv
PIP := $(PY) -m pip --disable-pip-version-check --no-input -qq
# What the optional pools need is installed only where they are asked for: make run POOLS=all, or their names with commas between.
INSTALLED := $(VENV)/installed-$(if $(POOLS),all,run)
# Many tests wait for processes most of the time, so four run side by side on two cores.
PYTEST := $(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=20
UV_COMPILE := $(UV) pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q $(if $(UPGRADE),--upgrade)
LIGHT := --extra text --extra generation --extra remote
HEAVY := --extra all

# Tests start Python some thousand times: where nothing may be left compiled, each start compiles the whole project anew.
unexport PYTHONDONTWRITEBYTECODE

# Two goals could install into one .venv at once; what `check` runs side by side needs nothing installed.
ifndef BESIDE
.NOTPARALLEL:
endif
.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help run demo test check check-full lint fmt types contracts docs docs-check test-transformers weights fault-core bench lock setup clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  make \1\t\2/p' Makefile | expand -t 20

# --- to use it --------------------------------------------------------------------------------------------------------

run: $(INSTALLED) ## set up, start everything on this machine, show one real job per task type, serve until Ctrl-C; POOLS=all brings the heavy ones
	@$(POOLS:%=MILLPOND_POOLS=%) $(PY) -m cli.main up $(ARGS)

demo: $(INSTALLED) ## the same, and leave after the jobs
	@$(POOLS:%=MILLPOND_POOLS=%) $(PY) -m cli.main up --demo $(ARGS)

# --- to change it -----------------------------------------------------------------------------------------------------

setup: $(VENV)/installed-dev ## make .venv with everything that development needs

test: $(VENV)/installed-dev ## the tests, on embedded servers; those that need RabbitMQ and PostgreSQL 15 run where these answer; ON=mixed: the fault core on those
	$(PYTEST) $(if $(ON),--on=$(ON)) -m "not slow" $(ARGS)

# Weights are waited for and mypy takes one core: what else is checked, and the first tests, run beside them.
check: $(VENV)/installed-dev ## what CI runs: lint, types, contracts, docs, and the tests, the fault core among them on real servers
	$(MAKE) -j 3 BESIDE=1 ON=mixed lint types weights contracts docs-check test

fault-core: $(VENV)/installed-dev ## the fault core alone, against PostgreSQL 15, RabbitMQ and Redis
	$(PYTEST) --on=real -m "chaos and not slow" $(ARGS) tests/chaos

test-transformers: $(TORCH)/installed ## the tests of the transformers backend, in an environment of its own: torch is large
	$(TORCH)/bin/python -m pytest tests/transformers $(ARGS)

check-full: lint types contracts docs-check test-transformers ## every test, the slow ones too, on embedded servers and then on real ones, which must answer; a table of a million jobs
	CI=true $(PYTEST) $(ARGS)
	CI=true $(PYTEST) --on=real $(ARGS)
	$(PY) -m benchmarks --only big-table

weights: $(VENV)/installed-dev ## fetch the weights of every model of the catalogue, as the first test that needs them would
	$(PY) -m tests.support.weights

lint: $(VENV)/installed-dev ## ruff: rules and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

fmt: $(VENV)/installed-dev ## let ruff repair and format what it can
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

types: $(VENV)/installed-dev ## mypy --strict over code and tests
	$(PY) -m mypy

contracts: $(VENV)/installed-dev ## who may import whom (.importlinter)
	$(VENV)/bin/lint-imports

docs: $(VENV)/installed-dev ## write docs/generated anew from the code
	$(PY) -m docs.generate

docs-check: $(VENV)/installed-dev ## fail if docs/generated is not what the code says
	$(PY) -m docs.generate --check

bench: $(VENV)/installed-dev ## measure against the peers in benchmarks/, all in one run
	$(PY) -m benchmarks $(ARGS)

lock: | $(PY) ## write the requirements locks anew from pyproject.toml; UPGRADE=1 takes newer releases
	@$(get_uv)
	echo uv | $(UV_COMPILE) - -o requirements-uv.lock
	$(UV_COMPILE) --group build $(LIGHT) pyproject.toml -o requirements.lock
	$(UV_COMPILE) --group build $(LIGHT) $(HEAVY) -c requirements.lock pyproject.toml -o requirements-all.lock
	$(UV_COMPILE) --group build $(LIGHT) $(HEAVY) --group dev -c requirements-all.lock pyproject.toml -o requirements-dev.lock

clean: ## remove .venv, caches and build results; the state folder .millpond stays
	rm -rf $(VENV) $(TORCH) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment ------------------------------------------------------------------------------------------
# A stamp in .venv is newer than the lock it was made from, so a second `make run` installs nothing. The project itself is
# installed as one .pth line with this folder; the lock holds setuptools, so no build environment is fetched for it.

$(VENV)/installed-run: requirements.lock pyproject.toml | $(PY)
	@$(call install,requirements.lock)
	@touch $@

$(VENV)/installed-all: requirements-all.lock requirements.lock pyproject.toml | $(PY)
	@$(call install,requirements-all.lock)
	@touch $(VENV)/installed-run $@

$(VENV)/installed-dev: requirements-dev.lock requirements-all.lock requirements.lock pyproject.toml | $(PY)
	@$(call install,requirements-dev.lock)
	@touch $(VENV)/installed-run $(VENV)/installed-all $@

# What the backend needs is in no lock: torch's builds differ by machine, and whoever runs it chooses one.
$(TORCH)/installed: pyproject.toml requirements-dev.lock | $(PY)
	$(PY) -m venv $(TORCH)
	sed -n 's/^\(hypothesis\|psutil\|pytest\|pytest-timeout\)==\([^ ;]*\).*/\1==\2/p' requirements-dev.lock >$(TORCH)/tests.txt
	$(TORCH)/bin/python -m pip --disable-pip-version-check --no-input -qq install -r $(TORCH)/tests.txt -e '.[transformers]'
	@touch $@

# uv needs a third to a half of pip's time. It knows nothing of pip's configuration but the index; where it cannot, pip does it.
define install
	echo "Installing $(1) into $(VENV) (needed once) …" && \
	{ $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; } && \
	{ $(call with_uv,$(1)) || { echo "uv could not; pip takes longer …"; $(call with_pip,$(1)); }; } && \
	$(PIP) install --no-deps --no-build-isolation -e .
endef

define get_uv
{ [ $(UV) -nt requirements-uv.lock ] || \
	{ rm -rf $(VENV)/uv && $(PIP) install --no-deps --no-compile --require-hashes --target $(VENV)/uv -r requirements-uv.lock && touch $(UV); }; }
endef

define with_uv
$(get_uv) && \
	index="$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}" && \
	env $${index:+UV_DEFAULT_INDEX="$$index"} $(UV) pip install -q --python $(PY) --no-deps --require-hashes --compile-bytecode -r $(1)
endef

define with_pip
$(PIP) install --no-deps --no-compile --require-hashes -r $(1) && \
	{ $(PY) -m compileall -qq -j 0 "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || true; }
endef

$(PY):
	@for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Millpond needs Python 3.11 or newer; there is none as $(if $(PYTHON),$(PYTHON),python3, python3.13, python3.12, python3.11 or python)." >&2; \
		echo "Install one, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV) || { \
		rm -rf $(VENV); \
		echo "$$found cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	}
