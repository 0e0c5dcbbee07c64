"""A job from its config to its files: read, prepare, connect, train, evaluate, forecast, write.

Every result is written aside and moved into place, in `[run] folder`:

    checkpoint/    the fitted model; forecasts in a new process without the training data
    training/      logs, and the state that `--resume` goes on from
    segments.safetensors  what carries forecasts to road segments, with a table [roads]
    holdout.csv    errors at stations that were hidden, with a table [roads]
    metrics.csv    errors and skill per model and horizon;  nodes.csv  the same per node
    errors.parquet the same per node and horizon
    selection.csv  models that an ensemble or an automatic choice tried, and their weights
    report.json    what was read, found, fitted and measured
    ...            one file per [[output]] that is a file
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stgraph import registry
from stgraph.config import JobConfig, dump_job, reveal
from stgraph.errors import CheckpointError, ConfigError, InputError
from stgraph.graph import STGraph
from stgraph.joining import join_feature
from stgraph.neighbours.dynamic import How, collapse_edges, is_dynamic
from stgraph.outputs import write_outputs
from stgraph.preflight import check_job, check_known_future, split_job
from stgraph.preprocessing.gaps import fill_gaps
from stgraph.preprocessing.outliers import mask_outliers
from stgraph.report import Report
from stgraph.results import summarise, tried_table, write_metrics, write_text
from stgraph.segments import (
    Segments,
    fit_segments,
    forecast_segments,
    load_fitted,
    load_segments,
    measure_segments,
)

if TYPE_CHECKING:  # torch is loaded by the stages that need it
    from stgraph.evaluation import Evaluation
    from stgraph.forecasting import Forecaster
    from stgraph.kriging.holdout import Holdout

logger = logging.getLogger(__name__)

# of one model
_MEASURED = (
    "metrics.csv",
    "nodes.csv",
    "errors.parquet",
    "report.json",
    "holdout.csv",
    "selection.csv",
)


@dataclass(frozen=True)
class JobResult:
    """What a whole job made."""

    graph: STGraph
    forecaster: Forecaster
    evaluation: Evaluation
    forecast: STGraph
    outputs: tuple[Path | str, ...]  # in the order of the config: files, or databases in words
    holdout: Holdout | None = None  # errors at hidden stations, with a table [roads]


def run(config: JobConfig, *, resume: bool = False) -> JobResult:
    """Do a whole job: read, prepare, connect, train, evaluate, forecast, write.

    Parameters
    ----------
    config
        As `stgraph.configfile.read_config` returns it.
    resume
        Go on with a training that was killed.

    Returns
    -------
    JobResult
        Everything that was made; the same is in the files of the run folder.

    Raises
    ------
    STGraphError
        Something in the config, the data or the run folder cannot be used.
    """
    graph = load_graph(config)
    if not split_job(config, graph).test:
        raise ConfigError(
            "[windows] `fractions`: no window is left to test on; give the test a share, or only "
            "fit and forecast"
        )
    check_known_future(config, graph)
    segments = load_segments(config, graph)
    forecaster = fit_job(config, graph, resume=resume, segments=segments)
    evaluation = evaluate_job(config, graph, forecaster)
    holdout = holdout_job(config, graph, forecaster, segments=segments)
    forecast, outputs = forecast_job(config, graph, forecaster, segments=segments)
    return JobResult(graph, forecaster, evaluation, forecast, outputs, holdout)


def connect_graph(config: JobConfig) -> STGraph:
    """Read the data of a job and connect its nodes; nothing is prepared for a model."""
    return _connect(_read(config), config)


def load_graph(config: JobConfig) -> STGraph:
    """Read the data of a job, prepare it and connect its nodes.

    Returns
    -------
    STGraph
        What was found on the way is in its `report`.
    """
    began = time.perf_counter()
    graph = _read(config)
    outliers, gaps = config.prepare.outliers, config.prepare.gaps
    if outliers is not None:
        graph = mask_outliers(graph, fit_steps=split_job(config, graph).train_steps, **outliers)
    graph = _collapse(_connect(graph, config), config)
    if gaps is not None:
        seen = split_job(config, graph).train_steps
        graph = fill_gaps(graph, causal=True, fit_steps=seen, **gaps)
    logger.info(
        "read %d nodes, %d edges and %d steps in %.1f s",
        graph.n_nodes,
        graph.n_edges,
        graph.n_steps,
        time.perf_counter() - began,
    )
    for finding in graph.report.warnings:
        logger.warning("%s", finding)
    return graph


def fit_job(
    config: JobConfig,
    graph: STGraph,
    *,
    resume: bool = False,
    segments: Segments | None = None,
) -> Forecaster:
    """Fit the model of a job and save it as ``checkpoint/``; files of an older one go.

    With a table ``[roads]``, what carries its forecasts to road segments is fitted as well;
    `segments` are its roads where they were read before.
    """
    from stgraph.checkpoint import save_forecaster
    from stgraph.training import fit

    segments = segments or load_segments(config, graph)
    split = check_job(config, graph, segments=segments)
    folder = config.run.folder
    logger.info("fitting %s to %d windows", config.model.name, len(split.train))
    forecaster = fit(
        graph,
        model=config.model.name,
        options=config.model.options,
        scaler=config.prepare.scaler,
        holidays=config.prepare.holidays,
        use_filled=config.prepare.gaps is not None,
        use_seasons=config.prepare.seasons,
        head=config.head,
        train=config.train,
        folder=folder,
        resume=resume,
        split=split,
    )
    outputs = [output.path for output in config.output if output.path is not None]
    for path in [*(folder / name for name in _MEASURED), *outputs]:
        path.unlink(missing_ok=True)
    save_forecaster(forecaster, folder / "checkpoint")
    if tried := forecaster.notes.get("tried"):
        write_text(folder / "selection.csv", tried_table(tried).to_csv(index=False))
    logger.info("fitted in %.0f s: %s", forecaster.notes["fit_seconds"], folder / "checkpoint")
    if segments is not None:
        fit_segments(config, graph, split, forecaster, segments)
    return forecaster


def load_checkpoint(config: JobConfig) -> Forecaster:
    """Return the model that an earlier `fit_job` of this config saved.

    Raises
    ------
    CheckpointError
        There is none, or it was fitted with other options, windows or holidays.
    """
    from stgraph.checkpoint import load_forecaster

    folder = config.run.folder / "checkpoint"
    forecaster = load_forecaster(folder)
    inputs, report = forecaster.inputs, Report()
    options = json.loads(json.dumps(dict(config.model.options), default=str))  # as it was saved
    for name, asked, fitted in (
        ("[model] `name`", config.model.name, forecaster.model),
        ("[model] options", options, dict(forecaster.options)),
        ("[head]", config.head, forecaster.head),
        ("[windows] `window`", config.windows.window, inputs.window),
        ("[windows] `horizon`", config.windows.horizon, inputs.horizon),
        ("[prepare.gaps] given", config.prepare.gaps is not None, inputs.use_filled),
        ("[prepare] `scaler`", config.prepare.scaler, inputs.scaler.kind),
        ("[prepare] `seasons`", config.prepare.seasons, inputs.use_seasons),
        ("[prepare] `holidays`", config.prepare.holidays, inputs.holidays),
    ):
        if asked != fitted:
            report.error(name, f"is {asked!r} in the config, but the model has {fitted!r}")
    title = f"{folder} was fitted with another config; fit again, or give the same as then"
    report.raise_errors(CheckpointError, title=title)
    return forecaster


def evaluate_job(config: JobConfig, graph: STGraph, forecaster: Forecaster) -> Evaluation:
    """Measure a model and the baselines, and write tables and ``report.json``."""
    from stgraph.backtesting import SIMPLE_BASELINES, evaluate

    began = time.perf_counter()
    baselines = config.evaluate.baselines
    evaluation = evaluate(
        forecaster, graph, baselines=SIMPLE_BASELINES if baselines is None else baselines
    )
    logger.info(
        "measured on %d windows in %.1f s", evaluation.n_windows, time.perf_counter() - began
    )
    folder = config.run.folder
    write_text(folder / "metrics.csv", evaluation.table().to_csv(index=False))
    write_text(folder / "nodes.csv", evaluation.per_node().to_csv(index_label="node"))
    write_metrics(folder / "errors.parquet", evaluation.per_node_and_horizon())
    report = _report(config, graph, evaluation)
    report["tried"] = forecaster.notes.get("tried", [])  # of a blend of several models
    write_text(folder / "report.json", json.dumps(report, indent=1))
    return evaluation


def holdout_job(
    config: JobConfig,
    graph: STGraph,
    forecaster: Forecaster,
    *,
    segments: Segments | None = None,
) -> Holdout | None:
    """Measure guesses at stations that are hidden, and write ``holdout.csv``.

    None without a table ``[roads]``, or where it asks for no draws.
    """
    if config.roads is None or config.roads.draws == 0:
        return None
    segments = segments or load_segments(config, graph)
    if segments is None:
        return None
    split = split_job(config, graph)
    holdout = measure_segments(config, graph, split, forecaster, segments)
    write_text(config.run.folder / "holdout.csv", holdout.table.to_csv(index=False))
    return holdout


def forecast_job(
    config: JobConfig,
    graph: STGraph,
    forecaster: Forecaster,
    *,
    segments: Segments | None = None,
) -> tuple[STGraph, tuple[Path | str, ...]]:
    """Forecast and write every output; return the stations' forecast and where it went."""
    at = config.forecast.at
    forecast = forecaster.forecast(graph, at=None if at is None else pd.Timestamp(at))
    for finding in forecast.report.warnings:
        logger.warning("%s", finding)
    wanted = any(output.of == "segments" for output in config.output)
    segments = (segments or load_segments(config, graph)) if wanted else None
    if segments is None:
        return forecast, write_outputs(config, graph, forecast)
    fitted = load_fitted(config, graph, segments)
    everywhere = forecast_segments(forecast, segments, fitted)
    written = write_outputs(config, graph, forecast, segments=segments, of_segments=everywhere)
    return forecast, written


