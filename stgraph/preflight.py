"""Find out before training what would otherwise fail after it, and what a job will need."""

from __future__ import annotations

import datetime as dt
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stgraph import registry
from stgraph.config import JobConfig, OutputConfig
from stgraph.errors import ConfigError, InputError, OutputError, STGraphError
from stgraph.graph import Feature, STGraph
from stgraph.inputs import known_calendar
from stgraph.preprocessing.splits import Split, split_windows
from stgraph.report import Report
from stgraph.segments import Segments

_REHEARSED_NODES = 50  # an output is tried out on this many nodes
# measured growth of memory while training on METR-LA, Boroondara and Auckland, in batches of
# inputs, with hidden_size 64
_TRAINING_FACTORS = {"gcn_lstm": 105, "identity_mlp": 16}


def split_job(config: JobConfig, graph: STGraph) -> Split:
    """Return which windows of a graph a job trains, validates and tests on."""
    return split_windows(
        graph.n_steps,
        window=config.windows.window,
        horizon=config.windows.horizon,
        fractions=config.windows.fractions,
    )


def check_job(config: JobConfig, graph: STGraph, *, segments: Segments | None = None) -> Split:
    """Return the split of a job, after raising what would otherwise fail only after training.

    With a table ``[roads]``, `segments` are its roads; without them outputs of segments are tried
    out on the stations.
    """
    split = split_job(config, graph)
    _check_edges(config, graph)
    _check_targets(graph, split)
    if config.head.kind == "classes":
        _check_classes(config, graph, split)
    if config.forecast.at is not None:
        _check_instant(config.forecast.at, config.windows.window, graph)
    _check_device(config.train.device)
    _check_folder(config.run.folder)
    if segments is not None:
        _check_holdout(config, segments)
    _rehearse_outputs(config, graph, segments)
    return split


def check_known_future(config: JobConfig, graph: STGraph) -> None:
    """Refuse a forecast for which a known future is not known: it would fail after training.

    Raises
    ------
    InputError
        Names the feature and how far it is known.
    """
    known = graph.feature_positions("known_future")
    if not known or not graph.n_steps:
        return
    origin = _last_known_step(config, graph)
    horizon, problems = config.windows.horizon, Report()
    for position in known:
        ahead = graph.mask[origin + 1 : origin + 1 + horizon, :, position]
        gaps = np.flatnonzero(~np.all(ahead, axis=1))
        n_known = int(gaps[0]) if len(gaps) else len(ahead)
        if n_known < horizon:
            problems.error(
                f"feature {graph.features[position].name!r}",
                f"has role known_future, and {n_known} of the {horizon} steps after "
                f"{graph.time[origin]} are known",
                "give its future values, forecast from an earlier instant ([forecast] `at`), or "
                'join it with role = "observed"',
            )
    problems.raise_errors(InputError, title="the future of the inputs is not known")


def _last_known_step(config: JobConfig, graph: STGraph) -> int:
    """Return the step that the forecast of a job is made from."""
    from stgraph.forecasting import to_instant

    if config.forecast.at is not None:
        at = to_instant(pd.Timestamp(config.forecast.at), graph.zone)
        return int(graph.time.searchsorted(at, side="right")) - 1
    targets = graph.feature_positions("target")
    seen = np.flatnonzero(graph.mask[..., targets].any(axis=(1, 2)))
    return int(seen[-1]) if len(seen) else graph.n_steps - 1


def job_sizes(
    config: JobConfig, graph: STGraph, split: Split, *, segments: Segments | None = None
) -> dict[str, Any]:
    """Return what a run would work on, with an estimate of the memory it needs.

    Raises
    ------
    ConfigError, InputError
        The model cannot be built for this graph with these options.
    """
    targets = graph.feature_positions("target")
    windows, train = config.windows, config.train
    seen = graph.time[split.train_steps]
    calendar = known_calendar(seen, graph.zone, config.prepare.holidays)
    past = 3 * len(targets) + graph.n_features - len(targets)
    future = 3 * len(targets) + len(graph.feature_positions("known_future")) + len(calendar)
    numbers = windows.window * past + windows.horizon * (future + 2 * len(targets))
    batch = 4 * train.batch_size * graph.n_nodes * numbers
    signal = graph.values.nbytes + graph.mask.nbytes
    missing = 100 * (1 - float(graph.mask[..., targets].mean()))
    return {
        **_model_sizes(config, graph, n_past=past, n_future=future),
        "nodes": graph.n_nodes,
        "edges": graph.n_edges,
        "steps": graph.n_steps,
        "step (minutes)": (graph.step or pd.Timedelta(0)) / pd.Timedelta(minutes=1),
        "first step": str(graph.time[0].tz_convert(graph.zone)),
        "last step": str(graph.time[-1].tz_convert(graph.zone)),
        "features": ", ".join(f"{f.name} ({f.unit or '1'}, {f.role})" for f in graph.features),
        "forecast": ", ".join(
            graph.features[position].name + suffix
            for position in targets
            for suffix in config.head.suffixes
        ),
        **_classes(config, graph, split),
        "missing (%)": round(missing, 2),
        "training windows": len(split.train),
        "validation windows": len(split.validation),
        "test windows": len(split.test),
        "signal in memory (MB)": round(signal / 1e6, 1),
        "one batch of inputs (MB)": round(batch / 1e6, 1),
        **_training_memory(config, batch),
        **({} if segments is None else _road_sizes(graph, segments)),
    }


