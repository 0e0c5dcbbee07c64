"""What is fitted once for a city, and what it says about itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_demand, make_forecast, make_town

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.scenario.assignment import Drivers
from stgraph.scenario.fitting import fit_city


def make_history(hours: tuple[int, int] = (0, 24), known: int = 13) -> STGraph:
    """Return a week; flows only at some hours, on some segments."""
    time = pd.date_range("2026-11-16", periods=168, freq="h", tz="UTC")
    past = make_forecast(time=time)
    values = past.values[..., :2].copy()
    hour = np.asarray(time.hour)
    values[..., 1] = 10.0 * np.arange(1, 14) + hour[:, None]
    values[(hour < hours[0]) | (hour >= hours[1]), :, 1] = np.nan
    values[:, known:, 1] = np.nan
    return past.replace(values=values, features=past.features[:2], mask=np.isfinite(values))


def test_roads_alone() -> None:
    """Usual curves, nothing about drivers, and a warning about the curves only."""
    city = fit_city(make_town())
    assert (city.history, city.demand, city.driver_fit, city.learned) == (None,) * 4
    assert city.drivers == Drivers()
    assert city.baseline.is_open.all()
    np.testing.assert_array_equal(city.baseline.capacity_vph, city.streets.values.capacity_vph)
    (warning,) = city.report.warnings
    assert warning.where == "speed by flow"
    assert city.card()["drivers"] == "equilibrium"
    assert "history" not in city.card()
    assert "demand" not in city.card()


def test_demand_without_a_past_is_in_equilibrium() -> None:
    city = fit_city(make_town(), demand=make_demand())
    assert city.drivers.kind == "equilibrium"
    assert city.driver_fit is None
    assert [one.where for one in city.report.warnings] == ["speed by flow", "drivers"]


@pytest.mark.parametrize(
    ("hours", "known", "is_fitted"),
    [((0, 24), 13, True), ((8, 9), 13, True), ((0, 24), 3, True), ((0, 24), 2, False),
     ((0, 5), 13, False), ((0, 0), 13, False)],
)  # fmt: skip
def test_drivers_are_fitted_where_flows_by_day_are_known(
    hours: tuple[int, int], known: int, is_fitted: bool
) -> None:
    """On a fifth of the segments, in some hour between 6 and 21; nights alone will not do."""
    told: list[str] = []
    past = make_history(hours, known)
    city = fit_city(make_town(), history=past, demand=make_demand(), say=told.append)
    assert (city.driver_fit is not None) == is_fitted
    assert ("fitting drivers to usual flows" in told) == is_fitted
    assert ("fit of usual flows" in city.card()) == is_fitted
    assert city.drivers == (city.driver_fit.drivers if city.driver_fit else Drivers())


def test_the_card_names_the_past() -> None:
    card = fit_city(make_town(), history=make_history()).card()
    assert card["history"] == "168 hours from 2026-11-16 to 2026-11-22"
    assert card["segments"] == 13
    assert [row["road_class"] for row in card["curves"]] == ["primary", "residential", "secondary"]


def test_what_cannot_be_used() -> None:
    past = make_history()
    odd = past.replace(features=tuple(dataclasses.replace(f, unit="K") for f in past.features))
    with pytest.raises(DataError, match=r"the history cannot be used.*(?s:.)*has no speeds"):
        fit_city(make_town(), history=odd)
    with pytest.raises(DataError, match="the network cannot be used"):
        fit_city(past)
    with pytest.raises(DataError, match="knows none of the segments"):
        fit_city(make_town(segment_id=np.arange(100, 113)), history=past)
