# `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE # set by git for its hooks; they may name another repository

ifneq ($(shell pwd -P | grep '[:"`$$%\\{}]'),)
$(error $(CURDIR) has one of :"`$$%\{} in its path, where no environment works; rename or move it)
endif

# Programs in an environment name its folder, so one that was made elsewhere, and moved or copied here, is built anew.
ifneq ($(shell cat .venv/.installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/.installed
endif

.DEFAULT_GOAL := help
.NOTPARALLEL: # what has to be there is looked for before .venv is built
.PHONY: help install repro ui test lint verify doctor bench bench-sweep calibrate mutants peers lock clean clean-logs repository

help: ## say what each command does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## build .venv from requirements.lock, as every other command does when it has to

repro: repository .venv/.installed ## generate the data, train what is missing, write reports/report.md and report.html
	dvc repro

ui: .venv/.installed ## bring the MLflow index up to date and show it on 127.0.0.1; PORT=5001 chooses the port
	python pipelines/index.py --serve $(if $(PORT),tracking.port=$(PORT))

test: repository .venv/.installed ## run the tests; every branch of the core has to be taken
	python -m pytest --numprocesses auto --cov=circlemlp.core --cov-branch --cov-report=term:skip-covered --cov-fail-under=100

lint: .venv/.installed ## check style, types and which layer imports which
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-cache --no-logo

verify: repository .venv/.installed ## check every record and result, compute their scores again, and compare the pipeline with dvc.lock
	python pipelines/verify.py
	dvc status
	@dvc status --quiet

doctor: .venv/.installed ## say how packages, kernels, disk, index and pipeline are, and what to do about it
	@python pipelines/doctor.py

bench: .venv/.installed ## time an epoch of the core beside JAX, PyTorch, scikit-learn and plain NumPy, on one core
	python benchmarks/bench.py

bench-sweep: .venv/.installed ## time sweeps of new and of found cells beside a bare Hydra application
	python benchmarks/sweep.py

calibrate: .venv/.installed ## simulate the report's statistics and write their table into docs/calibration.md (five to ten minutes)
	python benchmarks/calibrate.py

mutants: .venv/.installed ## change the core in every small way and count which changes the tests notice (a quarter of an hour)
	$(INSTALL) $$(python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['mutants'])")
	mutmut run
	mutmut results

peers: .venv/.installed ## install what `make bench` measures beside the core
	$(INSTALL) $$(python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['peers'])")

# With extras, because pip takes package[extra] for a requirement of its own, and a release newer than the locked one for it.
lock: .venv/.installed ## choose the newest allowed versions of all packages and write requirements.lock
	uv pip compile pyproject.toml --group dev --universal --fork-strategy fewest --python-version 3.11 --no-strip-extras \
		--generate-hashes --no-header --no-annotate --upgrade --quiet --output-file requirements.lock

clean: ## remove the environment and all that running leaves: data, records, results, index, logs; keep what is committed
	rm -rf .venv mutants build src/*.egg-info runs results data/*.npz mlflow.db* mlartifacts logs dvc_plots
	rm -rf .locks */.locks .aside-* */.aside-*

clean-logs: ## remove what Hydra noted of each sweep
	rm -rf logs

# Ends make with one line if there is a reason to.
refuse = $(if $(1),$(error $(strip $(1))$(strip $(2))))

repository:
	$(call refuse,$(shell why=$$(git rev-parse --git-dir 2>&1) || echo "a git clone is needed, for DVC and the tests: $$why"))
	@:

TOO_OLD_OR_NEW := import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or print("$(PYTHON) is %d.%d" % v)

# The stamp, which names this folder, is written last, so that an installation cut short is not taken for a whole one.
# setuptools comes first, at its locked version, because one package has no wheel and is built with it.
.venv/.installed: requirements.lock pyproject.toml
	$(call refuse,$(shell PATH="$$PWD/$(BIN):$$PATH"; $(PYTHON) -c '$(TOO_OLD_OR_NEW)' 2>/dev/null || echo '$(PYTHON) does not run'),\
		; Python 3.11 to 3.13 is needed: make $(MAKECMDGOALS) PYTHON=python3.13)
	$(PYTHON) -m venv --clear .venv
	awk '/^setuptools==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock > .venv/setuptools.lock
	$(INSTALL) --require-hashes -r .venv/setuptools.lock
	$(INSTALL) --require-hashes --no-build-isolation -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@pwd -P > $@