def _model_sizes(
    config: JobConfig, graph: STGraph, *, n_past: int, n_future: int
) -> dict[str, Any]:
    """Return the model of a job and how many weights it has, from building it."""
    from stgraph.layout import layout_of
    from stgraph.models.build import count_weights
    from stgraph.models.ensemble import BLENDS, EnsembleConfig, as_member
    from stgraph.models.sizes import Sizes

    name, options = config.model.name, config.model.options
    sizes = Sizes(
        n_nodes=graph.n_nodes,
        window=config.windows.window,
        horizon=config.windows.horizon,
        n_past=n_past,
        n_future=n_future,
        n_outputs=len(graph.feature_positions("target")),
        layout=layout_of(graph),
    )
    if name not in BLENDS:
        n_weights = count_weights(name, options, sizes, head=config.head)
        return {"model": name, "weights": n_weights}
    if name != "ensemble":
        return {"model": name}  # what is tried depends on the time it takes
    total, problems = 0, Report()
    for number, given in enumerate(EnsembleConfig(**options).members, start=1):
        member = as_member(given)
        try:
            total += count_weights(member.name, member.options, sizes, head=config.head)
        except (ConfigError, InputError) as error:
            problems.error(f"[model] `members` {number}, {member.name}", str(error))
    problems.raise_errors(ConfigError, title="the ensemble cannot be built")
    return {"model": name, "members": number, "weights": total}


def _road_sizes(graph: STGraph, segments: Segments) -> dict[str, Any]:
    """Return how many segments a job forecasts, and what their values will rest on."""
    return {
        "segments": segments.graph.n_nodes,
        "segments by support": segments.count_support(),
        "stations on roads": f"{len(segments.stations)} of {graph.n_nodes}",
    }


def _training_memory(config: JobConfig, batch: int) -> dict[str, Any]:
    """Return about what training needs beside the signal, for models that were measured."""
    factor = _TRAINING_FACTORS.get(config.model.name)
    if factor is None:
        return {}
    size = config.model.options.get("hidden_size", 64) / 64
    # a step that would take more goes through in parts
    bytes_ = min(batch * factor * size, 1e9 * config.train.memory_gb)
    return {"training, about (MB)": round(bytes_ / 1e6)}


def _check_edges(config: JobConfig, graph: STGraph) -> None:
    """Refuse a graph without any edge, unless just that was asked for."""
    if graph.n_edges == 0 and config.graph.method != "none":
        made = "the connector" if config.graph.method == "given" else f"{config.graph.method!r}"
        raise ConfigError(
            f"[graph] `method`: {made} makes no edge between the {graph.n_nodes} node(s); choose "
            'another method or reach, or "none" to forecast every node by itself'
        )


def _check_targets(graph: STGraph, split: Split) -> None:
    """Refuse a signal without anything to learn from."""
    targets = graph.feature_positions("target")
    if not targets:
        raise InputError("no feature has role 'target'; mark the one to forecast")
    for position in targets:
        if not graph.mask[split.train_steps, :, position].any():
            raise InputError(
                f"feature {graph.features[position].name!r} has no observation from "
                f"{graph.time[0]} to {graph.time[split.train_steps.stop - 1]}, the training part; "
                "give readings of that time, or make it no target"
            )


def _check_classes(config: JobConfig, graph: STGraph, split: Split) -> None:
    """Refuse classes of several targets, and limits that all readings are on one side of."""
    targets = graph.feature_positions("target")
    if len(targets) > 1:
        names = [graph.features[position].name for position in targets]
        raise ConfigError(
            f"[head] `kind`: classes have limits in the unit of one target, there are {names}; "
            "make the others observed features"
        )
    seen = _training_values(graph, split)
    for name, share in _class_shares(config, graph, split).items():
        if share == 100:
            raise ConfigError(
                f"[head] `edges`: all readings of the training part are in the class {name!r}; "
                f"give limits between {seen.min():g} and {seen.max():g}"
            )


def _classes(config: JobConfig, graph: STGraph, split: Split) -> dict[str, str]:
    """Return the classes of a job, and how common they are."""
    if config.head.kind != "classes":
        return {}
    shares = _class_shares(config, graph, split).items()
    return {"classes in training": ", ".join(f"{name}: {share:.2g} %" for name, share in shares)}


