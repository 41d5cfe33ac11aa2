# make demo: install, run the main job on synthetic scenes, show the table and the curve
# make test: install if needed, run every check

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= outputs/demo

.PHONY: demo test lint clean install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/rs-prune run -m launcher=parallel budget.keep=0.5,0.25,0.1 criterion=l1,attention,random attention=se,none out=$(OUT)
	$(BIN)/rs-prune report out=$(OUT)
	@echo "The curve: $(OUT)/report/accuracy_macs.png"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf $(VENV) outputs dist build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
