# Needs Python 3.11+, a C++ compiler and make. Everything else comes from pip, into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Compiled simulations are kept here between runs.
export TERNGEN_CACHE_DIR ?= $(HOME)/.cache/terngen

.PHONY: demo demo-lmul serve bitstream docs tour docs-commands test test-long test-train formal coverage mutants lint bench \
	boards fuzz soak clean compiler

demo: $(VENV)/.base compiler
	$(BIN)/terngen demo

# The same with a model that was trained for L-Mul, on a machine without a multiplier.
demo-lmul: $(VENV)/.base compiler
	$(BIN)/terngen demo --model models/fairy-5m-lmul --multiplier lmul --tokens 60

# OpenAI's interface and a page that shows the machine, at http://127.0.0.1:8080.
MODEL  ?= models/fairy-1m
DEVICE ?= sim
serve: $(VENV)/.serve compiler
	$(BIN)/terngen serve $(MODEL) --device $(DEVICE)

# A bitstream with tools from pip, its tape and a report, in build/BOARD.
BOARD ?= ulx3s-85f:sdram
bitstream: $(VENV)/.synth
	$(BIN)/terngen build $(MODEL) --board $(BOARD)

# The site of the documentation, in build/site. Its notebook is run by `make tour`.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -q docs build/site

tour: $(VENV)/.dev
	$(BIN)/python -m jupyter execute --inplace docs/tour.ipynb

# Every command of the documentation that a machine without a board can run; about an hour.
docs-commands: $(VENV)/.dev compiler
	$(BIN)/pytest -m long tests/docs

# Every figure of docs/performance.md, then its tables and plots; about forty minutes.
bench: $(VENV)/.dev compiler
	$(BIN)/python -m terngen.sim.performance
	$(BIN)/python -m terngen.sim.plots

# Hours of inputs that nobody has seen, for each parser, less those that docs/fuzz.json has; findings are left in files.
FUZZ_RUNS ?= 10000000
fuzz: $(VENV)/.dev
	$(BIN)/python -m terngen.sim.fuzz.record --runs $(FUZZ_RUNS)

# A million frames and a hundred thousand tokens through lines with faults.
soak: $(VENV)/.dev compiler
	$(BIN)/python -m terngen.sim.soak frames tests/data/reference/tiny --frames 250000 --rate 1e-3 --rate 1e-4 \
	    --rate 1e-5 --rate 1e-6
	$(BIN)/python -m terngen.sim.soak tokens tests/data/reference/tiny --tokens 100000 --rate 1e-4 --store docs/soak.json

# Bitstreams of all boards that open tools build; some ten minutes each.
boards: $(VENV)/.dev
	$(BIN)/python -m terngen.sim.boards

# Tests of a file stay together, because they share what was compiled. With WORKERS=0 there is one process.
WORKERS ?= 2
test: $(VENV)/.dev compiler iverilog chromium
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

# Proofs alone, which are tests as well.
formal: $(VENV)/.dev
	$(BIN)/pytest tests/formal

# What of the gateware nobody has tried, in some ten minutes, and which defects nobody notices, in twenty.
coverage: $(VENV)/.dev compiler
	$(BIN)/python -m terngen.sim.coverage --store docs/coverage.json

mutants: $(VENV)/.dev compiler
	$(BIN)/python -m terngen.sim.mutants tests/data/reference/tiny --count 300 --seed 1 --store docs/mutants.json
	$(BIN)/python -m terngen.sim.mutants tests/data/reference/tiny --count 100 --seed 3 --store docs/mutants-3.json
	$(BIN)/python -m terngen.sim.mutants tests/data/reference/tiny --count 100 --seed 4 --store docs/mutants-4.json

test-long: $(VENV)/.dev compiler iverilog chromium
	$(BIN)/pytest -m long

test-train: $(VENV)/.dev
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev,train]'
	$(BIN)/pytest -m train

lint: $(VENV)/.dev .typing/terngen
	$(BIN)/ruff check hw sim host constraints tests docs
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .typing build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis out
	find hw sim host constraints tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The folders under their import names, for mypy, which does not see an editable install. Made each
# time, because an empty or half-made tree would count as made.
.PHONY: .typing/terngen
.typing/terngen:
	@mkdir -p $@
	@for part in hw sim host constraints; do ln -sfn ../../$$part $@/$$part; done

# A stamp for each extra, so that the demo does not wait for the tools of the tests.
$(VENV)/.base: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -qq --disable-pip-version-check -e .
	@touch $@

$(VENV)/.serve $(VENV)/.synth: $(VENV)/.%: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[$*]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.base

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python must be at least 3.11, not $$($(PYTHON) -V 2>&1); set PYTHON=python3.11 or newer" >&2; exit 1; }
	@echo "Creating $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m virtualenv --quiet $(VENV) || \
	    { rm -rf $(VENV); echo "Python cannot create a virtual environment here; install its venv module" \
	      "(Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }

compiler:
	@command -v $${CXX:-g++} >/dev/null || \
	    { echo "No C++ compiler found; install one (Debian and Ubuntu: apt-get install g++) or set CXX" >&2; exit 1; }

# Icarus starts faster than Verilator; the benches run on either, so failure to install it is no error.
.PHONY: iverilog
iverilog:
	@command -v iverilog >/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Installing Icarus Verilog" >&2; \
	        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y -qq iverilog; } \
	            >/dev/null 2>&1 </dev/null; \
	    fi; \
	    command -v iverilog >/dev/null || echo "No Icarus Verilog here; cocotb benches run on Verilator" >&2; }

# The page of the server is tested in it; without it those tests are skipped, so failure to install it is no error.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Installing Chromium" >&2; \
	        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y -qq \
	            --no-install-recommends chromium; } >/dev/null 2>&1 </dev/null; \
	    fi; \
	    command -v chromium >/dev/null || echo "No Chromium here; the page of the server is not tested" >&2; }
