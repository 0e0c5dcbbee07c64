"""The command line: every command reads one TOML config and calls one stage of the pipeline.

Exit codes: 0 done, 1 a fault of ours, 2 bad input (one message, no traceback), 130 interrupted.
"""

# ruff: noqa: ARG001  # --debug is an option of every command, and `main` reads it

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stgraph.cli_benchmark import benchmark
from stgraph.cli_db import db, qgis
from stgraph.cli_graph import graph as graph_commands
from stgraph.cli_scenario import scenario as scenario_commands
from stgraph.errors import OutputError, STGraphError

if TYPE_CHECKING:  # the commands import what they need, so that `stgraph --help` is quick
    from stgraph.config import JobConfig
    from stgraph.evaluation import Evaluation
    from stgraph.kriging.holdout import Holdout
    from stgraph.pipeline import JobResult

app = typer.Typer(
    name="stgraph",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Forecasts on road, station and grid graphs that open coloured in QGIS.",
    epilog="One job is one TOML file: `stgraph init job.toml` writes one, `stgraph run job.toml` "
    "does all of it.",
)

app.add_typer(db, name="db")
app.add_typer(qgis, name="qgis")
app.add_typer(graph_commands, name="graph")
app.add_typer(scenario_commands, name="scenario")
app.command()(benchmark)

