"""The forecast on the segments of an edited network: as it is, and with other weather."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stgraph.errors import DataError
from stgraph.graph import BoolArray, STGraph
from stgraph.report import Report
from stgraph.scenario.estimating import Base, Weather
from stgraph.scenario.fitting import City
from stgraph.scenario.states import Edited
from stgraph.scenario.traffic import SegmentTraffic, find_flow, find_speed, read_traffic
from stgraph.scenario.usual import fill_flows
from stgraph.scenario.weather import weather_states

Floats = npt.NDArray[np.float64]

_BANDS = ("_q10", "_q50", "_q90")  # of a forecast, beside its mean
_OUTER = {"_q10", "_q90"}  # without which nothing is known of a range
_SLOWEST = 1.0  # km/h


def read_base(
    forecast: STGraph,
    city: City,
    edited: Edited,
    report: Report,
    *,
    where: str = "the forecast",
) -> Base:
    """Return a forecast on the segments of both networks; parts have that of their street.

    Parameters
    ----------
    forecast
        Of segments, with all steps of `edited`.
    city, edited
        The network, and what a scenario makes of it.
    report
        Gets segments that nothing is known of.
    where
        What the forecast is, for messages.

    Raises
    ------
    DataError
        It has no speeds, or knows none of the segments.
    """
    traffic = read_traffic(forecast, city.streets.segment_id, report, where=where)
    report.raise_errors(DataError, title=f"{where} cannot be used")
    assert isinstance(traffic, SegmentTraffic)  # noqa: S101 - else there was an error
    rows = traffic.time.get_indexer(edited.time)
    known = np.where(edited.parent >= 0, 1.0, np.nan)
    at = np.maximum(edited.parent, 0)
    flow = fill_flows(traffic.flow_vph[rows], edited.time, city.history, report, where=where)
    return Base(traffic.speed_kmh[rows][:, at] * known, flow[:, at] * known)


def read_weather(
    forecast: STGraph,
    with_weather: STGraph,
    base: Base,
    city: City,
    edited: Edited,
    *,
    zone: str | None,
    report: Report,
) -> Weather:
    """Return the forecast with other weather, with what else it could be.

    Parameters
    ----------
    forecast, with_weather
        Of the same model at the same instant.
    base
        Of `forecast`.
    city, edited
        As for `read_base`.
    zone
        IANA name for the windows of operations.
    report
        Gets a warning where the weather changes nothing, and what is found of `with_weather` that
        has not been found of `forecast`.

    Notes
    -----
    A forecast says how much is likely as well: the mean, and the 10, 50 and 90 % quantiles, which
    differ by the weather as well. From the least to the most of these is the range of its effect.
    Without the 10 and 90 % quantiles it has none.
    """
    found, known = Report(), {(one.level, one.what) for one in report}
    mean = read_base(with_weather, city, edited, found, where="`with_weather`")
    report.extend([one for one in found if (one.level, one.what) not in known])
    starts, told_of = [mean], set()
    for suffix in _BANDS:
        bands = [_band(one, suffix) for one in (forecast, with_weather)]
        if bands[0] is None or bands[1] is None:
            continue
        without, told = (read_base(one, city, edited, Report()) for one in bands if one is not None)
        speed = _moved(base.speed, mean.speed, told.speed - without.speed, _SLOWEST)
        starts.append(Base(speed, _moved(base.flow, mean.flow, told.flow - without.flow, 0.0)))
        told_of.add(suffix)
    changes = _differs(mean.speed, base.speed) | _differs(mean.flow, base.flow)
    is_sure = told_of >= _OUTER
    if not is_sure:
        what = "the forecast has no 10 and 90 % quantiles"
        todo = (
            "how sure the effect of the weather is cannot be told: nothing that it changes has a "
            "range, and the noise alone says what is significant"
        )
        report.info("set_weather", what, todo)
    if not changes.any():
        model = with_weather.provenance.get("model", "the model")
        what = f"changes nothing: {model} forecasts the same"
        report.warning("set_weather", what, "it may not look at what was set, as baselines do not")
    held = weather_states(edited.weather, edited.time, zone)
    return Weather(tuple(starts), held, changes & (not is_sure))


def _differs(one: Floats, other: Floats) -> BoolArray:
    """Tell in which of T steps two forecasts are not the same, (T,)."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.asarray(~same.all(axis=1))


def _band(forecast: STGraph, suffix: str) -> STGraph | None:
    """Return a quantile of a forecast in place of its means of speeds and, if it has any, flows.

    None where one of them has no such quantile.
    """
    names = forecast.feature_names
    means = [at for at in (find_speed(forecast), find_flow(forecast)) if at is not None]
    found = [(position, f"{names[position]}{suffix}") for position, _ in means]
    if not found or any(name not in names for _, name in found):
        return None
    features = [forecast.features[position] for position, _ in found]
    at = [names.index(name) for _, name in found]
    return forecast.replace(
        values=forecast.values[..., at], mask=forecast.mask[..., at], features=tuple(features)
    )


def _moved(base: Floats, mean: Floats, shift: Floats, least: float) -> Floats:
    """Return the baseline moved as a quantile moves, or as the mean where there is none."""
    moved = base + np.where(np.isfinite(shift), shift, mean - base)
    return np.asarray(np.maximum(moved, np.fmin(base, least)))
