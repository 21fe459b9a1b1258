# Two commands: `make book` and `make test`. Either works first, on a machine with Python >= 3.11, git and make.
PYTHON  ?= python3
PROFILE ?= ci
DATASET ?=
ARGS    ?=
PORT    ?= 8000

VENV  := .venv
BIN   := $(VENV)/bin
GIVEN := $(if $(DATASET),--dataset $(DATASET)) # a command knows its usual one
PINS  := requirements.txt pyproject.toml
# What executing leaves in a notebook besides outputs; stripped so that a re-run notebook has no diff.
EXTRA_KEYS := metadata.papermill cell.metadata.papermill metadata.language_info.version metadata.widgets
STAMP := $(VENV)/.installed-$(shell cat $(PINS) | cksum | cut -d' ' -f1)

.PHONY: help book read pdf test slowest nightly regress train tables bench format dist audit address lock clean

help:
	@echo "make book     install, run the chapters that something has changed for, build the pages (PROFILE=ci, DATASET=junior, storybook, wide or coco, ARGS=--afresh)"
	@echo "make read     show the built pages at http://127.0.0.1:8000, or the next port that is free (PORT=8000)"
	@echo "make pdf      print the built pages as one file, _build/book/x-lxmert.pdf; needs Chromium"
	@echo "make test     install, then everything that must hold (ARGS=\"-m 'not slow'\" for the quick part)"
	@echo "make slowest  the twenty slowest tests of the last make test"
	@echo "make nightly  what is too long for make test, part by part, about an hour; finished parts are skipped when it starts again"
	@echo "make regress  run every chapter and compare its metrics with the accepted run (ARGS=--accept makes a new one)"
	@echo "make train    make the shipped weights from nothing, about three hours on two cores (DATASET=storybook, ARGS=--ship installs them)"
	@echo "make tables   train the models that chapters 05 and 06 compare, and others, three a row, hours; finished ones are skipped (DATASET=junior, ARGS=--ship)"
	@echo "make bench    measure every claim of speed beside its baseline, about a quarter of an hour, and write book/benchmarks.md (ARGS=--gpu: on a GPU)"
	@echo "make format   mend what ruff and nbstripout can mend"
	@echo "make dist     the wheel and the source distribution, into _build/dist (ARGS=\"--tag v0.1.0\" refuses another version)"
	@echo "make audit    compare the pins with the list of known vulnerabilities; needs the network"
	@echo "make address  the repository's address in every file (URL=https://github.com/you/book)"
	@echo "make lock     refresh the versions in requirements.txt"
	@echo "make clean    remove the built pages and artifacts; .venv stays"

book: $(STAMP)
	@$(BIN)/python -m book.build --profile $(PROFILE) $(GIVEN) $(ARGS)

# A browser reads pages from disk too, but runs no module from there: the page that paints needs a server.
read: $(STAMP)
	@$(BIN)/python -m book.build.read $(PORT)

pdf: $(STAMP)
	@$(BIN)/python -m book.build.pdf

# Threads that spin for long while they wait slow a shared machine tenfold (book/build/run_chapters.py says more). One
# thread, because the chapters run beside the tests.
test: export OMP_WAIT_POLICY = PASSIVE
test: export GOMP_SPINCOUNT = 1000
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ty check --output-format concise
	@$(BIN)/python -m pytest -n 2 $(ARGS)

slowest: $(STAMP)
	@$(BIN)/python -m book.build.slowest

nightly: $(STAMP)
	@$(BIN)/python -m book.build.nightly $(ARGS)

regress: $(STAMP)
	@$(BIN)/python -m book.regress --profile $(PROFILE) $(GIVEN) $(ARGS)

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/nbstripout --extra-keys "$(EXTRA_KEYS)" notebooks/*.ipynb

train: $(STAMP)
	@$(BIN)/python -m book.train $(GIVEN) $(ARGS)

tables: export OMP_WAIT_POLICY = PASSIVE
tables: export GOMP_SPINCOUNT = 1000
tables: $(STAMP)
	@$(BIN)/python -m book.train.tables --profile $(PROFILE) $(GIVEN) $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m book.bench $(ARGS)

dist: $(STAMP)
	@$(BIN)/python -m book.build.dist $(ARGS)

# pip-audit is always the newest, in an environment of its own.
audit:
	@$(PYTHON) -m venv _build/audit
	@_build/audit/bin/python -m pip install --quiet --upgrade pip-audit
	@_build/audit/bin/python -m pip_audit --requirement requirements.txt --no-deps --disable-pip

address: $(STAMP)
	@$(BIN)/python -m book.build.address "$(URL)"

# The stamp's name holds the pins' checksum: a changed pin installs again, an unchanged one costs nothing.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "The book needs Python 3.11 or newer; name one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make a virtual environment; on Debian and Ubuntu install python3-venv, then run make again." >&2; exit 1; }
	@echo "Installing the pinned packages into $(VENV): about two minutes and 6 GB, once."
	@$(PYTHON) book/build/install.py $@

# Only the hand-kept torch lines at the top of requirements.txt survive; uv must be on the path.
lock:
	@sed '/^torchvision==/q' requirements.txt > $(VENV)/lock.txt
	@uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --upgrade --all-extras \
	    --constraint $(VENV)/lock.txt pyproject.toml \
	    | grep -vE '^(torch|torchvision|triton|(nvidia|cuda)-[a-z0-9-]+)==' >> $(VENV)/lock.txt
	@mv $(VENV)/lock.txt requirements.txt

clean:
	@rm -rf _build artifacts
