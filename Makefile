# Every command installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_WAIT_POLICY := passive

.PHONY: demo test lint types tests napari-tests test-oldest test-newest docs format clean

demo: .venv/core
	$(BIN)/pssr2 demo

test: lint types tests

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy -p pssr2_monai

# OpenVINO loads its own kernels, so its tests run in a process of their own.
OPENVINO_TESTS := tests/restoration/test_openvino_network.py

# The napari tests need a screen (a virtual one will do), and pytest plugins that must not affect the other tests.
NAPARI_TESTS := tests/napari
SCREEN := xvfb-run -a -s "-screen 0 1400x900x24"

# Most tests are too small to use two threads, so two processes of one thread each run them.
tests: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore $(OPENVINO_TESTS) --ignore $(NAPARI_TESTS)
	$(BIN)/python -m pytest $(OPENVINO_TESTS)
	$(MAKE) --no-print-directory napari-tests

napari-tests: .venv/dev
	@if command -v xvfb-run >/dev/null; then \
		$(SCREEN) $(BIN)/python -m pytest -p napari -p npe2 -p pytest-qt $(NAPARI_TESTS); \
	else \
		echo "$(NAPARI_TESTS): skipped: xvfb-run is missing (apt-get install xvfb libxcb-icccm4 libxcb-keysyms1)"; \
	fi

# The lowest versions that pyproject.toml allows, and the newest of all (torch with its CUDA libraries), in environments
# of their own; `make test-newest PYTHON=python3.13` with another Python.
VERSIONS_TESTS ?= $(addprefix tests/,images crappify data networks restoration training cli test_releases.py)

test-oldest test-newest: test-%: .venv-%/ready
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore $(OPENVINO_TESTS) $(VERSIONS_TESTS)

# Builds the documents as a site in site/; `mkdocs serve` shows them during writing.
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist site

# torch first and pinned: an unpinned one installs gigabytes of CUDA libraries on machines without a GPU.
.venv/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/core
	$(PIP) --constraint constraints.txt --editable '.[dev,czi,mrc,nd2,lif,export,bioimageio,dask,openvino,mlflow,napari,docs]'
	touch $@

EXTRAS := czi,mrc,nd2,lif,bioimageio,dask,napari

# uv knows the lowest versions. torch brings newer ones of some packages, which are installed anew.
.venv-oldest/ready: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet uv torch==2.13.0
	$(@D)/bin/uv pip install --quiet --python $(@D) --resolution lowest-direct --reinstall-package filelock --reinstall-package jinja2 --editable '.[$(EXTRAS)]'
	$(@D)/bin/uv pip install --quiet --python $(@D) --editable '.[dev]'
	touch $@

.venv-newest/ready: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/uv pip install --quiet --python $(@D) --upgrade --editable '.[dev,$(EXTRAS)]'
	touch $@
