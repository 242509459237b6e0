# Every target sets up what it needs; a machine with python3, git and make is enough.
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
BENCHES := $(subst _,-,$(patsubst bench/%.py,bench-%,$(filter-out bench/_%.py,$(wildcard bench/*.py))))

# Hundreds of processes start in the tests: what each imports is compiled once, whoever's shell would have it otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check lock docs contracts console bench clean $(BENCHES)

help:
	@echo "make demo    a whole network on this machine, doing real work (make demo ARGS=--once to end by itself)"
	@echo "make test    all tests, after installing what they need"
	@echo "make check   lint, types, architecture, golden bytes: seconds"
	@echo "make bench   all benchmarks; one of them: $(BENCHES)"
	@echo "make clean   remove what was built and installed here"

.venv/run.stamp: requirements.lock pyproject.toml tools/setup.sh
	tools/setup.sh run

.venv/dev.stamp: requirements-dev.lock pyproject.toml tools/setup.sh
	tools/setup.sh dev

demo: .venv/run.stamp
	$(BIN)/python examples/demo/demo.py $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -q -p no:randomly tests/unit/test_golden.py tests/unit/test_policies.py tests/unit/test_docs.py $(ARGS)

test: .venv/dev.stamp
	$(BIN)/pytest -n 3 --dist loadscope $(ARGS)

lock:
	tools/lock.sh

docs: .venv/dev.stamp
	$(BIN)/python tools/write_docs.py

# By io_uring npm's files may be open for writing for a moment after its end: then the programs among them do not start.
# Several may want it at once: one installs, and the others wait until that is whole.
contracts/node_modules/.stamp web/node_modules/.stamp: %/node_modules/.stamp: %/package-lock.json
	cd $* && flock package-lock.json sh -c 'test node_modules/.stamp -nt package-lock.json || \
		{ UV_USE_IO_URING=0 npm ci --silent --ignore-scripts && touch node_modules/.stamp; }'

contracts: .venv/dev.stamp
	$(BIN)/python tools/write_contracts.py

console: .venv/dev.stamp
	$(BIN)/python tools/write_console.py

bench: $(BENCHES)

$(BENCHES): bench-%: .venv/dev.stamp
	$(BIN)/python bench/$(subst -,_,$*).py $(ARGS)

clean:
	rm -rf .venv build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		contracts/node_modules web/node_modules contracts/out contracts/cache contracts/snapshots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