Config = Annotated[Path, typer.Argument(help="TOML file of the job", show_default=True)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Use this value instead; repeatable."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Use this model instead of the file's."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")]
Debug = Annotated[bool, typer.Option("--debug", help="More messages, and tracebacks.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a training that was killed.")]
DEFAULT = Path("stgraph.toml")
_FINDINGS_SHOWN = (["graph", "info"], ["scenario", "check"])  # as a table, not as messages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from stgraph.terminal import logging_to_stderr

    # measured: on a machine that others use too, spinning threads slow training down 5 to 25 times
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    # usage errors derive from this in click and in the copy of click that new typers bring
    usage_error: Any = typer.BadParameter.__mro__[2]
    try:
        with logging_to_stderr(level=_log_level(arguments)):
            code = app(arguments, prog_name="stgraph", standalone_mode=False)
        if code == 130:  # newer typers catch the interrupt themselves
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        trains = {"fit", "run"} & set(arguments[:1])
        return _fail("interrupted" + "; `--resume` goes on with the training" * bool(trains), 130)
    except STGraphError as error:
        return _fail(str(error), 2, debug=debug)
    except BrokenPipeError:  # the reader of our stdout has gone, as in `stgraph info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # the last handler: a fault of ours
        if isinstance(error, usage_error):
            # empty after the help that `stgraph` alone shows
            message = error.format_message().strip().removesuffix(".")
            command = error.ctx.command_path if error.ctx else "stgraph"
            return _fail(f"{message}; see: {command} --help", 2) if message else 2
        return _fail_inside(error, debug=debug)


def _show_version(asked: bool) -> None:
    """Print the version and end, if it was asked for."""
    if asked:
        from importlib.metadata import version

        from stgraph.terminal import print_line

        print_line(f"stgraph-gis {version('stgraph-gis')}")
        raise typer.Exit


@app.callback()
def _options_before_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options that no command has."""


@app.command()
def init(
    path: Config = DEFAULT,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented config to start from."""
    from stgraph.results import write_text
    from stgraph.terminal import print_line

    if path.exists() and (not force or path.is_dir()):
        raise OutputError(f"{path} is already there; choose another name, or replace it: --force")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    write_text(path, (Path(__file__).parent / "template.toml").read_text(encoding="utf-8"))
    print_line(f"wrote {path}; edit it, then: stgraph check {path}")


@app.command()
def check(
    config: Config = DEFAULT,
    changes: Set = None,
    model: Model = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check config and data, and say what a run would need; trains nothing."""
    from stgraph import pipeline, preflight, terminal
    from stgraph.report import Report
    from stgraph.segments import load_segments

    job = _read(config, changes, model=model)
    graph = pipeline.load_graph(job)
    segments = load_segments(job, graph)
    split = preflight.check_job(job, graph, segments=segments)
    if split.test:  # what is only fitted may come to know its future later
        preflight.check_known_future(job, graph)
    sizes = preflight.job_sizes(job, graph, split, segments=segments)
    report = Report([*graph.report, *(segments.findings() if segments else ())])
    if json:
        findings = report.to_frame().to_dict(orient="records")
        terminal.print_json({"sizes": sizes, "findings": findings})
        return
    terminal.print_findings(report, title=f"What was found in the data of {config}")
    terminal.print_pairs(sizes, title="What a run would work on")
    command = "run" if split.test else "fit"  # what is not tested cannot be measured
    words = ["stgraph", command, str(config), *(["--model", model] if model else [])]
    words += [word for change in changes or () for word in ("--set", change)]
    terminal.print_line(f"{config} is ready: {shlex.join(words)}")


@app.command()
def fit(
    config: Config = DEFAULT,
    changes: Set = None,
    model: Model = None,
    resume: Resume = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the model and save it as a checkpoint in the run folder."""
    from stgraph import pipeline, terminal

    job = _read(config, changes, model=model, quiet=quiet)
    graph = pipeline.load_graph(job)
    forecaster = pipeline.fit_job(job, graph, resume=resume)
    terminal.print_tried(forecaster.model, forecaster.notes.get("tried", ()))
    terminal.print_line(str(job.run.folder / "checkpoint"))


@app.command()
def evaluate(
    config: Config = DEFAULT,
    changes: Set = None,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure the saved model and the baselines on the test windows."""
    from stgraph import pipeline

    job = _read(config, changes, model=model, quiet=quiet)
    forecaster = pipeline.load_checkpoint(job)
    graph = pipeline.load_graph(job)
    evaluation = pipeline.evaluate_job(job, graph, forecaster)
    _show_evaluation(job, evaluation, pipeline.holdout_job(job, graph, forecaster), json=json)


@app.command()
def forecast(
    config: Config = DEFAULT,
    changes: Set = None,
    model: Model = None,
    at: Annotated[
        str | None, typer.Option(help="Last instant known, as in 2024-05-01T08:00; local time.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Forecast with the saved model and write the outputs."""
    from stgraph import pipeline

    changes = [*(changes or []), *([] if at is None else [f"forecast.at={at}"])]
    job = _read(config, changes, model=model, quiet=quiet)
    forecaster = pipeline.load_checkpoint(job)
    graph = pipeline.load_graph(job)
    _show_outputs(pipeline.forecast_job(job, graph, forecaster)[1], json=json)


@app.command()
def run(
    config: Config = DEFAULT,
    changes: Set = None,
    model: Model = None,
    resume: Resume = False,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Do all of it: read, train, evaluate, forecast, write."""
    job = _read(config, changes, model=model, quiet=quiet)
    _run(job, resume=resume, json=json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    changes: Set = None,
    json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Forecast a day of pedestrian counts in Auckland, then close a bridge in a simulated city."""
    from stgraph import pipeline, terminal
    from stgraph.demonstration import run_scenario_demo
    from stgraph.scenario.report_page import headline

    changes = [f"run.folder={str(out.resolve())!r}", *(changes or [])]
    job = _read(Path(__file__).parent / "demo.toml", changes, quiet=quiet)
    result = pipeline.run(job)
    if not json:
        _show_run(job, result)
    done = run_scenario_demo(out)
    if json:
        outputs = [str(output) for output in (*result.outputs, *done.outputs)]
        scenario = {"headline": headline(done.result), "method": done.result.method}
        terminal.print_json({**_as_json(job, result), "outputs": outputs, "scenario": scenario})
        return
    terminal.print_line(headline(done.result))
    _show_outputs(done.outputs, json=False)


@app.command()
def info(
    path: Annotated[
        Path | None, typer.Argument(help="Config or checkpoint to describe; none: this program.")
    ] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show versions, device and registered names, or what a config or checkpoint holds."""
    from stgraph import information, terminal

    facts = information.describe(path)
    if json:
        terminal.print_json(facts)
    else:
        terminal.print_pairs(facts)


def _log_level(arguments: Sequence[str]) -> int:
    """Return which messages a command shows; some have their warnings in a table."""
    if "--debug" in arguments:
        return logging.DEBUG
    if "check" in arguments[:1] or list(arguments[:2]) in _FINDINGS_SHOWN:
        return logging.ERROR
    return logging.WARNING if {"--quiet", "-q"} & set(arguments) else logging.INFO


def _read(
    path: Path, changes: list[str] | None, *, model: str | None = None, quiet: bool = True
) -> JobConfig:
    """Return the checked config; a bar shows the progress of training unless all is quiet."""
    from stgraph.configfile import read_config

    job = read_config(path, overrides=changes or (), model=model)
    train = job.train.model_copy(update={"progress": job.train.progress or not quiet})
    return job.model_copy(update={"train": train})


def _run(job: JobConfig, *, resume: bool, json: bool) -> None:
    """Run a whole job and show its results."""
    from stgraph import pipeline, terminal

    result = pipeline.run(job, resume=resume)
    if json:
        terminal.print_json(_as_json(job, result))
        return
    _show_run(job, result)


def _as_json(job: JobConfig, result: JobResult) -> dict[str, Any]:
    """Return the results of a job as JSON has them."""
    from stgraph import results

    skill = results.summarise(job, result.evaluation)
    outputs = [str(output) for output in result.outputs]
    verdict = result.evaluation.verdict()
    shown = {"skill": skill, "verdict": verdict, "outputs": outputs}
    shown |= {"tried": tried} if (tried := result.forecaster.notes.get("tried")) else {}
    return {**shown, **results.describe_holdout(result.holdout)}


def _show_run(job: JobConfig, result: JobResult) -> None:
    """Print the results of a job."""
    from stgraph import terminal

    terminal.print_tried(result.forecaster.model, result.forecaster.notes.get("tried", ()))
    _show_evaluation(job, result.evaluation, result.holdout, json=False)
    _show_outputs(result.outputs, json=False)


def _show_evaluation(
    job: JobConfig, evaluation: Evaluation, holdout: Holdout | None, *, json: bool
) -> None:
    """Print the skill table, the model's rows in bold, and the verdict; then the hold-out."""
    from stgraph import results, terminal

    if json:
        skill = results.summarise(job, evaluation)
        shown = {"skill": skill, "verdict": evaluation.verdict()}
        terminal.print_json({**shown, **results.describe_holdout(holdout)})
        return
    table = results.skill_table(job, evaluation)
    first, last = (f"{instant:%Y-%m-%d}" for instant in evaluation.span)
    title = f"{evaluation.target} on {evaluation.n_windows} test windows, {first} to {last}"
    terminal.print_table(table, title=title, bold=table["model"] == evaluation.model)
    terminal.print_line(evaluation.verdict())
    if holdout is not None:
        table = results.holdout_table(holdout)
        title = f"{evaluation.target} where there is no sensor: at hidden stations"
        terminal.print_table(table, title=title, bold=table["method"] == holdout.kept)
        terminal.print_line(holdout.verdict())


def _show_outputs(outputs: Sequence[Path | str], *, json: bool) -> None:
    """Print the files that were written, and in words the databases."""
    from stgraph import terminal

    if json:
        terminal.print_json({"outputs": [str(output) for output in outputs]})
        return
    for output in outputs:
        terminal.print_line(os.path.relpath(output) if isinstance(output, Path) else output)


def _fail(message: str, code: int, *, debug: bool = False) -> int:
    """Print what went wrong on stderr and return the exit code."""
    from stgraph.terminal import print_error

    if debug:
        sys.stderr.write(traceback.format_exc())
    print_error(message)
    return code


def _fail_inside(error: Exception, *, debug: bool) -> int:
    """Say that it was not the user, and where the traceback is."""
    if debug:
        return _fail(f"internal error: {type(error).__name__}: {error}", 1, debug=True)
    with tempfile.NamedTemporaryFile(
        "w", prefix="stgraph-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(traceback.format_exc())
    return _fail(
        f"internal error: {type(error).__name__}: {error}\n"
        f"this is a fault of stgraph, not of your input; the traceback is in {file.name}",
        1,
    )


if __name__ == "__main__":
    sys.exit(main())
