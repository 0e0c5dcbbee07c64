"""Numbers for the names of links and junctions."""

from __future__ import annotations

import pytest
from stgraph_connectors.roads._names import to_numbers


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["7", "-12", "0"], [7, -12, 0]),
        ([7, 8.0], [7, 8]),
        (["7", "-1"], None),  # -1 says in `reverse_id` that there is none
        (["7", "07"], None),
        (["7", "a"], None),
    ],
)
def test_whole_numbers_stay_and_all_else_gets_numbers(
    names: list[object], numbers: list[int] | None
) -> None:
    """Protects ids that people know, and what -1 means."""
    found, are_names = to_numbers(names)
    assert are_names is (numbers is not None)
    assert len(set(found)) == len(names)
    assert numbers is None or found.tolist() == numbers
    assert -1 not in found
