"""Measure a fitted model on windows that it never saw, with the baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stgraph.classification import ClassErrors, classify
from stgraph.config import HeadConfig, TrainConfig
from stgraph.errors import InputError
from stgraph.evaluation import Errors, Evaluation
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.inputs import Source
from stgraph.preprocessing.splits import Split, rolling_origins
from stgraph.training import fit, fit_prepared, prepare

SIMPLE_BASELINES = ("persistence", "seasonal_naive", "weekly_profile", "profile_decay")


def evaluate(
    forecaster: Forecaster,
    graph: STGraph,
    *,
    baselines: Sequence[str] = SIMPLE_BASELINES,
    target: str | None = None,
    starts: range | None = None,
) -> Evaluation:
    """Measure a model and baselines on the windows behind everything that it was fitted on.

    Parameters
    ----------
    forecaster
        What `fit` returned or `load_forecaster` read.
    graph
        The signal, with what the model was fitted on at its beginning: the baselines learn
        from the very same steps.
    baselines
        Registered models to compare with.
    target
        Which target; None takes the first.
    starts
        Windows to use instead of all behind the validation part; those before its end were seen
        in fitting, and their errors say nothing about new data.

    Returns
    -------
    Evaluation
        Tables per horizon and node, and a verdict.

    Raises
    ------
    CheckpointError
        The graph does not fit the model.
    InputError
        No window is left to test on, or `starts` lie outside the data.
    """
    forecaster.check(graph)
    starts = forecaster.test_starts(graph) if starts is None else starts
    if len(starts) == 0:
        raise InputError(
            f"no window lies behind {forecaster.tuned_until}, up to which the model was fitted; "
            f"the data ends at {graph.time[-1]}: give newer data or a larger test share"
        )
    n_windows = graph.n_steps - forecaster.inputs.window - forecaster.inputs.horizon + 1
    if min(starts) < 0 or max(starts) >= n_windows:
        raise InputError(f"`starts` {starts} reach outside the {n_windows} windows of the data")
    names = [feature.name for feature in graph.features if feature.role == "target"]
    column = 0 if target is None else _position(target, names)
    head = forecaster.head
    errors = {forecaster.model: _score(forecaster, graph, starts, column, head)}
    rivals = [name for name in baselines if name != forecaster.model]
    if rivals:
        prepared = prepare(
            graph,
            split=_same_split(forecaster, graph),
            holidays=forecaster.inputs.holidays,
            use_filled=forecaster.inputs.use_filled,
        )
        for name in rivals:
            errors[name] = _score(fit_prepared(prepared, model=name), graph, starts, column, head)
    first = starts[0] + forecaster.inputs.window
    last = starts[-1] + forecaster.inputs.window + forecaster.inputs.horizon - 1
    return Evaluation(
        model=forecaster.model,
        target=names[column],
        unit=graph.features[forecaster.inputs.targets[column]].unit,
        step=forecaster.inputs.step,
        node_ids=graph.node_ids,
        errors=errors,
        n_windows=len(starts),
        span=(graph.time[first], graph.time[last]),
        yardstick=_yardstick(head),
    )


def backtest(
    graph: STGraph,
    *,
    model: str = "gcn_lstm",
    options: Mapping[str, Any] | None = None,
    window: int = 12,
    horizon: int = 12,
    n_folds: int = 4,
    test_fraction: float = 0.4,
    holidays: str | None = None,
    use_seasons: bool = True,
    head: HeadConfig | None = None,
    train: TrainConfig | None = None,
    baselines: Sequence[str] = SIMPLE_BASELINES,
) -> pd.DataFrame:
    """Fit and measure a model again and again while time moves on.

    Parameters
    ----------
    graph
        The signal.
    model, options, window, horizon, holidays, use_seasons, head, train
        As for `fit`.
    n_folds
        How often the model is fitted; each fold is tested on the block after it.
    test_fraction
        Share of the windows in the test blocks together.
    baselines
        Registered models to compare with, fitted on the same steps.

    Returns
    -------
    DataFrame
        The skill tables of all folds, with the columns ``fold``, ``from`` and ``until`` in front.
    """
    folds = rolling_origins(
        graph.n_steps,
        window=window,
        horizon=horizon,
        n_folds=n_folds,
        test_fraction=test_fraction,
    )
    tables = []
    for number, split in enumerate(folds, start=1):
        forecaster = fit(
            graph,
            model=model,
            options=options,
            holidays=holidays,
            use_seasons=use_seasons,
            head=head,
            train=train,
            split=split,
        )
        result = evaluate(forecaster, graph, baselines=baselines, starts=split.test)
        table = result.table()
        table.insert(0, "until", result.span[1])
        table.insert(0, "from", result.span[0])
        table.insert(0, "fold", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _score(
    forecaster: Forecaster, graph: STGraph, starts: range, column: int, head: HeadConfig
) -> Errors | ClassErrors:
    """Return the errors of one model on some windows, as the head of the model in question."""
    source, horizon = Source(graph, forecaster.inputs), forecaster.inputs.horizon
    errors = Errors.empty(horizon, graph.n_nodes)
    class_errors = ClassErrors.empty(horizon, graph.n_nodes, head.n_classes)
    position = forecaster.inputs.targets[column]
    ahead = forecaster.inputs.window + np.arange(horizon)
    for batch, forecasts in forecaster.predict(source, starts):
        steps = batch[:, None] + ahead
        mask = graph.mask[steps][..., position]
        truth = np.where(mask, graph.values[steps][..., position], np.float32(0))
        forecast = forecasts[..., column, :]
        if not head.n_classes:
            errors.add(forecast[..., forecaster.head.main_positions], truth, mask)
        elif forecaster.head.n_classes:
            likely, chances = forecast[..., 0].astype(np.int64), forecast[..., 1:]
            class_errors.add(likely, classify(truth, head.edges), mask, chances)
        else:  # a number has a class, but no probabilities
            median = forecast[..., forecaster.head.main_positions[2]]
            likely = classify(median, head.edges)
            class_errors.add(likely, classify(truth, head.edges), mask)
    return class_errors if head.n_classes else errors


def _yardstick(head: HeadConfig) -> str:
    """Return the metric that skill is about: what the model was trained for."""
    if not head.n_classes:
        return "mae"
    return "accuracy_percent" if head.class_weights is None else "macro_recall_percent"


def _same_split(forecaster: Forecaster, graph: STGraph) -> Split:
    """Return the split that the forecaster was fitted on, found again by its instants."""
    window, horizon = forecaster.inputs.window, forecaster.inputs.horizon
    fitted = int(graph.time.searchsorted(forecaster.fitted_until, side="right"))
    tuned = int(graph.time.searchsorted(forecaster.tuned_until, side="right"))
    n_train = fitted - window - horizon + 1
    if n_train < 1:
        raise InputError(
            f"the data begins at {graph.time[0]}, but the model was fitted up to "
            f"{forecaster.fitted_until}: the baselines need the same steps; give older data too"
        )
    first_tuned = min(fitted - window, tuned)
    validation = range(first_tuned, max(first_tuned, tuned - window - horizon + 1))
    return Split(range(n_train), validation, range(0), window, horizon)


def _position(name: str, names: list[str]) -> int:
    """Return the position of a target among the targets."""
    if name not in names:
        raise InputError(f"no target is called {name!r}; there are {names}")
    return names.index(name)
