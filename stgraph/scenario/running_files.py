"""Run the scenarios of a file, several at a time, and write what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stgraph import registry
from stgraph.errors import ConfigError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.fitting import City, Say, fit_city
from stgraph.scenario.opening import ForecastJob, Opener
from stgraph.scenario.report_page import write_report
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.running import may_learn, run
from stgraph.scenario.script import Scenario
from stgraph.scenario.scriptfile import pick_scenarios, read_scenarios
from stgraph.scenario.tables import tables


@dataclass(frozen=True, eq=False)
class Run:
    """A scenario that was run, and the files that were written."""

    result: ScenarioResult
    outputs: tuple[Path, ...] = ()


def run_file(
    path: str | Path,
    *,
    out: Path | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    force: bool = False,
    allow_disconnect: bool = False,
    forecast_job: ForecastJob | None = None,
    on_progress: Say = lambda _: None,
) -> tuple[Run, ...]:
    """Run the scenarios of a file and write what it asks for.

    Parameters
    ----------
    path
        TOML or YAML.
    out
        Write this file, .gpkg or .html, in place of those that the scenarios name.
    only
        Names of scenarios; None: all.
    jobs
        Scenarios to run at the same time, each in a process of its own.
    force, allow_disconnect
        As for `run`.
    forecast_job
        Makes the forecast of a job's checkpoint.
    on_progress
        Is told what is being done.

    Returns
    -------
    tuple of Run
        In the order of the file.
    """
    scenarios = pick_scenarios(read_scenarios(path, needs=["roads"]), list(only or ()) or None)
    opener, tasks = Opener(forecast_job), []
    cities: list[tuple[Any, City]] = []
    for one in scenarios:
        report = Report()
        inputs = opener.open(one, report)
        report.raise_errors(ConfigError, title=f"scenario {one.name!r} cannot be run")
        key = (one.baseline.roads, one.baseline.history, one.demand, one.seed, may_learn(one))
        city = next((known for other, known in cities if other == key), None)
        if city is None:
            city = fit_city(
                inputs.roads,
                history=inputs.history,
                demand=inputs.demand,
                learn=may_learn(one),
                seed=one.seed,
                say=on_progress,
            )
            cities.append((key, city))
        tasks.append(
            _Task(one, city, inputs.roads, inputs.forecast, inputs.demand, force, allow_disconnect)
        )
    runs: list[Run] = []
    for result in _run_all(tasks, jobs, on_progress):
        scenario = tasks[len(runs)].scenario
        runs.append(Run(result, _write(scenario, result, out)))
    return _write_together(scenarios, runs, out)


@dataclass(frozen=True, eq=False)
class _Task:
    """One scenario with all it needs."""

    scenario: Scenario
    city: City
    roads: STGraph
    forecast: STGraph | None
    demand: Demand | None
    force: bool
    allow_disconnect: bool


def _run_task(task: _Task, say: Say = lambda _: None) -> ScenarioResult:
    """Return the result of one scenario."""
    return run(
        task.scenario,
        task.roads,
        task.forecast,
        demand=task.demand,
        city=task.city,
        force=task.force,
        allow_disconnect=task.allow_disconnect,
        say=lambda text: say(f"{task.scenario.name}: {text}"),
    )


def _run_all(tasks: list[_Task], jobs: int, say: Say) -> Any:
    """Yield results in the order of the tasks."""
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield _run_task(task, say)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        for task, result in zip(tasks, pool.map(_run_task, tasks), strict=True):
            say(f"{task.scenario.name}: done")
            yield result


def _write(scenario: Scenario, result: ScenarioResult, out: Path | None) -> tuple[Path, ...]:
    """Write the layers of one run; return the files."""
    wanted, written = scenario.outputs, []
    package = out if out is not None and out.suffix == ".gpkg" else None
    if out is None:
        package = wanted.geopackage
    if package is not None:
        write = registry.load("scenario_sinks", "geopackage")
        written.append(Path(write(tables(result), package)))
    if out is None and wanted.dsn is not None:
        publish = registry.load("scenario_sinks", "postgis")
        publish(tables(result), wanted.dsn.get_secret_value(), schema=wanted.schema_)
    return tuple(written)


def _write_together(
    scenarios: Sequence[Scenario], runs: list[Run], out: Path | None
) -> tuple[Run, ...]:
    """Write the pages, one for all scenarios that name the same; return all runs."""
    pages: dict[Path, list[int]] = {}
    for i, one in enumerate(scenarios):
        page = out if out is not None and out.suffix != ".gpkg" else None
        page = one.outputs.report if out is None else page
        if page is not None:
            pages.setdefault(page, []).append(i)
    for page, members in pages.items():
        write_report([runs[i].result for i in members], page)
        for i in members:
            runs[i] = replace(runs[i], outputs=(*runs[i].outputs, page))
    return tuple(runs)
