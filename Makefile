# `make demo` shows what the package does, `make test` checks it; each makes and fills .venv first if need be.
# make PYTHON=python3.13 ...   another Python, 3.11 to 3.13
# make test-all                every check of every row, and more of them on JAX: twice as long
# make bench DATA=folder       the comparisons of benchmarks/ on the data sets in a folder
# make fault                   kills trainings, breaks off every recipe, opens hostile files, to see what must come of it: hours

.PHONY: demo test test-all bench fault lint
python := .venv/bin/python
pytest := $(python) -m pytest -q -n 3 --dist worksteal
export TF_CPP_MIN_LOG_LEVEL ?= 3

demo: .venv/installed
	@$(python) benchmarks/demo.py

test: lint
	@KERAS_BACKEND=tensorflow $(pytest) -m "not thorough"
	@KERAS_BACKEND=jax $(pytest) -m "any_backend and not thorough"

test-all: lint
	@KERAS_BACKEND=tensorflow $(pytest)
	@KERAS_BACKEND=jax $(pytest) -m any_backend

bench: .venv/installed
	@$(python) benchmarks/digits.py
	@$(python) benchmarks/lite0_parity.py
	@$(python) benchmarks/tabular.py $(if $(DATA),--data "$(DATA)")
	@$(if $(DATA),$(python) benchmarks/transfer_fashion.py --data "$(DATA)/fashion_mnist.npz")

fault: .venv/installed
	@KERAS_BACKEND=tensorflow $(python) benchmarks/fault.py
	@KERAS_BACKEND=jax $(python) benchmarks/fault.py
	@KERAS_BACKEND=tensorflow $(python) benchmarks/resume_all.py
	@KERAS_BACKEND=jax $(python) benchmarks/resume_all.py
	@$(python) benchmarks/hostile.py
	@$(python) benchmarks/fuzz.py

lint: .venv/installed
	@$(python) -m ruff check --quiet .
	@$(python) -m ruff format --check --quiet .

# The stamp holds the folder's path: an editable install knows where the package was, so a moved clone installs again.
ifneq ($(shell cat .venv/installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/installed
endif
.venv/installed: pyproject.toml
	@if ! $(python) -m pip --version >/dev/null 2>&1; then \
		if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- python3.12 python3.11 python3.13 python3; fi; \
		for found in "$$@" ""; do \
			if [ -z "$$found" ]; then echo "No Python 3.11 to 3.13 found: make PYTHON=/path/to/python ..." >&2; exit 1; fi; \
			"$$found" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null && break; \
		done; \
		"$$found" -m venv --clear .venv; \
	fi
	@echo "Installing into .venv: a few minutes, once"
	@$(python) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@printf '%s' "$(CURDIR)" > $@
