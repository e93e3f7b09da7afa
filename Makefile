# yolostudy: everything starts here. `make` lists the targets.

PYTHON ?= python3
TESTS ?= tests
LAB_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LAB_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint notebooks pictures release lock clean

help: ## list these targets
	@echo "yolostudy: build a YOLOv8-class detector and see inside it. Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "PYTHON=python3.12 names another Python (3.11 to 3.13), LAB_FLAGS=--no-browser goes to JupyterLab, TESTS=tests/unit to pytest."

setup: $(READY) ## create .venv and install what requirements.lock names (nothing to do when nothing changed)
	@echo "Set up. $(BIN)/yolostudy doctor says what this machine can do."

lab: $(READY) ## set up, then open JupyterLab on the first notebook
	@echo "Opening JupyterLab on course/00_start.ipynb (Ctrl-C twice ends it)"
	@$(BIN)/python -m jupyterlab --config=course/lab/jupyter_lab_config.py --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.app_settings_dir="$(CURDIR)/course/lab" $(LAB_ROOT) $(LAB_FLAGS) course/00_start.ipynb

test: $(READY) ## set up, then run the tests
	@echo "Running the tests in $(TESTS), two at a time"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(READY) ## check style with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

notebooks: $(READY) ## build course/*.ipynb from course/source and run them
	@$(BIN)/yolostudy author build --execute

pictures: $(READY) ## make the pictures of the README again
	@$(BIN)/python course/pictures/make.py

release: $(READY) ## write the stubs of solutions/ into yolostudy/
	@$(BIN)/yolostudy author release

lock: $(READY) ## write requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
		--upgrade --custom-compile-command "make lock" --quiet --output-file requirements.lock
	@echo "Wrote requirements.lock; make setup installs it."

clean: ## remove .venv and caches; runs, data and your work stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	@find course solutions tests yolostudy -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --compile-bytecode: without it importing torch costs twice the time, in every process, wherever PYTHONDONTWRITEBYTECODE is set.
# The stamp holds the folder that it was made for. One that is missing (set-up was interrupted) or that names another folder (this one was
# moved or copied, which a virtual environment does not survive) makes set-up start over; uv's cache makes that cheap.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): requirements.lock pyproject.toml course/lab/ipython_kernel_config.py
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name yours: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("$(PYTHON) is Python " + sys.version.split()[0] + \
		", and yolostudy needs 3.11, 3.12 or 3.13. Name one that you have: make setup PYTHON=python3.12")'
	@if [ "$$(cat $(READY) 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -c "" 2>/dev/null; then \
		echo "1/4 Updating $(VENV)"; \
	else \
		echo "1/4 Creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); \
	fi
	@rm -f $(READY)
	@echo "2/4 Installing uv, the installer"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "3/4 Installing what requirements.lock names: up to 6 GB on disk, one to ten minutes the first time"
	@if [ -t 2 ]; then quiet=; else quiet=--quiet; fi; \
		$(BIN)/uv pip install $$quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements.lock
	@echo "4/4 Installing yolostudy itself, editable"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/etc/ipython && cp course/lab/ipython_kernel_config.py $(VENV)/etc/ipython/
	@echo "$(CURDIR)" > $(READY)
