# Each target works alone on a fresh clone: it creates .venv and installs what it needs.
# To have the smaller CPU build of torch on Linux:
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt
NEEDS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test browser bench model table findings attacks notebooks docs

help:
	@echo "make demo   remove a concept from the bundled model and draw before and after"
	@echo "make test   lint, types and tests"
	@echo "make docs   build the pages in docs/ into site/"
	@echo "make bench  time the closed-form solve, erasing from a checkpoint of SD 1.4's size, and a search's encodings"
	@echo "make model  train the bundled model again"
	@echo "make table  measure the README's table by the recipe \`papers\`"
	@echo "make findings  measure all methods of docs/findings.md on the bundled model"
	@echo "make attacks  attack the methods on the bundled model, and ask for synonyms of what was erased"
	@echo "make notebooks  run the notebooks and keep what they show"

demo: $(VENV)/.installed
	mkdir -p demo
	$(BIN)/editkit erase --concept church --method rece --out demo/church.safetensors --force
	$(BIN)/editkit compare base demo/church.safetensors \
		--prompt "a church" --prompt "a mosque" --prompt "a castle" --prompt "a dog" \
		--seeds 0-7 --out demo/church.png --force
	@echo "The picture is at $(CURDIR)/demo/church.png"

test: $(VENV)/.installed-dev | browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -n auto --dist worksteal

# The report is tested in a real browser: Debian's, which root may install. Elsewhere these tests say why they are skipped.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; \
	} || echo "no chromium: the tests of the report in a browser are skipped"

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/python tests/bench/closed_form.py
	$(BIN)/python tests/bench/gram.py
	$(BIN)/python tests/bench/erase_cost.py
	$(BIN)/python tests/bench/encodings.py

model: $(VENV)/.installed-train
	$(BIN)/python -m editkit.emoji.train

notebooks: $(VENV)/.installed-dev
	$(BIN)/jupytext --to ipynb --execute notebooks/*.py

table: $(VENV)/.installed-dev
	$(BIN)/editkit run papers
	$(BIN)/python -m editkit.emoji.papers_table

findings: $(VENV)/.installed-dev
	$(BIN)/python -m editkit.emoji.table --out tests/bench/results.json

# pip arrives last in a new environment, so that one left half made is made again.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras; an install is repeated when the requirements change.
$(VENV)/.installed: $(NEEDS) | $(BIN)/pip
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-train: $(NEEDS) | $(BIN)/pip
	$(INSTALL) -e ".[train]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(NEEDS) | $(BIN)/pip
	$(INSTALL) -e ".[dev,train]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-train

$(VENV)/.installed-docs: $(NEEDS) | $(BIN)/pip
	$(INSTALL) -e ".[docs]"
	touch $@ $(VENV)/.installed

attacks: $(VENV)/.installed-dev
	$(BIN)/python -m editkit.emoji.attack_table --work attacks
	$(BIN)/python -m editkit.emoji.loss_table
	$(BIN)/python -m editkit.emoji.synonym_table
	$(BIN)/python -m editkit.emoji.gate_table --work attacks/gates
	$(BIN)/python -m editkit.emoji.guide_table
	$(BIN)/python -m editkit.emoji.many_table --work attacks/many
	$(BIN)/python -m editkit.emoji.suite_table --work attacks/suites
	$(BIN)/python -m editkit.emoji.protect_table
	$(BIN)/python -m editkit.emoji.bound_table
	$(BIN)/python -m editkit.emoji.moderate_table
	$(BIN)/python -m editkit.emoji.damage_table
	$(BIN)/python -m editkit.emoji.methods_table
