"""Options of a config table are checked against the function they are for."""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import geopandas as gpd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from stgraph.binding import Origin, bind_options, resolve_path
from stgraph.report import Report

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


def read_demo(
    source: str | Path | gpd.GeoDataFrame,
    *,
    also: list[Path] | None = None,
    column: str = "ds",
    k: int = 8,
    radius_m: float | None = None,
    weight: Literal["length", "binary"] = "length",
    since: dt.datetime | None = None,
    limits: tuple[float, float] | None = None,
    names: dict[str, str] | None = None,
    odd: Unknown = None,
) -> None:
    """Have one parameter of every kind that connectors use."""


class Options(BaseModel):
    """A model's config."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    hidden_size: int = Field(64, ge=1)


def bind(table: dict[str, Any], function: Any = read_demo, **options: Any) -> tuple[dict, str]:
    report = Report()
    origin = Origin(report, options.pop("folder", Path("/base")), options.pop("environment", {}))
    bound = bind_options(function, table, where="job.toml, [data]", origin=origin, **options)
    return bound, "\n".join(str(finding) for finding in report)


def test_values_get_the_types_of_the_annotations() -> None:
    """TOML has no tuples and no paths; the function still gets them."""
    bound, findings = bind(
        {
            "source": "a/../b.csv",
            "also": ["c.csv", "/d.csv"],
            "column": "c.csv",
            "radius_m": 3,
            "limits": [0, 1],
            "since": dt.datetime(2024, 1, 2),  # noqa: DTZ001
            "names": {"a": "b"},
            "odd": "anything",
        }
    )
    assert findings == ""
    assert bound == {
        "source": "/base/b.csv",
        "also": [Path("/base/c.csv"), Path("/d.csv")],
        "column": "c.csv",  # a plain str is no path
        "radius_m": 3.0,
        "limits": (0.0, 1.0),
        "since": dt.datetime(2024, 1, 2),  # noqa: DTZ001
        "names": {"a": "b"},
        "odd": "anything",
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kk": 3}, r"\[data\] `kk`: is an unknown key \(did you mean 'k'\?\)"),
        ({"k": "8"}, r"`k`: cannot be '8'; give a valid integer"),
        ({"k": True}, r"`k`: cannot be True; give a valid integer"),
        ({"k": 2.5}, r"`k`: cannot be 2.5; give a valid integer"),
        ({"weight": "lenght"}, r"`weight`: cannot be 'lenght'; give 'length' or 'binary'"),
        ({"source": 3}, r"`source`: cannot be 3; give a valid string"),
        ({"limits": [1]}, r"`limits`: cannot be \[1\]; give"),
        ({"limits": [1, "x"]}, r"`limits`: .*a valid number \(item 1\)"),
        ({"source": " "}, r"`source`: cannot be ' '; give a path"),
        (
            {"source": "${HERE}/a"},
            r"`source`: names \$\{HERE\}, which is not set; run: export",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_what_to_do(table: dict[str, Any], message: str) -> None:
    """Every finding says the place, the value and the remedy."""
    findings = bind({"source": "a.csv", **table})[1]
    assert re.search(message, findings), findings


def test_missing_and_all_other_findings_come_together() -> None:
    """One run shows everything wrong, not the first only."""
    findings = bind({"k": "8", "kolumn": 1})[1]
    assert findings.count("\n") == 2
    assert "`source`: is missing; add `source = ...`" in findings


def test_leading_parameters_of_the_caller_are_no_options() -> None:
    """A sink's graph and path are passed by the pipeline."""
    assert bind({}, given=1)[1] == ""
    assert "`source`: is an unknown key" in bind({"source": "a"}, given=1)[1]


def test_pydantic_limits_of_a_model_config_hold() -> None:
    """A type may be right and the value still refused."""
    assert bind({"hidden_size": 8}, Options) == ({"hidden_size": 8}, "")
    assert "`hidden_size`: cannot be 0; give" in bind({"hidden_size": 0}, Options)[1]
    assert "did you mean 'hidden_size'" in bind({"hiden_size": 8}, Options)[1]


def test_environment_variables_in_paths() -> None:
    """`${NAME}` takes the variable, `${NAME:-x}` also where it is unset or empty."""
    origin = Origin(Report(), Path("/base"), {"DATA": "/mnt", "EMPTY": ""})
    assert resolve_path("${DATA}/a.csv", "", origin) == "/mnt/a.csv"
    assert resolve_path("${EMPTY:-../data}/a.csv", "", origin) == "/data/a.csv"
    assert resolve_path("$DATA/a.csv", "", origin) == "/base/$DATA/a.csv"


@given(st.text(st.characters(exclude_characters="$~\0", exclude_categories=["Cs"]), min_size=1))
def test_paths_without_variables_are_left_as_they_are(name: str) -> None:
    """Whatever a file is called, it is found in the config's folder."""
    if name.strip():
        report = Report()
        assert resolve_path(name, "", Origin(report, Path("/b"), {})) == os.path.normpath(
            f"/b/{name}" if not name.startswith("/") else name
        )
