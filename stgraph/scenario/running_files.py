"""Run the scenarios of a file, several at a time, and write what it asks for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stgraph import registry
from stgraph.errors import ConfigError
from stgraph.graph import STGraph
from stgraph.report import Finding, Report
from stgraph.scenario.checking import check
from stgraph.scenario.demand import Demand
from stgraph.scenario.fitting import City, Say, fit_city
from stgraph.scenario.opening import ForecastJob, Inputs, Opener
from stgraph.scenario.report_page import write_report
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.running import may_learn, run
from stgraph.scenario.script import Scenario
from stgraph.scenario.scriptfile import pick_scenarios, read_scenarios
from stgraph.scenario.states import Edited
from stgraph.scenario.tables import tables
from stgraph.scenario.traffic import find_speed
from stgraph.scenario.weather import note_no_model


@dataclass(frozen=True, eq=False)
class Run:
    """A scenario that was run, and the files that were written."""

    result: ScenarioResult
    outputs: tuple[Path, ...] = ()


def run_file(
    path: str | Path,
    *,
    out: str | Path | None = None,
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
    jobs, force, allow_disconnect, forecast_job, on_progress
        As for `run_scenarios`.

    Returns
    -------
    tuple of Run
        In the order of the file.

    Raises
    ------
    ConfigError, DataError
        As of `run_scenarios`.
    """
    scenarios = pick_scenarios(read_scenarios(path, needs=["roads"]), list(only or ()) or None)
    return run_scenarios(
        scenarios,
        out=out,
        jobs=jobs,
        force=force,
        allow_disconnect=allow_disconnect,
        forecast_job=forecast_job,
        on_progress=on_progress,
    )


def run_scenarios(
    scenarios: Sequence[Scenario],
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    force: bool = False,
    allow_disconnect: bool = False,
    forecast_job: ForecastJob | None = None,
    on_progress: Say = lambda _: None,
) -> tuple[Run, ...]:
    """Run scenarios that name what they begin with, and write what they ask for.

    Parameters
    ----------
    scenarios
        As `stgraph.scenario.scriptfile.read_scenarios` reads them.
    out
        Write this file, .gpkg or .html, in place of those that the scenarios name.
    jobs
        Scenarios to run at the same time, each in a process of its own; of a single one, hours of a
        large network.
    force, allow_disconnect
        As for `stgraph.scenario.running.run`.
    forecast_job
        Makes the forecast of a job's checkpoint.
    on_progress
        Is told what is being done.

    Returns
    -------
    tuple of Run
        In the order of the scenarios.

    Raises
    ------
    ConfigError
        Lists everything that is wrong with any of the scenarios; nothing was computed.
    DataError
        Something that they name cannot be read or used.

    Notes
    -----
    Nothing is written before all have been run. Scripts that call this with several `jobs` need
    ``if __name__ == "__main__":``, as new processes import them.
    """
    opener = Opener(forecast_job)
    checked = check_scenarios(scenarios, opener, force=force, allow_disconnect=allow_disconnect)
    inputs = [one.inputs for one in checked]
    weather = [opener.with_weather(one) for one in scenarios]
    opener.forget_jobs()  # whose readings may be years long, before what takes minutes
    cities = _fit_all(scenarios, inputs, on_progress)
    tasks = [
        _Task(one, city, given.roads, given.forecast, told, given.demand, force, allow_disconnect)
        for one, city, given, told in zip(scenarios, cities, inputs, weather, strict=True)
    ]
    results = list(_run_all(tasks, jobs, on_progress))
    target = None if out is None else Path(out)
    runs = [
        Run(result, _write(scenario, result, target))
        for scenario, result in zip(scenarios, results, strict=True)
    ]
    return _write_together(scenarios, runs, target)


@dataclass(frozen=True, eq=False)
class Checked:
    """A scenario without errors, with what it names and what it would change."""

    scenario: Scenario
    inputs: Inputs
    edited: Edited
    report: Report


