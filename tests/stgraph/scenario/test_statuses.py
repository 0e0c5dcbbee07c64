"""What a map says about a segment."""

from __future__ import annotations

import numpy as np
from scenario_town import LAT, LON, STEP, make_time, make_town

from stgraph.scenario.editing import edit
from stgraph.scenario.result import STATUS
from stgraph.scenario.script import Scenario
from stgraph.scenario.statuses import segment_status


def test_status_of_every_kind_of_segment() -> None:
    """Protects the words on the map: by hand, before and after noon."""
    line = f"LINESTRING ({LON + STEP / 2} {LAT}, {LON + STEP} {LAT + STEP})"
    scenario = (
        Scenario("test", timezone="UTC")
        .add_road(id="New", geometry=line, kmh=30, from_="2026-11-23 12:00")
        .close(edges=[12], direction="forward", from_="2026-11-23 12:00")
        .set_speed(edges=[14], kmh=20)
        .remove_road(edges=[18])
        .ban_turn(from_={"edges": [17]}, to={"edges": [21]})
    )
    edited = edit(scenario, make_town(), make_time())
    words = np.array(STATUS)[segment_status(edited)[edited.period_of]]
    ids = edited.roads.edges["segment_id"].tolist()  # type: ignore[index]
    before, after = (dict(zip(ids, words[hour], strict=True)) for hour in (0, 12))
    wanted = {
        10: "removed", 11: "removed", 12: "closed", 13: "normal", 14: "changed", 15: "normal",
        16: "normal", 17: "changed", 18: "removed", 19: "removed", 20: "normal", 22: "normal",
    }  # fmt: skip
    assert {number: after[number] for number in wanted} == wanted
    assert before[12] == "normal"
    parts, new = np.array(ids)[13:17], np.array(ids)[17:]
    assert [after[number] for number in parts] == ["normal"] * 4
    assert [before[number] for number in new] == ["closed"] * 2
    assert [after[number] for number in new] == ["new"] * 2


def test_no_edit_is_normal() -> None:
    edited = edit(Scenario("test", timezone="UTC"), make_town(), make_time())
    assert not segment_status(edited).any()


def test_a_turn_that_is_forbidden_changes_the_street_it_leaves() -> None:
    scenario = Scenario("test").ban_turn(from_={"edges": [10]}, to={"edges": [20]})
    edited = edit(scenario, make_town(), make_time())
    assert segment_status(edited)[0].tolist() == [STATUS.index("changed")] + [0] * 12
