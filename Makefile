# Everything on a fresh machine with Python 3.11 or later and git.
#   make run     environment, installation and the demonstration run
#   make test    environment, installation and the quick tests, on all cores
#   make lowest  the quick tests with direct dependencies at their lower bounds, in an environment of its own
#   make check   every test with its coverage, style, types and the layers of imports; CI runs both

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest

.PHONY: run test lowest check lint types browser clean

run: $(INSTALLED)
	$(BIN)/bserkit run

# Tests of a file stay together, so that what they share is made once.
TESTS := pytest -n auto --dist loadfile --durations 10
PYTEST := $(BIN)/$(TESTS)

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/$(TESTS) -m "not slow"

check: $(INSTALLED) lint types browser
	$(PYTEST) --cov --cov-report term

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

# Reports are tested in a headless browser. Only root on Debian gets one unasked.
browser:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null \
			|| echo "chromium could not be installed: tests of reports in a browser are skipped."; \
	else echo "There is no chromium: tests of reports in a browser are skipped unless another Chrome is found."; fi

clean:
	rm -rf $(VENV) $(LOWEST) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bserkit needs Python 3.11 or later; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# The lower bounds of pyproject.toml, as pip's constraints.
define BOUNDS
import re, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for given in sum(project["optional-dependencies"].values(), project["dependencies"]):
    if not given.startswith(project["name"]):
        print(re.sub(">=([^,]+).*", r"==\1", given))
endef
export BOUNDS

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "lower bounds are tested on the lowest Python; try: make lowest PYTHON=python3.11")'
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -c "$$BOUNDS" > $(LOWEST)/bounds.txt
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/bounds.txt --editable '.[dev]'
	touch $@