def check_scenarios(
    scenarios: Sequence[Scenario],
    opener: Opener,
    *,
    force: bool,
    allow_disconnect: bool,
    only_check: bool = False,
) -> list[Checked]:
    """Open and check scenarios, or raise with all that is wrong with any of them.

    Parameters
    ----------
    scenarios
        Any.
    opener
        Reads what they name.
    force, allow_disconnect
        As for `stgraph.scenario.checking.check`.
    only_check
        Leave out what a run alone needs.

    Raises
    ------
    ConfigError
        Lists everything, by scenario.
    """
    checked, wrong = [], Report()
    for one in scenarios:
        found = Report()
        if one.baseline.job is None:
            note_no_model(one, found)
        given = opener.open(one, found, only_check=only_check)
        edited = None
        if len(given.time):
            edited, more = check(
                one,
                given.roads,
                time=given.time,
                demand=given.demand,
                forecast=given.forecast,
                force=force,
                allow_disconnect=allow_disconnect,
            )
            found.extend(more)
        if given.forecast is not None and find_speed(given.forecast) is None:
            todo = 'give it with units, as in units = {speed = "km/h"}'
            found.error("`baseline.forecast`", "has no speeds in a known unit", todo)
        if edited is not None and not found.errors:
            checked.append(Checked(one, given, edited, found))
        wrong.extend(
            Finding("error", f"{one.name!r}, {error.where}", error.what, error.todo, error.count)
            for error in found.errors
        )
    wrong.raise_errors(ConfigError, title="these scenarios cannot be run")
    return checked


def _fit_all(scenarios: Sequence[Scenario], inputs: Sequence[Inputs], say: Say) -> list[City]:
    """Return the city of every scenario, fitted once for those that rest on the same."""
    known: list[tuple[Any, City]] = []
    cities = []
    for one, given in zip(scenarios, inputs, strict=True):
        key = (one.baseline.roads, one.baseline.history, one.demand, one.seed, may_learn(one))
        city = next((fitted for other, fitted in known if other == key), None)
        if city is None:
            city = fit_city(
                given.roads,
                history=given.history,
                demand=given.demand,
                learn=may_learn(one),
                seed=one.seed,
                say=say,
            )
            known.append((key, city))
        cities.append(city)
    return cities


@dataclass(frozen=True, eq=False)
class _Task:
    """One scenario with all it needs."""

    scenario: Scenario
    city: City
    roads: STGraph
    forecast: STGraph | None
    with_weather: STGraph | None
    demand: Demand | None
    force: bool
    allow_disconnect: bool


def _run_task(task: _Task, say: Say = lambda _: None, n_processes: int = 1) -> ScenarioResult:
    """Return the result of one scenario."""
    return run(
        task.scenario,
        task.roads,
        task.forecast,
        with_weather=task.with_weather,
        demand=task.demand,
        city=task.city,
        force=task.force,
        allow_disconnect=task.allow_disconnect,
        n_processes=n_processes,
        say=lambda text: say(f"{task.scenario.name}: {text}"),
    )


def _run_all(tasks: Sequence[_Task], jobs: int, say: Say) -> Iterator[ScenarioResult]:
    """Yield results in the order of the tasks."""
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield _run_task(task, say, jobs)
        return
    with ProcessPoolExecutor(
        min(jobs, len(tasks)),
        mp_context=get_context("spawn"),
        # torch warns of every sparse matrix that comes to another process
        initializer=warnings.filterwarnings,
        initargs=("ignore", "Sparse"),
    ) as pool:
        for task, result in zip(tasks, pool.map(_run_task, tasks), strict=True):
            say(f"{task.scenario.name}: done")
            yield result


def _write(scenario: Scenario, result: ScenarioResult, out: Path | None) -> tuple[Path, ...]:
    """Write the layers of one run; return the files."""
    wanted, written = scenario.outputs, []
    package = out if out is not None and _is_package(out) else None
    if out is None:
        package = wanted.geopackage
    if package is not None:
        write = registry.load("scenario_sinks", "geopackage")
        written.append(Path(write(tables(result), package)))
    if out is None and wanted.dsn is not None:
        publish = registry.load("scenario_sinks", "postgis")
        publish(tables(result), wanted.dsn.get_secret_value(), schema=wanted.schema_)
    return tuple(written)


def _is_package(path: Path) -> bool:
    """Tell whether a file is for layers; else it is a page."""
    return path.suffix.lower() == ".gpkg"


def _write_together(
    scenarios: Sequence[Scenario], runs: list[Run], out: Path | None
) -> tuple[Run, ...]:
    """Write the pages, one for all scenarios that name the same; return all runs."""
    pages: dict[Path, list[int]] = {}
    for i, one in enumerate(scenarios):
        page = one.outputs.report if out is None else None if _is_package(out) else out
        if page is not None:
            pages.setdefault(page, []).append(i)
    for page, members in pages.items():
        write_report([runs[i].result for i in members], page)
        for i in members:
            runs[i] = replace(runs[i], outputs=(*runs[i].outputs, page))
    return tuple(runs)
