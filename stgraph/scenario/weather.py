"""Other weather in a scenario: the model forecasts anew, told of another future."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stgraph.errors import ConfigError
from stgraph.graph import Feature, FloatArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.operations import Operation, SetWeather
from stgraph.scenario.planning import when
from stgraph.scenario.script import Scenario
from stgraph.scenario.target_fields import shorten, three_nearest
from stgraph.scenario.window import window_steps

if TYPE_CHECKING:  # torch is loaded by those who have a model
    from stgraph.forecasting import Forecaster

_NO_MODEL = (
    "give `with_weather`, as `stgraph.scenario.weather.forecast_with_weather` makes it of a "
    "trained model; in a file, name the job of the model as `baseline.job`"
)


def forecast_with_weather(
    forecaster: Forecaster,
    graph: STGraph,
    scenario: Scenario,
    *,
    at: pd.Timestamp | str | None = None,
) -> STGraph:
    """Forecast with the weather that a scenario sets, for `run(..., with_weather=...)`.

    Parameters
    ----------
    forecaster
        The trained model that makes the baseline as well.
    graph
        The readings, with the known future as it is; they are not changed.
    scenario
        Its operations `set_weather` set a feature at every node, in the steps of the forecast that
        their windows cover. What was before the forecast is issued stays as it was.
    at
        As for `Forecaster.forecast`.

    Returns
    -------
    STGraph
        A forecast like any other. Its `provenance` has `weather`: what was set, a mapping each;
        its report warns of values that the model has not seen in training.

    Raises
    ------
    ConfigError
        Lists everything that cannot be set.
    CheckpointError, InputError
        As of `Forecaster.forecast`.
    """
    report = Report()
    time = forecaster.target_times(graph, at=at)
    numbered = weather_of(scenario)
    check_features(numbered, graph.features, report)
    steps = [
        window_steps(one.window, time, scenario.timezone, report, _where(number))
        for number, one in numbered
    ]
    report.raise_errors(ConfigError, title=f"the weather of {scenario.name!r} cannot be set")
    near = _cut(graph, time, forecaster.inputs.reach)  # of years of readings all else is no matter
    rows = near.time.get_indexer(time)
    values, mask = near.values.copy(), near.mask.copy()
    doubts = Report()
    fitted = int(graph.time.searchsorted(forecaster.fitted_until, side="right"))
    for (number, one), held in zip(numbered, steps, strict=True):
        position = graph.feature_names.index(one.feature)
        at_steps = rows[held & (rows >= 0)]  # rows that are missing are named by the forecaster
        values[at_steps, :, position] = one.value
        mask[at_steps, :, position] = True
        seen = graph.values[:fitted, :, position][graph.mask[:fitted, :, position]]
        _note_unseen(_where(number), one, graph.features[position], seen, doubts)
    forecast = forecaster.forecast(near.replace(values=values, mask=mask), at=at)
    units = {feature.name: feature.unit for feature in graph.features}
    notes = {
        "weather": described(scenario, units),
        "findings": Report([*forecast.report, *doubts]).to_json(),
    }
    return forecast.replace(provenance={**forecast.provenance, **notes})


def _cut(graph: STGraph, time: pd.DatetimeIndex, reach: int) -> STGraph:
    """Return the steps to forecast, as far as the graph has them, and so many before them."""
    first = int(graph.time.searchsorted(time[0]))
    return graph.select_steps(max(0, first - reach), first + len(time))


def weather_of(scenario: Scenario) -> list[tuple[int, SetWeather]]:
    """Return the operations of a scenario that set weather, with their numbers from 1."""
    numbered = enumerate(scenario.operations, start=1)
    return [(number, one) for number, one in numbered if isinstance(one, SetWeather)]


def is_weather_alone(scenario: Scenario) -> bool:
    """Tell whether a scenario changes the weather, and neither roads nor trips."""
    operations = scenario.operations
    return bool(operations) and all(isinstance(one, SetWeather) for one in operations)


def described(scenario: Scenario, units: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a scenario sets, JSON-like: feature, value, unit, and when in words."""
    return [
        {
            "feature": one.feature,
            "value": one.value,
            "unit": units.get(one.feature, ""),
            "when": when(one),
        }
        for _, one in weather_of(scenario)
    ]


def in_words(weather: Sequence[Mapping[str, Any]]) -> str:
    """Return what was set as ``rain 5 mm/h 07:00-19:00, temperature 2 °C always``."""
    return ", ".join(
        " ".join(
            part for part in (one["feature"], f"{one['value']:g}", one["unit"], one["when"]) if part
        )
        for one in weather
    )


def weather_states(
    operations: Sequence[Operation], time: pd.DatetimeIndex, zone: str | None
) -> IntArray:
    """Return which weather is set at each of T steps: the same number where the same is."""
    weather = [one for one in operations if isinstance(one, SetWeather)]
    held = [window_steps(one.window, time, zone, Report(), "`window`") for one in weather]
    table = np.array(held, dtype=np.bool_).reshape(len(weather), len(time))
    _, number = np.unique(table, axis=1, return_inverse=True)
    return np.asarray(number.reshape(-1), dtype=np.int64)


# ---------------------------------------------------------------- checks


