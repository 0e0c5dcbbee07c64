"""Conditions on columns are read, and never run."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.scenario.conditions import find_rows

TABLE = {
    "lanes": pd.Series([1.0, 2.0, np.nan, 3.0]),
    "name": pd.Series(["A", "B", None, "A"]),
    "oneway": pd.Series([True, False, False, True]),
    "tunnel": pd.Series(["yes", "no", None, "True"], dtype=object),
    "limit": pd.Series([2.0, 2.0, 2.0, 2.0]),
}


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("lanes > 1", [1, 3]),
        ("lanes >= 1 and lanes <= 2", [0, 1]),
        ("1 < lanes < 3", [1]),
        ("2 <= lanes", [1, 3]),
        ("lanes != 1", [1, 3]),  # what is missing compares with nothing
        ("not lanes == 1", [1, 2, 3]),
        ("lanes is None", [2]),
        ("lanes is not None and name == 'A'", [0, 3]),
        ("name in ('A', 'C')", [0, 3]),
        ("name not in ['A']", [1]),
        ("name == 'B' or lanes == 3", [1, 3]),
        ("not (name == 'B' or lanes == 3)", [0, 2]),
        ("oneway", [0, 3]),
        ("not oneway", [1, 2]),
        ("oneway == False", [1, 2]),
        ("tunnel == True", [3]),
        ("lanes > limit", [3]),
        ("lanes > -1", [0, 1, 3]),
        ("name < 'B'", [0, 3]),
        ("  lanes == 2  ", [1]),
    ],
)
def test_conditions(condition: str, rows: list[int]) -> None:
    assert np.flatnonzero(find_rows(condition, TABLE, 4)).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("lanes", "texts|cannot|holds"),
        ("lane == 1", r"no column 'lane' \(did you mean 'lanes'\?\)"),
        ("lanes = 1", "write == for ="),
        ("lanes <> 1", "write != for <>"),
        ("lanes == 1 AND name == 'A'", "write and for AND"),
        ("lanes is NULL", "None alone"),
        ("lanes == None", "is None"),
        ("lanes == 'x'", "has numbers"),
        ("name == 1", "has texts"),
        ("lanes + 1 == 2", "no column"),
        ("__import__('os').system('true') == 0", "no column"),
        ("name.upper() == 'A'", "no column"),
        ("[x for x in lanes]", "no comparison"),
        ("lambda: 1", "no comparison"),
        ("(lanes := 1) == 1", "no column"),
        ("name in 'A'", "no list"),
        ("1 == 1", "no column"),
        ("", "cannot be read"),
        ("lanes >", "cannot be read"),
        ("(" * 400 + "lanes" + ")" * 400, "cannot be read"),
        ("lanes == 1 or " * 100 + "lanes == 1", "characters long"),
        ("name > 'A' > 3", "no column|texts"),
    ],
)
def test_what_cannot_be_read_is_an_error(condition: str, words: str) -> None:
    """Protects the machine: only comparisons of columns with what is written out."""
    if condition == "lanes":
        assert not find_rows(condition, TABLE, 4).any()  # a number is not True
        return
    with pytest.raises(InputError, match=words):
        find_rows(condition, TABLE, 4)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Protects against anything else than InputError."""
    with contextlib.suppress(InputError):
        assert find_rows(text, TABLE, 4).shape == (4,)
