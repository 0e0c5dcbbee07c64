"""The tree of errors and the hints for misspelt names."""

from __future__ import annotations

import pytest

from stgraph import errors


def test_tree() -> None:
    """Protects callers who catch by our base, or by the closest builtin."""
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(error, errors.STGraphError) for error in ours)
    for error in (
        errors.GraphError,
        errors.DataError,
        errors.ConfigError,
        errors.CheckpointError,
        errors.UnknownNameError,
    ):
        assert issubclass(error, errors.InputError)
        assert issubclass(error, ValueError)
    assert issubclass(errors.OutputError, OSError)
    assert issubclass(errors.TrainingError, RuntimeError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_docstring_shows_every_error() -> None:
    """Protects the drawing at the head of the module against growing old."""
    ours = [n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(name in str(errors.__doc__) for name in ours)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("geopakage", " (did you mean 'geopackage'?)"), ("xyz", ""), (None, ""), (7, "")],
)
def test_nearest_name(name: object, hint: str) -> None:
    assert errors.nearest_name(name, ["geopackage", "map"]) == hint


def test_several_nearest_names() -> None:
    """Streets are written in many ways: three are named, and capitals do not matter."""
    streets = ["A Avenue", "A Avenue Bridge", "B Avenue", "Cliff Road"]
    assert errors.nearest_names("a avenue", streets) == ["A Avenue", "B Avenue", "A Avenue Bridge"]
    hint = " (did you mean 'A Avenue', 'B Avenue' or 'A Avenue Bridge'?)"
    assert errors.nearest_name("a avenue", streets, n=3) == hint
    assert errors.nearest_name("cliff raod", streets, n=3) == " (did you mean 'Cliff Road'?)"