def _read(config: JobConfig) -> STGraph:
    """Return the readings of a job, with the features of its further sources."""
    read = registry.load("connectors", config.data.connector)
    graph: STGraph = read(**reveal(config.data.options))
    for number, source in enumerate(config.source, start=1):
        try:
            other = registry.load("connectors", source.connector)(**reveal(source.options))
            graph = join_feature(graph, other, **source.join, ahead_steps=config.windows.horizon)
        except InputError as error:
            raise type(error)(f"[[source]] {number}, {source.connector!r}: {error}") from error
    return graph


def _connect(graph: STGraph, config: JobConfig) -> STGraph:
    """Return the graph with the edges that the config asks for."""
    method = config.graph.method
    if method == "given" or (method == "auto" and graph.n_edges):
        return graph
    if method == "none":
        return graph.replace(edge_index=None, edge_weight=None, edges=None, weight_unit="1")
    build = registry.load("neighbours", "knn" if method == "auto" else method)
    connected: STGraph = build(graph, **config.graph.options)
    return connected


def _collapse(graph: STGraph, config: JobConfig) -> STGraph:
    """Return the graph with one edge a pair, from the edges of the training part alone.

    All models take a graph whose edges stay; a pair that has several edges, one after the other,
    would count as often.
    """
    if not is_dynamic(graph):
        return graph
    n_steps = split_job(config, graph).train_steps.stop
    stop = graph.time[n_steps] if n_steps < graph.n_steps else None
    how: How = "mean_when_valid" if graph.weight_unit == "m" else "mean"
    static = collapse_edges(graph, how, stop=stop)
    report = graph.report
    report.warning(
        "`edges`",
        f"they change over time, {graph.n_edges} of them; models take edges that stay",
        f"{static.n_edges} pairs were made of those before {stop}, by {how!r}",
    )
    return static.replace(provenance={**static.provenance, "findings": report.to_json()})


def _report(config: JobConfig, graph: STGraph, evaluation: Evaluation) -> dict[str, Any]:
    """Return what ``report.json`` says about a run."""
    return {
        "stgraph": version("stgraph-gis"),
        "config": dump_job(config),
        "findings": json.loads(graph.report.to_json()),
        "graph": repr(graph),
        "test_windows": evaluation.n_windows,
        "test_span": [instant.isoformat() for instant in evaluation.span],
        "verdict": evaluation.verdict(),
        "skill": summarise(config, evaluation),
    }
