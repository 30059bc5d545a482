# Everything a fresh machine needs is installed here; Python 3.11 or newer is all that must be there before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Programs that tests talk to; from Debian's archive. Where it cannot be used, those tests are skipped and say so.
TOOLS := chromium dciodvfy storescu Orthanc
PACKAGES := chromium dicom3tools dcmtk orthanc orthanc-dicomweb

.PHONY: install tools demo test check docs bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python must be 3.11 or newer, got $$($(PYTHON) -V). Name another: make PYTHON=python3.12"; exit 2; }
	@echo "Installing PyTorch and all else into $(VENV): some minutes, in which nothing is printed"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/hilum demo --out demo

tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(PACKAGES) for the tests"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(PACKAGES); } \
			>/dev/null 2>&1 || echo "That failed: tests that need them are skipped"; \
	fi

test: $(INSTALLED) tools
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going --fresh-env --write-all --quiet docs docs/_build
	@echo "The site is in docs/_build/index.html"

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/phantom.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/pack.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference/made .pytest_cache .mypy_cache .ruff_cache .hypothesis
