# Every target sets up what it needs, from nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: verify test bench browser docs docs-data ledger wheel lint format

verify: $(VENV)/ready
	$(BIN)/trihead verify

# Two processes of one thread each: more threads would fight for two cores.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

bench: $(VENV)/ready
	$(BIN)/trihead bench --page docs/benchmarks.md --plot docs/benchmarks.svg

# Other releases, each in an environment of its own; ROWS: which of docs/ledger/environments.toml.
ledger: $(VENV)/ready
	$(BIN)/python -m shared_tests.studies.ledger $(ROWS)

# The wheel and the sdist, in dist/.
wheel: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m build --quiet --no-isolation --outdir dist

# The wheel with one extra alone, as a user installs it, in an environment of its own: make try-wheel-jax.
PACKAGE_torch := torch_impl
PACKAGE_jax := jax_impl
PACKAGE_tensorflow := tf_impl
try-wheel-%: wheel
	$(PYTHON) -m venv --clear build/try-$*
	build/try-$*/bin/pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[$*]"
	cd build/try-$* && bin/python -c 'import $(PACKAGE_$*)' && bin/trihead doctor && \
		bin/trihead verify --subject $(PACKAGE_$*)

# Chromium, in which the tests look at pages; where it cannot be installed, they say that they were skipped.
browser:
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ apt-get update --quiet && apt-get install --quiet --yes chromium; }

# The site, in docs/_build. It is made anew: what is left over of a page that moved would be linked to still.
docs: $(VENV)/ready
	rm -rf docs/_build
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --quiet docs docs/_build

# What pages of the site are written from, and these pages: half an hour, most of it the faults. Variables of this
# machine that move numbers are left out.
docs-data: $(VENV)/ready
	mkdir -p build
	$(BIN)/trihead verify --json docs/data/verify.json
	env -i PATH="$$PATH" HOME="$$HOME" $(BIN)/trihead doctor > build/doctor.txt
	$(BIN)/python -m shared_tests.commands.reference build/doctor.txt
	$(BIN)/python -m shared_tests.studies.builtins
	$(BIN)/trihead faults --pairs 200 --page docs/failures.md

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trihead needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
