"""From where one can get to where, by open segments and allowed turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_town import make_time, make_town

from stgraph.scenario.editing import edit
from stgraph.scenario.reaching import find_reached
from stgraph.scenario.script import Scenario


def plain_search(
    source: list[int], target: list[int], is_open: list[bool], banned: set[tuple[int, int]]
) -> np.ndarray:
    """Return the same by walking from segment to segment."""
    n = max(*source, *target) + 1
    reached = np.eye(n, dtype=bool)
    for start in range(n):
        todo = [k for k, a in enumerate(source) if a == start and is_open[k]]
        seen = set(todo)
        while todo:
            now = todo.pop()
            reached[start, target[now]] = True
            for k, a in enumerate(source):
                if a == target[now] and is_open[k] and (now, k) not in banned and k not in seen:
                    seen.add(k)
                    todo.append(k)
    return reached


@settings(max_examples=30, deadline=None)
@given(
    closed=st.sets(st.integers(0, 12), max_size=8),
    banned=st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8),
)
def test_same_as_a_plain_search(closed: set[int], banned: set[tuple[int, int]]) -> None:
    """Protects every combination of closures and forbidden turns."""
    edited = edit(Scenario("test"), make_town(), make_time())
    turns = np.array(sorted(banned), dtype=np.int64).reshape(-1, 2).T
    state = replace(
        edited.baseline,
        is_open=~np.isin(np.arange(13), sorted(closed)),
        banned_turns=turns,
    )
    source, target = edited.roads.edge_index.tolist()
    wanted = plain_search(source, target, state.is_open.tolist(), banned)
    found = find_reached(edited, state, np.arange(6))
    assert all(found[a, b] == wanted[a, b] for a, b in product(range(6), repeat=2))
