"""Scenarios side by side: only what can be compared, and no winner where ranges overlap."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_results import make_result

from stgraph.errors import DataError, InputError
from stgraph.scenario.compare import better, compare, sweeps
from stgraph.scenario.report_page import render_report
from stgraph.scenario.result import ScenarioResult

METRICS = ["VHT", "mean speed", "VKT", "delay, operation 1 (close)"]


def with_change(
    result: ScenarioResult, name: str, change: float, spread: float | None, **more: Any
) -> ScenarioResult:
    """Return a result whose every metric changes by a number, give or take a spread."""
    ends = (np.nan, np.nan) if spread is None else (change - spread, change + spread)
    summary = pd.DataFrame(
        [(metric, "veh-h", 100.0, 100.0 + change, change, *ends) for metric in METRICS],
        columns=["metric", "unit", "base", "scenario", "change", "low", "high"],
    )
    return dataclasses.replace(result, name=name, summary=summary, run_id=f"run {name}", **more)


def test_table_has_a_row_per_metric_and_a_column_per_scenario(result: ScenarioResult) -> None:
    """The numbers of each result, unchanged."""
    tables = compare([with_change(result, "a", 10, 2), with_change(result, "b", 30, 5)])
    assert tables.change.index.tolist() == METRICS
    assert tables.change.loc["VHT"].to_dict() == {"a": 10, "b": 30}
    assert tables.low.loc["VHT"].to_dict() == {"a": 8, "b": 25}
    assert tables.scenario.loc["VHT"].to_dict() == {"a": 110, "b": 130}
    assert tables.base.loc["VHT"].tolist() == ["veh-h", 100]
    assert tables.to_frame().loc[0].to_dict() == {
        "metric": "VHT",
        "unit": "veh-h",
        "baseline": "100",
        "a": "+10 (+8 to +12) #1",
        "b": "+30 (+25 to +35) #2",
    }


def test_ranks_share_where_ranges_overlap(result: ScenarioResult) -> None:
    """12 ± 5 and 10 ± 2 cannot be told apart; 30 ± 5 is worse than both; more speed is better."""
    changes = {"a": (10, 2), "b": (12, 5), "c": (30, 5)}
    tables = compare([with_change(result, name, *c) for name, c in changes.items()])
    assert tables.rank.loc["VHT"].tolist() == [1, 1, 3]
    assert tables.rank.loc["mean speed"].tolist() == [2, 2, 1]
    assert tables.rank.loc["delay, operation 1 (close)"].isna().all()  # not of the whole


def test_changes_without_range_count_as_certain(result: ScenarioResult) -> None:
    """Numbers without a range are ranked as they stand."""
    tables = compare([with_change(result, "a", 2, None), with_change(result, "b", 1, None)])
    assert tables.rank.loc["VHT"].tolist() == [2, 1]
    assert tables.to_frame()["a"].iloc[0] == "+2 #2"


def test_noise_is_named_in_the_terminal(result: ScenarioResult) -> None:
    """A number that may be nothing has no rank there."""
    tables = compare([with_change(result, "a", 2, 4), with_change(result, "b", 20, 4)])
    assert tables.to_frame()["a"].iloc[0].endswith("noise")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 20)), min_size=2, max_size=6))
def test_better_scenarios_never_rank_behind(changes: list[tuple[float, float]]) -> None:
    """Property: whoever is better for sure has a smaller rank, whatever the order given."""
    made = make_result(hours=2)
    results = [with_change(made, f"s{i}", *change) for i, change in enumerate(changes)]
    tables = compare(results)
    rank = tables.rank.loc["VHT"]
    for i, (a, da) in enumerate(changes):
        for j, (b, db) in enumerate(changes):
            if a + da < b - db:
                assert rank[f"s{i}"] < rank[f"s{j}"]
    mirrored = compare(results[::-1]).rank.loc["VHT"]
    assert mirrored[rank.index].tolist() == rank.tolist()


def test_every_difference_is_found_at_once(result: ScenarioResult) -> None:
    """Baseline, horizon, zone and network are named with their scenario, all in one message."""
    other = make_result(hours=12, n_columns=5, start="2026-11-24 00:00")
    other = dataclasses.replace(other, name="b", run_id="x", baseline="another", zone="UTC")
    with pytest.raises(DataError, match="these scenarios cannot be compared: 4 problem") as caught:
        compare([result, other])
    text = str(caught.value)
    assert "scenario 2 ('b', run x)" in text
    assert "has the baseline 'another', the first one 'forecast of" in text
    assert "has the horizon 2026-11-23 23:00 to 2026-11-24 10:30 in 24 steps" in text
    assert "is in the zone 'UTC', not 'Europe/Berlin'" in text
    assert re.search(r"another network than the first one: it has \d+ others", text)


def test_same_run_twice_and_nothing(result: ScenarioResult) -> None:
    """A scenario is not compared with itself."""
    with pytest.raises(DataError, match="is the same run as the first one"):
        compare([result, result])
    with pytest.raises(InputError, match="`results` is empty"):
        compare([])
    assert compare([result]).rank.isna().all(axis=None)


def test_new_roads_are_no_other_network(result: ScenarioResult) -> None:
    """Scenarios that build different roads are compared; that is what planners compare."""
    links, edges = result.links, result.roads.edges
    assert edges is not None
    old = (edges["segment_id"] > 0).to_numpy()
    roads = result.roads.replace(
        edges=edges[old].reset_index(drop=True),
        edge_index=result.roads.edge_index[:, old],
        edge_weight=result.roads.edge_weight[old],
    )
    fewer = type(links)(**{name: part[:, old] for name, part in vars(links).items()})
    edits = result.edits[result.edits["op"] != "add_road"]
    other = with_change(result, "b", 5, 1, roads=roads, links=fewer, edits=edits)
    assert compare([with_change(result, "a", 3, 1), other]).rank.loc["VHT"].tolist() == [1, 1]
    assert render_report([with_change(result, "a", 3, 1), other]).count("<article") == 2


def test_methods_and_baselines_that_differ_are_noted(result: ScenarioResult) -> None:
    """Comparable, but the reader should know."""
    other = with_change(result, "b", 5, 1, method="diversion")
    other = dataclasses.replace(other, summary=other.summary.assign(base=130.0))
    tables = compare([with_change(result, "a", 3, 1), other])
    assert [f.level for f in tables.report] == ["warning"] * (1 + len(METRICS))
    assert "diversion" in str(tables.report)
    assert "the baseline of VHT differs by 23.1 %" in str(tables.report)


def test_same_names_are_told_apart_by_run(result: ScenarioResult) -> None:
    """Two runs of one scenario, with other seeds."""
    a, b = (dataclasses.replace(result, run_id=run) for run in ("r1", "r2"))
    assert compare([a, b]).change.columns.tolist() == [
        "South Street works (r1)",
        "South Street works (r2)",
    ]


def test_metrics_that_one_scenario_lacks(result: ScenarioResult) -> None:
    """A scenario without trips has no row of them, and no rank."""
    less = dataclasses.replace(
        result, name="b", run_id="b", summary=result.summary[result.summary["metric"] == "VHT"]
    )
    tables = compare([result, less])
    assert np.isnan(tables.change.loc["CO2", "b"])
    assert np.isnan(tables.rank.loc["CO2", "b"])
    assert tables.to_frame().set_index("metric").loc["CO2", "b"] == "–"
    render_report([result, less])


def swept(result: ScenarioResult) -> list[ScenarioResult]:
    """Return a sweep of three speeds and two methods of counting."""
    values: list[dict[str, Any]] = [
        {"kmh": kmh, "kind": kind} for kind in ("x", "y") for kmh in (50, 30, 40)
    ]
    return [
        with_change(result, str(i), v["kmh"] + (v["kind"] == "y"), 1.0, card={"swept": v})
        for i, v in enumerate(values)
    ]


def test_sweeps_are_lines_over_their_parameter(result: ScenarioResult) -> None:
    """Values rise along a line; other parameters make other lines; words make none."""
    tables = compare(swept(result))
    (table,) = sweeps(tables, "VHT").values()
    assert table["value"].tolist() == [30, 40, 50] * 2
    assert table["others"].tolist() == ["kind x"] * 3 + ["kind y"] * 3
    assert table["change"].tolist() == [30, 40, 50, 31, 41, 51]
    assert "VHT over kmh" in render_report(swept(result))
    assert sweeps(compare([with_change(result, n, 1, 1) for n in "ab"]), "VHT") == {}


def test_page_shows_the_table(result: ScenarioResult) -> None:
    """What `compare` gives is what the page says, each change with its range and rank."""
    several = [with_change(result, name, c, 2) for name, c in (("a", 10), ("b", 30), ("c", 1))]
    text = render_report(several)
    row = re.search(r'<tr><th scope="row">VHT.*?</tr>', text, re.DOTALL)
    assert row
    cells = re.findall(r"<td.*?</td>", row[0], re.DOTALL)
    values = [float(v) for cell in cells for v in re.findall(r'value="([^"]+)"', cell)]
    assert values == [100, 10, 30, 1]
    assert ["rank" in cell and cell.split("rank ")[1][0] for cell in cells[1:]] == ["2", "3", "1"]
    assert "cannot be told from noise" in cells[3]
    assert text.count('class="map small"') == 3


@pytest.mark.parametrize(
    ("metric", "sign"),
    [("VHT", -1), ("CO2", -1), ("mean speed", 1), ("jobs within 30 min", 1),
     ("trips over 5 min longer", -1), ("covered network", 0), ("OD time, p90", -1)],
)  # fmt: skip
def test_what_is_better(metric: str, sign: int) -> None:
    """A rank needs to know whether more is better."""
    assert better(metric) == sign