def _class_shares(config: JobConfig, graph: STGraph, split: Split) -> dict[str, float]:
    """Return how many per cent of the readings in the training part are in each class."""
    (position,) = graph.feature_positions("target")
    classes = np.digitize(_training_values(graph, split), config.head.edges)
    counts = np.bincount(classes, minlength=config.head.n_classes)
    names = config.head.class_names(graph.features[position].unit)
    return dict(zip(names, (100 * counts / counts.sum()).tolist(), strict=True))


def _training_values(graph: STGraph, split: Split) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what was observed of the one target in the training part."""
    (position,), steps = graph.feature_positions("target"), split.train_steps
    return graph.values[steps, :, position][graph.mask[steps, :, position]]


def _check_instant(given: dt.datetime, window: int, graph: STGraph) -> None:
    """Refuse a forecast from an instant that the data does not cover."""
    from stgraph.forecasting import to_instant

    at = to_instant(pd.Timestamp(given), graph.zone)
    first = graph.time[window - 1]
    if not first <= at < graph.time[-1] + (graph.step or pd.Timedelta(0)):
        raise ConfigError(
            f"[forecast] `at`: {at} has no window of readings before it; "
            f"give an instant from {first} to {graph.time[-1]}"
        )


def _check_device(device: str) -> None:
    """Refuse a GPU that is not there."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                '[train] `device`: "cuda" is not available on this machine; use "auto" or "cpu", '
                "or install a torch with CUDA"
            )


def _check_folder(folder: Path) -> None:
    """Refuse a run folder that cannot be written to, or whose checkpoint is something else."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"[run] `folder`: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"[run] `folder`: {there} is read-only; choose another folder")
    if (folder / "checkpoint").exists():
        from stgraph.checkpoint import check_target

        check_target(folder / "checkpoint")


def _check_holdout(config: JobConfig, segments: Segments) -> None:
    """Refuse a hold-out for which there are too few stations on the roads."""
    from stgraph.kriging.holdout import count_hidden  # loads torch

    if config.roads is not None and config.roads.draws:
        try:
            count_hidden(len(segments.stations), share=config.roads.hide)
        except InputError as error:
            raise InputError(f"[roads] `hide`: {error} (`draws = 0`)") from error


def _rehearse_outputs(config: JobConfig, graph: STGraph, segments: Segments | None) -> None:
    """Write every output once with made-up values, so that none fails after the training."""
    few = graph.select_nodes(graph.node_ids[:_REHEARSED_NODES])
    forecasts = {"stations": _make_up(config, graph, few)}
    if segments is not None:
        # of every kind of support
        order = np.argsort(-segments.support(), kind="stable")
        chosen = np.linspace(0, len(order) - 1, min(len(order), _REHEARSED_NODES)).astype(np.int64)
        some = segments.select(np.sort(order[chosen]))
        roads = some.graph.replace(
            nodes=some.with_support(graph.node_ids), edge_index=None, edge_weight=None, edges=None
        )
        forecasts["segments"] = _make_up(config, graph, roads)
    problems = Report()
    with tempfile.TemporaryDirectory() as folder:
        for number, output in enumerate(config.output, start=1):
            try:
                _rehearse(output, forecasts.get(output.of, forecasts["stations"]), Path(folder))
            except STGraphError as error:
                what = str(error).replace(f"{folder}{os.sep}", "")
                problems.error(f"[[output]] {number}, {output.sink}", what)
    problems.raise_errors(ConfigError, title="the outputs cannot be written")


def _make_up(config: JobConfig, graph: STGraph, nodes: STGraph) -> STGraph:
    """Return a forecast of some nodes as a job makes it of its graph, with numbers that rise."""
    targets = [graph.features[position] for position in graph.feature_positions("target")]
    names = [target.name + end for target in targets for end in config.head.suffixes]
    step = graph.step or pd.Timedelta(hours=1)
    shape = (config.windows.horizon, nodes.n_nodes, len(names))
    return nodes.replace(
        weight_unit=nodes.weight_unit if nodes.n_edges else "1",
        time=pd.date_range(graph.time[-1] + step, periods=shape[0], freq=step),
        values=np.linspace(1, 2, math.prod(shape), dtype=np.float32).reshape(shape),
        mask=None,
        features=tuple(Feature(name, targets[0].unit) for name in names),
        zone=graph.zone,
        provenance={
            "kind": "forecast",
            "issued_at": graph.time[-1].isoformat(),
            "model": config.model.name,
            "step_minutes": step / pd.Timedelta(minutes=1),
            "horizon": shape[0],
        },
    )


def _rehearse(output: OutputConfig, forecast: STGraph, folder: Path) -> None:
    """Write a file elsewhere; of a database only ask whether it would take the forecast."""
    target = output.target
    if isinstance(target, Path):
        write = registry.load("sinks", output.sink)
        write(forecast, folder / target.name, **output.options)
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file")
    elif output.sink == "postgis":
        check = registry.load("database", "check")
        check(target.get_secret_value(), schema=output.options.get("schema", "stgraph"))
