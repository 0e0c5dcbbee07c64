"""How much slower streets get with more traffic: curves from the past, or the usual ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_time, make_town

from stgraph.report import Report
from stgraph.scenario.editing import edit
from stgraph.scenario.history import History, build_history
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.traffic import SegmentTraffic
from stgraph.scenario.vdf import BPR, VDF, fit_vdf, inherit

CURVES = {"primary": (1.1, 0.6, 3.0), "secondary": (1.3, 2.0, 5.0), "residential": (1.0, 1.0, 2.0)}


def streets_of(town: object = None) -> Streets:
    found = read_streets(make_town() if town is None else town, Report())  # type: ignore[arg-type]
    assert found is not None
    return found


def made_past(streets: Streets, *, noise: float = 0.0, busy: float = 1.2) -> History:
    """Return 200 hours in which every class follows its curve."""
    rng = np.random.default_rng(0)
    E = len(streets)
    parts = np.array([CURVES[str(name)] for name in streets.values.road_class])
    load = rng.uniform(0.0, busy, (200, E))
    slower = parts[:, 0] * (1 + parts[:, 1] * load ** parts[:, 2])
    speed = streets.speed_kmh / slower * np.exp(noise * rng.standard_normal((200, E)))
    time = pd.date_range("2026-11-02", periods=200, freq="h", tz="UTC")
    flow = load * streets.values.capacity_vph
    return build_history(SegmentTraffic(time, "UTC", speed, flow))


def state_of(streets: Streets, **changes: np.ndarray) -> RoadState:
    values = {
        "is_open": np.ones(len(streets), dtype=bool),
        "speed_kmh": streets.speed_kmh,
        "lanes": streets.values.lanes,
        "capacity_vph": streets.values.capacity_vph,
        "banned_turns": np.zeros((2, 0), dtype=np.int64),
    }
    return RoadState(**{**values, **changes})


def test_curves_are_recovered_from_made_data() -> None:
    streets, report = streets_of(), Report()
    found = fit_vdf(streets, made_past(streets), report)
    table = found.classes.set_index("road_class")
    for name, wanted in CURVES.items():
        got = table.loc[name, ["factor", "alpha", "beta"]].to_numpy(dtype=float)
        np.testing.assert_allclose(got, wanted, rtol=0.03)
    assert table["is_fitted"].all()
    assert (table["n_hours"] > 190).all()
    assert found.is_fitted
    assert not report.findings


def test_noise_and_odd_values_do_not_spoil_a_curve() -> None:
    """Speeds of 0, gaps, and hours in which a street was narrowed are left out."""
    streets = streets_of()
    past = made_past(streets, noise=0.1)
    past.speed_kmh[0] = 0.0
    past.speed_kmh[1] = np.nan
    past.flow_vph[2] = np.nan
    past.share[3:20] = 0.5
    past.speed_kmh[3:20] = 2.0
    found = fit_vdf(streets, past, Report())
    flow = 0.8 * streets.values.capacity_vph
    parts = np.array([CURVES[str(name)] for name in streets.values.road_class])
    true = parts[:, 0] * (1 + parts[:, 1] * 0.8 ** parts[:, 2])
    got = found.minutes(flow, state_of(streets)) / (0.06 * streets.length_m / streets.speed_kmh)
    np.testing.assert_allclose(got, true, rtol=0.05)


@pytest.mark.parametrize("kind", ["none", "calm", "no flows", "few"])
def test_the_usual_curve_has_to_do_with_a_warning(kind: str) -> None:
    streets, report = streets_of(), Report()
    past = None if kind == "none" else made_past(streets, busy=0.3 if kind == "calm" else 1.2)
    if past is not None and kind == "no flows":
        past.flow_vph[:] = np.nan
    if past is not None and kind == "few":
        past.flow_vph[10:] = np.nan
    found = fit_vdf(streets, past, report)
    assert not found.is_fitted
    np.testing.assert_array_equal([found.factor, found.alpha, found.beta], np.tile(BPR, (13, 1)).T)
    (warning,) = report.warnings
    assert "'primary', 'residential', 'secondary'] have the usual curve" in warning.what
    assert warning.count == 3


def test_times_to_the_number() -> None:
    """1 km at 50 km/h takes 1.2 min; with 1.1 * (1 + 0.5 * 0.5 ** 2), 1.485 min."""
    streets = streets_of(make_town(length_m=1000.0, speed_kmh=50.0))
    ones = np.ones(13)
    vdf = VDF(1000 * ones, 1.1 * ones, 0.5 * ones, 2 * ones, pd.DataFrame({"is_fitted": [True]}))
    state = state_of(streets, capacity_vph=1000 * ones)
    np.testing.assert_allclose(vdf.free_minutes(state), 1.32)
    np.testing.assert_allclose(vdf.minutes(500 * ones, state), 1.485)
    np.testing.assert_allclose(vdf.minutes(np.tile(500 * ones, (2, 1)), state), 1.485)
    # half the capacity, half the speed; flows below 0 are none
    slow = state_of(streets, capacity_vph=500 * ones, speed_kmh=25 * ones)
    np.testing.assert_allclose(vdf.minutes(500 * ones, slow), 2.64 * 1.5)
    np.testing.assert_allclose(vdf.minutes(-5 * ones, slow), 2.64)


def test_times_are_finite_where_nobody_could_drive() -> None:
    streets = streets_of()
    vdf = fit_vdf(streets, None, Report())
    nothing = state_of(streets, speed_kmh=np.zeros(13), capacity_vph=np.zeros(13))
    assert np.isfinite(vdf.minutes(np.full(13, 100.0), nothing)).all()


def test_parts_and_new_roads_inherit() -> None:
    """Parts of a split street have its curve and their length; a new road that of its class."""
    streets = streets_of()
    vdf = fit_vdf(streets, made_past(streets), Report())
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    scenario = Scenario("b").add_road(id="New", geometry=line, kmh=30, road_class="residential")
    scenario = scenario.add_road(
        id="Way", geometry="LINESTRING (10.0 50.0, 10.003 50.003)", kmh=30, road_class="motorway"
    )
    edited = edit(scenario, make_town(), make_time())
    after = read_streets(edited.roads, Report())
    assert after is not None
    found = inherit(vdf, edited.parent, after)
    np.testing.assert_array_equal(found.alpha[:13], vdf.alpha)
    parts = np.flatnonzero((edited.parent >= 0) & (np.arange(len(edited.parent)) >= 13))
    assert len(parts) >= 4
    np.testing.assert_array_equal(found.alpha[parts], vdf.alpha[edited.parent[parts]])
    np.testing.assert_allclose(found.length_m, after.length_m)
    new = np.flatnonzero(edited.parent < 0)
    table = vdf.classes.set_index("road_class")
    for row in new:
        name = str(after.values.road_class[row])
        wanted = table.loc[name, "alpha"] if name in table.index else BPR[1]
        assert found.alpha[row] == wanted
    assert {"residential", "motorway"} <= {str(after.values.road_class[row]) for row in new}
