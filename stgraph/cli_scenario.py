"""`stgraph scenario`: what happens if a street is closed, from a file to maps and a page."""

# ruff: noqa: ARG001  # --debug and --quiet are options that `stgraph.cli.main` reads

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stgraph.cli_db import Dsn, Schema, need_dsn
from stgraph.cli_runs import check_runs, keep_length, read_runs, side_by_side
from stgraph.errors import ConfigError, InputError, OutputError

if TYPE_CHECKING:  # the commands import what they need, so that `stgraph --help` is quick
    import pandas as pd

    from stgraph.graph import STGraph
    from stgraph.report import Report
    from stgraph.scenario.script import Scenario
    from stgraph.scenario.states import Edited

logger = logging.getLogger(__name__)

scenario = typer.Typer(no_args_is_help=True, help="What happens if a street is closed or built.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="Scenarios, .toml or .yaml.")]
Runs = Annotated[
    Path, typer.Argument(metavar="FILE|GPKG", help="Scenarios, or a GeoPackage of their runs.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Of the file, only this one; repeatable."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Allow targets of more than a fifth of the network.")
]
Disconnect = Annotated[
    bool, typer.Option("--disconnect", help="Leave out trips that can no longer be made.")
]
Jobs = Annotated[
    int, typer.Option("--jobs", min=1, help="Scenarios to run at the same time, or hours of one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")]
Debug = Annotated[bool, typer.Option("--debug", help="More messages, and tracebacks.")]


@scenario.command("list")
def list_(runs: Runs, json: AsJson = False, debug: Debug = False) -> None:
    """List the scenarios of a file, or the runs in a GeoPackage."""
    from stgraph import terminal

    table = read_runs(runs) if _is_geopackage(runs) else _script_table(runs)
    if json:
        terminal.print_json(table.to_dict(orient="records"))
        return
    for column in {"created", "valid_from", "valid_to"} & set(table.columns):
        table[column] = table[column].str[:16].str.replace("T", " ") + "Z"
    terminal.print_table(table, title=f"{len(table)} scenario(s) in {runs}")


@scenario.command()
def check(
    file: File,
    only: Only = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for a layer of what would change, .gpkg.")
    ] = None,
    force: Force = False,
    disconnect: Disconnect = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what would change, and everything that is wrong; nothing is run."""
    from stgraph import terminal
    from stgraph.scenario.planning import plan_table

    if out is not None:
        _check_out(out, (".gpkg",))
    checked = _check_all(
        _read(file, only, needs=("roads", "demand")), force=force, disconnect=disconnect
    )
    plans = {one.name: plan_table(one, edited) for one, edited, _ in checked}
    if out is not None:
        _write_edits({one.name: edited for one, edited, _ in checked}, out)
    if json:
        shown = [
            {
                "name": one.name,
                "changes": plans[one.name].to_dict(orient="records"),
                "findings": report.to_frame().to_dict(orient="records"),
            }
            for one, _, report in checked
        ]
        terminal.print_json({"scenarios": shown, "outputs": [str(out)] if out else []})
        return
    for one, _, report in checked:
        terminal.print_table(plans[one.name], title=f"What {one.name} would change")
        if len(report):
            terminal.print_findings(report, title="What was found")
    if out is not None:
        terminal.print_line(str(out))
    baselines = [one.baseline for one, _, _ in checked]
    if any(baseline.forecast is None and baseline.job is None for baseline in baselines):
        terminal.print_line("a run also needs a forecast: give `baseline.forecast` or a `job`")
    else:
        terminal.print_line(f"{len(checked)} scenario(s) are ready: stgraph scenario run {file}")


@scenario.command()
def run(
    file: File,
    only: Only = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write this file instead, .gpkg or .html.")
    ] = None,
    jobs: Jobs = 1,
    force: Force = False,
    disconnect: Disconnect = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run scenarios and write their layers and pages."""
    from stgraph import terminal
    from stgraph.scenario.report_page import headline

    done = _run(file, only, out, jobs=jobs, force=force, disconnect=disconnect)
    if json:
        shown = [
            {
                "name": one.result.name,
                "run_id": one.result.run_id,
                "method": one.result.method,
                "headline": headline(one.result),
                "summary": _records(one.result.summary),
                "outputs": [str(output) for output in one.outputs],
            }
            for one in done
        ]
        terminal.print_json({"scenarios": shown})
        return
    for one in done:
        title = f"{one.result.name}, by {one.result.method}"
        terminal.print_table(one.result.summary, title=title)
        if len(one.result.report):
            terminal.print_findings(one.result.report, title="What was found")
        terminal.print_line(headline(one.result))
    if not any(one.outputs for one in done):
        terminal.print_line("nothing was written; name files in `outputs`, or give --out")
    for output in dict.fromkeys(str(output) for one in done for output in one.outputs):
        terminal.print_line(output)


@scenario.command()
def compare(
    runs: Runs,
    only: Only = None,
    jobs: Jobs = 1,
    force: Force = False,
    disconnect: Disconnect = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Put scenarios side by side: those of a file, which are run, or runs in a GeoPackage."""
    from stgraph import terminal

    if _is_geopackage(runs):
        table = side_by_side(runs, only)
    else:
        from stgraph.scenario.compare import compare as compare_results

        done = _run(runs, only, None, jobs=jobs, force=force, disconnect=disconnect)
        table = compare_results([one.result for one in done]).to_frame()
    if json:
        terminal.print_json(_records(table))
        return
    terminal.print_table(table, title=f"Scenarios of {runs}, and what they change")


@scenario.command()
def report(
    file: File,
    only: Only = None,
    out: Annotated[Path, typer.Option("--out", help="Page to write, .html.")] = Path(
        "scenario.html"
    ),
    jobs: Jobs = 1,
    force: Force = False,
    disconnect: Disconnect = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run scenarios and write one page about them, without layers."""
    from stgraph import terminal

    _check_out(out, (".html", ".htm"))
    done = _run(file, only, out, jobs=jobs, force=force, disconnect=disconnect)
    if json:
        terminal.print_json({"outputs": [str(out)], "scenarios": [one.result.name for one in done]})
        return
    terminal.print_line(str(out))


@scenario.command()
def remove(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="GPKG", help="Runs in a GeoPackage; else a database.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="Id of a run to remove; repeatable."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="TIME", help="Also remove older runs, as in 30d."),
    ] = None,
    dsn: Dsn = None,
    schema: Schema = "stgraph",
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove runs from a GeoPackage or a database; the shown one only if it is named."""
    from stgraph import registry, terminal

    if not run and keep is None:
        raise ConfigError("nothing is named; give --run RUN (see scenario list), or --keep 30d")
    # who has STGRAPH_DSN set may well mean a file, but not who names both
    if file is not None and _is_typed(context, "dsn"):
        raise ConfigError(f"{file} and --dsn are both named; remove from one, then from the other")
    runs, length = tuple(run or ()), None if keep is None else keep_length(keep)
    if file is not None:
        check_runs(file, runs)
        gone = registry.load("database", "remove_scenarios_from_file")(file, runs=runs, keep=length)
    else:
        take = registry.load("database", "remove_scenarios")
        gone = take(need_dsn(dsn), schema=schema, runs=runs, keep=length)
    missing = [name for name in runs if name not in gone]
    if json:
        terminal.print_json({"removed": list(gone), "missing": missing})
    else:
        for name in gone:
            terminal.print_line(f"removed {name}")
        if not gone:
            terminal.print_line("nothing was removed")
    if missing:
        raise InputError(f"there is no run {', '.join(missing)}")


def _is_typed(context: typer.Context, option: str) -> bool:
    """Tell whether an option is on the command line, and not from a variable or by default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _read(file: Path, only: list[str] | None, *, needs: Sequence[Any]) -> tuple[Scenario, ...]:
    """Return the scenarios of a file that are asked for."""
    from stgraph.scenario.scriptfile import pick_scenarios, read_scenarios

    return pick_scenarios(read_scenarios(file, needs=needs), only)


def _run(
    file: Path,
    only: list[str] | None,
    out: Path | None,
    *,
    jobs: int,
    force: bool,
    disconnect: bool,
) -> Any:
    """Return the runs of a file's scenarios."""
    if out is not None:
        _check_out(out, (".gpkg", ".html", ".htm"))
    running = importlib.import_module("stgraph.scenario.running_files")
    return running.run_file(
        file,
        out=out,
        only=only,
        jobs=jobs,
        force=force,
        allow_disconnect=disconnect,
        forecast_job=_JobForecasts(),
        on_progress=lambda text: logger.info("%s", text),
    )


def _check_all(
    scenarios: Sequence[Scenario], *, force: bool, disconnect: bool
) -> list[tuple[Scenario, Edited, Report]]:
    """Return what every scenario would change, or raise with the errors of all of them."""
    from stgraph.scenario.opening import Opener
    from stgraph.scenario.running_files import check_scenarios

    found = check_scenarios(
        scenarios,
        Opener(_JobForecasts()),
        force=force,
        allow_disconnect=disconnect,
        only_check=True,
    )
    return [(one.scenario, one.edited, one.report) for one in found]


class _JobForecasts:
    """What the checkpoints of jobs forecast: of the road segments, if a job has roads.

    Every job is read once, until it is forgotten.
    """

    def __init__(self) -> None:
        self._opened: dict[Path, tuple[Any, ...]] = {}

    def __call__(self, path: Path, weather: Scenario | None = None, /) -> STGraph:
        """Return the forecast of a job, with the weather that a scenario sets if one is given."""
        import pandas as pd

        from stgraph.scenario.weather import forecast_with_weather
        from stgraph.segments import forecast_segments

        if path not in self._opened:
            self._opened[path] = _open_job(path)
        job, forecaster, graph, segments, fitted = self._opened[path]
        at = None if job.forecast.at is None else pd.Timestamp(job.forecast.at)
        if weather is None:
            forecast = forecaster.forecast(graph, at=at)
        else:
            forecast = forecast_with_weather(forecaster, graph, weather, at=at)
        return forecast if segments is None else forecast_segments(forecast, segments, fitted)

    def forget(self) -> None:
        """Let go of the models and readings of all jobs."""
        self._opened.clear()


def _open_job(path: Path) -> tuple[Any, ...]:
    """Return a job, its model, its readings, and its roads with what carries values to them."""
    from stgraph import pipeline
    from stgraph.configfile import read_config
    from stgraph.segments import load_fitted, load_segments

    job = read_config(path)
    if not (job.run.folder / "checkpoint" / "model.json").is_file():
        raise InputError(
            f"`baseline.job`: {path} has no model in {job.run.folder} yet; train it first: "
            f"stgraph run {path}"
        )
    forecaster, graph = pipeline.load_checkpoint(job), pipeline.load_graph(job)
    segments = load_segments(job, graph)
    fitted = None if segments is None else load_fitted(job, graph, segments)
    return job, forecaster, graph, segments, fitted


def _script_table(file: Path) -> pd.DataFrame:
    """Return the scenarios of a file, a row each."""
    import pandas as pd

    from stgraph.scenario.scriptfile import read_scenarios

    rows = [
        {
            "name": one.name,
            "operations": ", ".join(operation.op for operation in one.operations),
            "method": one.method,
            "extends": one.based_on or "",
            "description": one.description,
        }
        for one in read_scenarios(file)
    ]
    return pd.DataFrame(rows)


def _write_edits(edited: dict[str, Edited], out: Path) -> None:
    """Write what scenarios would change as a layer."""
    import pandas as pd

    from stgraph.cli_graph import write_layers

    parts = [one.edits.assign(scenario=name) for name, one in edited.items()]
    write_layers({"scenario_edit": pd.concat(parts, ignore_index=True)}, out)


def _is_geopackage(path: Path) -> bool:
    """Tell whether a file holds runs, and not scripts."""
    return path.suffix.lower() == ".gpkg"


def _check_out(out: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that cannot be written, before minutes go into what is for it."""
    if out.suffix.lower() not in suffixes:
        raise InputError(f"--out {str(out)!r} does not end in {' or '.join(suffixes)}")
    if not out.parent.is_dir():
        raise OutputError(f"the folder {str(out.parent)!r} does not exist; create it first")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON has them, without NaN."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]
