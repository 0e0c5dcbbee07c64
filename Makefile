PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# threads that wait must not spin: on a shared machine that costs most of the time
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint bench docs images clean format constraints

# one stamp file per set of packages: a second call reuses what is there
$(VENV)/.demo: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torch-geometric-temporal
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/stgraph demo --out demo

# one file at a time on each of a few processes, each with one thread
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	@for file in $(wildcard tests/benchmarks/[a-z]*.py); do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# the pictures of the README and the docs, from the demo; those of QGIS where QGIS and PostGIS are
images: demo
	cp demo/map.png demo/forecast.gif docs/images/
	@if command -v qgis >/dev/null && command -v xvfb-run >/dev/null; then \
		STGRAPH_GPKG=demo/forecast.gpkg STGRAPH_PNG=docs/images/qgis.png \
		xvfb-run -a -s "-screen 0 1440x900x24" qgis --nologo --noversioncheck \
		--profiles-path demo/.qgis --code docs/images/qgis_window.py; \
		STGRAPH_GPKG=demo/scenario.gpkg STGRAPH_PNG=docs/images/qgis-scenario.png \
		STGRAPH_LAYERS=scenario_link_peak,scenario_edit \
		xvfb-run -a -s "-screen 0 1440x900x24" qgis --nologo --noversioncheck \
		--profiles-path demo/.qgis --code docs/images/qgis_window.py; \
		$(BIN)/python docs/images/qgis_postgis.py docs/images/qgis-postgis.png; \
	else echo "the pictures of QGIS are left as they are: they need qgis and xvfb-run"; fi

constraints: $(VENV)/.dev
	$(BIN)/python .ci/constraints.py

clean:
	rm -rf $(VENV) demo build dist site .mypy_cache .pytest_cache .ruff_cache
