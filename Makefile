# `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help install repro ui test lint verify bench mutants peers lock clean

help: ## say what each command does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## build .venv from requirements.lock, as every other command does when it has to

repro: .venv/.installed ## generate the data, train what is missing, write reports/report.md and report.html
	dvc repro

ui: .venv/.installed ## bring the MLflow index up to date and show it on 127.0.0.1
	python pipelines/index.py --serve

test: .venv/.installed ## run the tests; every branch of the core has to be taken
	python -m pytest --numprocesses auto --cov=circlemlp.core --cov-branch --cov-report=term:skip-covered --cov-fail-under=100

lint: .venv/.installed ## check style, types and which layer imports which
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-cache --no-logo

verify: .venv/.installed ## check every record and result against its digests, and the pipeline against dvc.lock
	python pipelines/verify.py
	dvc status
	@dvc status --quiet

bench: .venv/.installed ## time an epoch of the core beside JAX, PyTorch, scikit-learn and plain NumPy, on one core
	python benchmarks/bench.py

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
	rm -rf .venv mutants runs results/*/ data/*.npz mlflow.db* mlartifacts logs dvc_plots

# The stamp is written last, so that an installation that was cut short is not taken for a whole one.
# setuptools comes first, at its locked version, because one package has no wheel and is built with it.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv
	awk '/^setuptools==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock > .venv/setuptools.lock
	$(INSTALL) --require-hashes -r .venv/setuptools.lock
	$(INSTALL) --require-hashes --no-build-isolation -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
