"""The outputs of a job: where each sink writes to, and what it is told about the job."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from stgraph import registry
from stgraph.config import JobConfig, OutputConfig, describe_secret, dump_job
from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph.segments import Segments, observe_segments

logger = logging.getLogger(__name__)

# the readings that a sink gets with a forecast
_RECENT = pd.Timedelta(days=7)
_MAX_VALUES = 2_000_000  # fewer days where there are many nodes, but never less than a window


def write_outputs(
    config: JobConfig,
    graph: STGraph,
    forecast: STGraph,
    *,
    segments: Segments | None = None,
    of_segments: STGraph | None = None,
) -> tuple[Path | str, ...]:
    """Write a forecast to every output of a job.

    Parameters
    ----------
    config
        The job.
    graph
        The readings that the forecast was made from.
    forecast
        What is written.
    segments, of_segments
        The road segments of the job and their forecast, for outputs of segments.

    Returns
    -------
    tuple
        Per output the path of its file, or in words which database it is.

    Raises
    ------
    STGraphError
        An output cannot be written; those before it are.
    """
    for output in config.output:
        write = registry.load("sinks", output.sink)
        written, readings = forecast, graph
        if output.of == "segments" and segments is not None and of_segments is not None:
            written, readings = of_segments, observe_segments(graph, segments, of_segments)
        extra = _what_it_asks_for(write, config, readings, written, output)
        write(written, _prepare_target(output), **output.options, **extra)
        logger.info("wrote %s", describe_output(output))
    return tuple(describe_output(output) for output in config.output)


def describe_output(output: OutputConfig) -> Path | str:
    """Return the path of an output's file, or in words which database it is, without secrets."""
    target = output.target
    if isinstance(target, Path):
        return target
    schema = output.options.get("schema")
    return f"{output.sink}: {describe_secret(target)}" + (f", schema {schema!r}" if schema else "")


def recent_readings(graph: STGraph, *, until: pd.Timestamp, window: int) -> STGraph:
    """Return the readings of the last week up to an instant, less of a large network.

    Parameters
    ----------
    graph
        All readings.
    until
        Last instant.
    window
        Steps that are returned however many nodes there are.

    Returns
    -------
    STGraph
        At least `window` steps where there are as many, up to a week or 2 million values.
    """
    stop = int(graph.time.searchsorted(until, side="right"))
    week = stop - int(graph.time.searchsorted(until - _RECENT, side="right"))
    most = _MAX_VALUES // max(1, graph.n_nodes * graph.n_features)
    return graph.select_steps(max(0, stop - max(window, min(week, most))), stop)


def _prepare_target(output: OutputConfig) -> Path | str:
    """Return what a sink takes as its second argument; the folder of a file is there then."""
    target = output.target
    if not isinstance(target, Path):
        return target.get_secret_value()
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _what_it_asks_for(
    write: Callable[..., Any],
    config: JobConfig,
    graph: STGraph,
    forecast: STGraph,
    output: OutputConfig,
) -> dict[str, Any]:
    """Return what a sink wants to know about the job, by the names of its parameters."""
    asked = set(inspect.signature(write).parameters)
    extra: dict[str, Any] = {}
    of_classes = config.head.kind == "classes" and output.dsn is not None  # a database has MAE ...
    if "node_metrics" in asked and output.of == "stations" and not of_classes:
        # a database has room for every horizon
        name = "nodes.csv" if output.dsn is None else "errors.parquet"
        extra["node_metrics"] = _read_metrics(config.run.folder / name, graph)
    if "observations" in asked:
        until = pd.Timestamp(forecast.provenance["issued_at"])
        extra["observations"] = recent_readings(graph, until=until, window=config.windows.window)
    if "config" in asked:
        extra["config"] = dump_job(config)
    if "metrics" in asked:
        extra["metrics"] = _read_skill(config.run.folder / "report.json")
    if "code_version" in asked:
        extra["code_version"] = find_code_version(config.run.folder)
    return extra


def find_code_version(folder: Path) -> str | None:
    """Return the git commit that a folder is at, ``-dirty`` if files differ; None without git."""
    git = shutil.which("git")
    if git is None or not folder.is_dir():
        return None
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _read_skill(path: Path) -> dict[str, Any] | None:
    """Return verdict and skill of the last evaluation, if any."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return {name: report[name] for name in ("verdict", "skill", "test_span", "test_windows")}
    except FileNotFoundError:
        return None
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged or cannot be read; evaluate again") from error


def _read_metrics(path: Path, graph: STGraph) -> pd.DataFrame | None:
    """Return the errors per node, or per node and horizon, of the last evaluation, if any."""
    if not path.exists():
        return None
    try:
        if path.suffix == ".csv":
            metrics = pd.read_csv(path, dtype={"node": str}).set_index("node")
        else:
            metrics = pd.read_parquet(path).set_index(["node", "horizon"])
    except (KeyError, OSError, ValueError) as error:  # those of pandas and pyarrow are value errors
        raise InputError(f"{path} is damaged or cannot be read; evaluate again") from error
    by_text = {str(node): node for node in graph.node_ids}
    nodes = metrics.index.get_level_values("node")
    metrics = metrics[nodes.isin(list(by_text))]
    if isinstance(metrics.index, pd.MultiIndex):
        levels = metrics.index.remove_unused_levels().levels[0]
        metrics.index = metrics.index.remove_unused_levels().set_levels(
            [by_text[str(node)] for node in levels], level="node"
        )
        return metrics
    return metrics.set_axis(metrics.index.map(by_text))
