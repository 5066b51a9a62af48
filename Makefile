# make demo: install, and see an agent's run recorded and found again.   make test: install, and run the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo check units test full faults lint types format interop lowest newest bench bench-check bench-peers clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/quickstart.py

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not interop and not full_size"

# What no other process is started for: a quick answer before `make test`.
CHECKED := tests/base/test_names.py tests/base/test_places.py tests/base/test_visible.py \
  tests/capture/test_conformance_matrix.py tests/capture/test_task_and_step.py tests/capture/test_tool.py \
  tests/dialects tests/encoding tests/otlp tests/test_contributing.py tests/test_layers.py tests/test_security_docs.py
units: $(STAMP)
	$(BIN)/python -m pytest -q -n auto $(CHECKED)

check: $(STAMP)
	$(MAKE) --jobs=2 --output-sync=target lint types units

full: $(STAMP)
	$(BIN)/python -m pytest -n auto -m full_size

faults: $(STAMP)
	$(BIN)/python -m pytest -n 2 tests/faults

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/prose.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/pyright

interop: $(STAMP)
	bash scripts/interop.sh

# The lower bounds of pyproject.toml on Python 3.11; the newest Python of this machine.
lowest newest: $(STAMP)
	$(BIN)/python scripts/versions.py $@

bench: $(STAMP)
	$(BIN)/python -m benchmarks

bench-check: $(STAMP)
	$(BIN)/python -m benchmarks.check

# Beside other recorders, each installed into .venv-peers the first time; what was interrupted goes on.
# PEERS=langfuse,logfire takes only these, SIZE=quick a few minutes.
SIZE   ?= full
comma  := ,
bench-peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers $(subst $(comma), ,$(PEERS)) --size $(SIZE)

clean:
	rm -rf $(VENV) .venv-* .pytest_cache .ruff_cache .hypothesis