def check_features(
    numbered: Sequence[tuple[int, SetWeather]], features: Sequence[Feature], report: Report
) -> None:
    """Note what is set that the model knows no future of.

    Parameters
    ----------
    numbered
        Operations with their numbers.
    features
        Of the model.
    report
        Gets an error for each, with the features that can be set.
    """
    known = [feature.name for feature in features if feature.role == "known_future"]
    role = {feature.name: feature.role for feature in features}
    for number, one in numbered:
        if one.feature in known:
            continue
        what = f"the model knows no future feature {one.feature!r}"
        if one.feature in role:
            what = f"{one.feature!r} is not known ahead: {_ROLES[role[one.feature]]}"
        hint = three_nearest(one.feature, known)
        todo = f"use one of {shorten(known)}" if known else "train one with such features"
        report.error(f"{_where(number)}, `feature`", what, f"{hint}; {todo}" if hint else todo)


_ROLES = {
    "target": "it is what the model forecasts",
    "observed": "the model looks at its past only",
    "static": "it is the same at all times",
}


def features_told(forecast: STGraph) -> tuple[Feature, ...] | None:
    """Return what a forecast tells of the features of its model; None if it tells nothing."""
    notes = forecast.provenance
    told = notes.get("known_future", [])
    units = told if isinstance(told, Mapping) else dict.fromkeys(told, "")
    known = [Feature(str(name), str(unit), "known_future") for name, unit in units.items()]
    past = [Feature(str(name), "", "observed") for name in notes.get("past_only", [])]
    own = [feature for feature in forecast.features if feature.role == "known_future"]
    if not known and not own and not (notes.get("kind") == "forecast" and notes.get("model")):
        return None
    targets = [feature for feature in forecast.features if feature.role == "target"]
    return tuple({one.name: one for one in (*targets, *past, *own, *known)}.values())


def check_with_weather(
    scenario: Scenario, forecast: STGraph, with_weather: STGraph | None, report: Report
) -> None:
    """Note where a forecast with other weather is missing, or none of the baseline's kind.

    Parameters
    ----------
    scenario
        Sets weather, or not.
    forecast
        The baseline.
    with_weather
        What was given as the same with other weather.
    report
        Gets the errors.
    """
    numbered = weather_of(scenario)
    if not numbered:
        if with_weather is not None:
            todo = "leave it out, or add `set_weather`"
            report.error("`with_weather`", "is given, and no operation sets weather", todo)
        return
    if with_weather is None:
        note_no_model(scenario, report)
        return
    if not with_weather.time.equals(forecast.time):
        what = f"is for {_span(with_weather)}, the forecast for {_span(forecast)}"
        report.error("`with_weather`", what, "make both at the same instant")
    for name, words in (("model", "of the model"), ("issued_at", "issued at")):
        ours, theirs = (one.provenance.get(name) for one in (forecast, with_weather))
        if ours != theirs:
            what = f"is {words} {theirs!r}, the forecast {ours!r}"
            report.error("`with_weather`", what, "make both by the same model at the same instant")
    _check_alike(forecast, with_weather, report)
    told = with_weather.provenance.get("weather")
    wanted = described(scenario, {one["feature"]: one["unit"] for one in told or ()})
    if told is not None and list(told) != wanted:
        what = f"has {in_words(told)}, the scenario {in_words(wanted)}"
        report.error("`with_weather`", what, "make it with this scenario")


def _check_alike(forecast: STGraph, with_weather: STGraph, report: Report) -> None:
    """Note nodes and features that only one of two forecasts has."""
    for what, ours, theirs in (
        ("nodes", forecast.node_ids, with_weather.node_ids),
        ("features", forecast.feature_names, with_weather.feature_names),
    ):
        wanted, given = ([str(name) for name in names] for names in (ours, theirs))
        for words, some, others in (("lacks", wanted, given), ("alone has", given, wanted)):
            known = set(others)
            odd = [name for name in some if name not in known]
            if odd:
                text = f"{words} {len(odd)} of {len(some)} {what}: {shorten(odd)}"
                report.error("`with_weather`", text, "make both of the same graph, and cut neither")


def note_no_model(scenario: Scenario, report: Report) -> None:
    """Note operations that need a trained model, where there is a forecast only."""
    for number, _ in weather_of(scenario):
        what = "needs the trained model that made the forecast, and there is the forecast only"
        report.error(_where(number), what, _NO_MODEL)


def _span(forecast: STGraph) -> str:
    """Return from when to when a forecast goes."""
    if not forecast.n_steps:
        return "no steps"
    first, last = forecast.time[[0, -1]]
    return f"{forecast.n_steps} steps from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _where(number: int) -> str:
    """Return the name of an operation, for messages."""
    return f"operation {number} (set_weather)"


def _note_unseen(
    where: str, one: SetWeather, feature: Feature, seen: FloatArray, report: Report
) -> None:
    """Warn of a value that no training step had: what a model says of it is a guess."""
    if not len(seen):
        report.warning(where, f"{one.feature!r} has no values in training", "its effect is a guess")
        return
    low, high = float(seen.min()), float(seen.max())
    unit = f" {feature.unit}" if feature.unit else ""
    if low == high:
        what = f"{one.feature!r} was {low:g}{unit} in all of the training"
        report.warning(where, what, "the model cannot know what other values do")
    elif not low <= one.value <= high:
        what = f"{one.feature!r} {one.value:g}{unit} was never seen in training"
        todo = f"it was {low:g} to {high:g}{unit}; what the model makes of it is a guess"
        report.warning(where, what, todo)
