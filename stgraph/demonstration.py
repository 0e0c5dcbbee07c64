"""The second half of the demo: a scenario on a small simulated city, which comes with the package.

The city, its forecast job and the scenario are those of `examples/scenarios`, where a checkout has
them; a wheel has them in `demo_city` beside this file.
"""

from __future__ import annotations

import logging
from pathlib import Path

from stgraph import pipeline
from stgraph.configfile import read_config
from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph.scenario.running_files import Run, run_scenarios
from stgraph.scenario.scriptfile import read_scenarios
from stgraph.scenario.sources import Horizon, Outputs

logger = logging.getLogger(__name__)

SIMULATED = "a small invented city with simulated traffic: nothing in it is real"


def city_folder() -> Path:
    """Return the folder with the simulated city.

    Raises
    ------
    InputError
        It is not there.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "demo_city", here.parent / "examples" / "scenarios"):
        if (folder / "city.toml").is_file():
            return folder
    raise InputError(f"the simulated city of the demo is not in {here}; install stgraph-gis again")


def run_scenario_demo(out: Path, *, horizon: Horizon | None = None) -> Run:
    """Forecast the simulated city, close its busiest bridge, and write what that does.

    Parameters
    ----------
    out
        Existing folder; gets `scenario.gpkg`, `scenario.html` and the city's job in `city/`.
    horizon
        From when to when; None: the day of the example.

    Returns
    -------
    Run
        The result, and both files.
    """
    folder = city_folder()
    (scenario,) = read_scenarios(folder / "bridge-closure.toml")
    wanted = Outputs(geopackage=out / "scenario.gpkg", report=out / "scenario.html")
    changes: dict[str, object] = {"outputs": wanted, "description": SIMULATED}
    changes["name"] = f"{scenario.name} (simulated city)"  # on the page and in the layers
    if horizon is not None:
        changes["horizon"] = horizon
    logger.info("a scenario on %s", SIMULATED)
    (out / "scenario.gpkg").unlink(missing_ok=True)  # else runs gather in it
    (run,) = run_scenarios(
        [scenario.model_copy(update=changes)],
        forecast_job=lambda path, _=None: _forecast(path, out / "city"),
        on_progress=lambda text: logger.info("%s", text),
    )
    return run


def _forecast(path: Path, folder: Path) -> STGraph:
    """Return the forecast of a job that is fitted here; nothing is measured."""
    job = read_config(path, overrides=[f"run.folder={str(folder.resolve())!r}"])
    graph = pipeline.load_graph(job)
    forecaster = pipeline.fit_job(job, graph)
    return pipeline.forecast_job(job, graph, forecaster)[0]
