# Two commands for a newcomer: `make leaderboard` and `make test`. Each sets up .venv by itself, then does its job.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: leaderboard test quick check-style reference speed slow-tests clean

leaderboard: .venv/ready
	$(BIN)/condensebench run --plan results/default-plan.toml --results results/local

test: .venv/ready check-style
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

quick: .venv/ready check-style
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not trains and not slow and not gpu"

check-style: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

reference: .venv/ready
	$(BIN)/condensebench reference > docs/reference.md

slow-tests: .venv/ready
	$(BIN)/python -m pytest -m slow

speed: .venv/ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m speed

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch .venv/ready

clean:
	rm -rf .venv .condensebench results/local
