# The two commands of the README: `make film` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRA  ?= cpu
TOPIC  ?= The pirate's day
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export YOLO_OFFLINE := true
# Files with tests so marked: collecting the others too takes half a minute of imports.
marked = $$(grep -rl --include='test_*.py' 'mark\.$(1)\b' tests)

.PHONY: film test long soak setup lint types contracts pytest clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.8"
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[$(EXTRA),dev]'
	@touch $@

film: setup
	$(BIN)/dreamrunner film "$(TOPIC)" --output film.mp4

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

pytest: setup
	$(BIN)/python -m pytest -m "not (slow or long or soak)" -n 2 --dist loadfile --durations=10
	$(BIN)/python -m pytest -m "slow and not (alone or long or soak)" -n 2 --dist loadfile --durations=15 $(call marked,slow)
	$(BIN)/python -m pytest -m "slow and alone and not (long or soak)" --durations=5 $(call marked,alone)

test: lint types contracts pytest

long: setup
	$(BIN)/python -m pytest -m long --durations=5 $(call marked,long)

soak: setup
	$(BIN)/python -m pytest -m soak $(call marked,soak)

clean:
	rm -rf $(VENV) .dreamrunner film.mp4 film.png
