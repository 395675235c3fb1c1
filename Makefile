# make repro   the whole workflow            make test       all tests
# make check   style and types              make test-fast  those that take seconds, while you work
# make format  what check would ask for
# make table   the last commit's experiments: settings that differ, S_total, failure ratio, means over seeds
# make seeds   the workflow again with other seeds of the training, and means over them: make seeds SEEDS="1 2 3 4"
# Each makes the virtual environment in .venv if it is missing or its list of packages has changed.

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test test-fast check format table seeds

repro: .venv/installed
	dvc repro
	@cat results/table1.md

# Several processes, each with one thread. The long tests sometimes wait, so three keep two cores busy.
PYTEST = OMP_NUM_THREADS=1 pytest --dist loadfile --no-loadscope-reorder

test: .venv/dev
	$(PYTEST) -n 3

test-fast: .venv/dev
	$(PYTEST) -n 2 -m "not slow"

check: .venv/dev
	ruff check
	ruff format --check
	mypy

format: .venv/dev
	ruff check --fix
	ruff format

# Of more than a hundred columns these: the settings that differ, and of every candidate first S_total,
# then the failure ratio; in one table they would be too wide. --drop takes what its pattern doesn't spare,
# --keep holds columns in which nothing differs. --no-pager would cut the tables to the terminal's width.
SETTINGS = (sample|generate|models|scorers|scoring|pairing|train|evaluate)\.|(launch|pool)$$
SHOW = DVC_PAGER=cat dvc exp show --only-changed

table: .venv/installed
	@$(SHOW) --drop '(?!Experiment$$|State$$|$(SETTINGS))' --keep '[^:]+\.s_total$$' --keep 'persodpo\.pairs$$'
	@$(SHOW) --drop '(?!Experiment$$)' --keep '[^:]+\.failure_ratio$$'
	@echo
	@python -m persodpo seeds --brief

# An experiment that is there isn't made again, so a loop that was killed goes on where it was.
SEEDS ?= 1 2

seeds: .venv/installed
	@for seed in $(SEEDS); do \
	  dvc exp list --name-only | grep -qx seed_$$seed || \
	  dvc exp run --temp -n seed_$$seed -S train.seed=$$seed || exit 1; \
	done
	@python -m persodpo seeds

# torch comes first and with its own dependencies, which a CUDA build has and a CPU build hasn't.
# All else is installed without dependency resolution: the list is the full closure, and one of
# its packages asks for another that compiles for long and isn't needed.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --constraint requirements.txt torch
	pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.txt
	touch $@

# What only tests and checks need, bitsandbytes among it: where it is installed, peft imports it in every
# stage that loads a model, which takes seconds.
.venv/dev: .venv/installed requirements-dev.txt
	pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-dev.txt
	touch $@
