# UDFA: show it, check it.
#
#   make demo          segment the bundled sample and write the result and pictures to demo/
#   make test          lint, then the whole test suite
#   make lint          ruff (rules and format), mypy
#   make format        let ruff correct what it can
#   make screenshots   take the pictures of the README and the Extensions Manager, but not the plots
#   make icons         render the PNG icons from the SVG files (needs rsvg-convert: apt install librsvg2-bin)
#   make clean         remove what these commands wrote, the virtual environment included
#
# The first demo or test makes a virtual environment in .venv and installs what it needs there; PyTorch takes several
# gigabytes and some minutes. To use an environment that has everything already, name it; nothing is installed then:
#
#   make test VENV=/path/to/environment
#
# More arguments: PYTHON=python3.12 makes .venv with another Python, PIP_FLAGS="--extra-index-url ..." goes to pip (for
# example for a smaller PyTorch without CUDA), PYTEST_ARGS="-k oblique -x" goes to pytest, DEMO_ARGS="--model ..." to the
# demo.

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_ARGS ?= -n auto
DEMO_ARGS ?=

ifeq ($(origin VENV),command line)
READY_FOR_DEMO :=
READY_FOR_TEST :=
else
VENV := .venv
READY_FOR_DEMO := $(VENV)/ready-for-demo
READY_FOR_TEST := $(VENV)/ready-for-test
endif

RUN := PYTHONPATH=UDFASegmentation:training $(VENV)/bin/python
PIP_INSTALL = $(VENV)/bin/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS)

.PHONY: demo test lint format screenshots icons clean

demo: $(READY_FOR_DEMO)
	$(RUN) Testing/demo.py $(DEMO_ARGS)

test: lint
	$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(READY_FOR_TEST)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

format: $(READY_FOR_TEST)
	$(VENV)/bin/python -m ruff check --fix .
	$(VENV)/bin/python -m ruff format .

# A stamp is written last, so that an interrupted installation is taken up again by the next call.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "UDFA needs Python 3.10 or newer for its demo and tests; this is " + sys.version + ". Try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv

.venv/ready-for-demo: pyproject.toml | .venv/bin/pip
	@echo "Installing what the demo needs into .venv (PyTorch is large: some minutes) ..."
	$(PIP_INSTALL) -e ".[demo]"
	@touch $@

.venv/ready-for-test: pyproject.toml | .venv/bin/pip
	@echo "Installing what the tests need into .venv (PyTorch is large: some minutes) ..."
	$(PIP_INSTALL) -e ".[test]"
	@touch $@ .venv/ready-for-demo

screenshots: demo $(READY_FOR_TEST)
	mkdir -p Resources/Screenshots
	cp demo/overview.png Resources/Screenshots/segmentation.png
	$(RUN) Testing/screenshots.py
	$(RUN) Testing/click_pictures.py --label stomach

ICONS := Resources/UDFA UDFASegmentation/Resources/Icons/UDFASegmentation UDFASegmentation/Resources/Icons/UDFAClick

icons:
	for icon in $(ICONS); do rsvg-convert --width=128 --height=128 $$icon.svg --output=$$icon.png || exit 1; done
	rsvg-convert --width=256 --height=256 Resources/UDFA.svg --output=Resources/UDFA-256.png
	cd UDFASegmentation/Resources/Icons && rsvg-convert --width=32 --height=32 UDFAClickCursor.svg --output=UDFAClickCursor.png

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
