"""One scenario for every combination of some values: ``sweep = {kmh = [30, 40]}``, ``${kmh}``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from stgraph.report import Report

MAX_COMBINATIONS = 1000
FIELDS = ("seed", "method")  # of a scenario, that a sweep may set without a placeholder
_NAME = re.compile(r"[A-Za-z_]\w*")
_PLACEHOLDER = re.compile(r"\$\{(\w+)(:-[^}]*)?\}")


def expand_sweep(sweep: Any, where: str, report: Report) -> list[dict[str, Any]]:
    """Return every combination of the values of a sweep, the last name varying fastest.

    Parameters
    ----------
    sweep
        Name -> list of numbers or texts. None is one combination, of nothing.
    where
        Place of the sweep for messages.
    report
        Gets an error for whatever is no such list.
    """
    if sweep is None:
        return [{}]
    if not isinstance(sweep, Mapping) or not sweep:
        report.error(where, f"cannot be {sweep!r}", "write it as in sweep = {kmh = [30, 40, 50]}")
        return []
    n_found = len(report)
    for name, values in sweep.items():
        _check_values(name, values, where, report)
    if len(report) > n_found:
        return []
    n_all = math.prod(len(values) for values in sweep.values())
    if n_all > MAX_COMBINATIONS:
        report.error(where, f"has {n_all} combinations", f"give at most {MAX_COMBINATIONS}")
        return []
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def _check_values(name: str, values: Any, where: str, report: Report) -> None:
    """Note a name that has no list of different values."""
    place, todo = f"{where[:-1]}.{name}`", "give a list of numbers or texts, such as [30, 40, 50]"
    if not _NAME.fullmatch(name):
        report.error(place, "is no name", "use letters, digits and _")
    elif (
        not isinstance(values, list)
        or not values
        or any(
            isinstance(value, bool) or not isinstance(value, (int, float, str)) for value in values
        )
    ):
        report.error(place, f"cannot be {values!r}", todo)
    elif len(set(map(str, values))) < len(values):
        report.error(place, f"has a value twice: {values!r}", "give each of them once")


def fill_in(value: Any, swept: Mapping[str, Any]) -> Any:
    """Return a value with the placeholders of a sweep replaced, however deep they are.

    A text of nothing but a placeholder becomes the number or text itself. Other placeholders stay.
    """
    if isinstance(value, Mapping):
        return {name: fill_in(inner, swept) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill_in(inner, swept) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value.strip())
    if whole and whole[1] in swept:
        return swept[whole[1]]
    return _PLACEHOLDER.sub(lambda found: str(swept.get(found[1], found[0])), value)


def placeholders(value: Any) -> set[str]:
    """Return the names of all placeholders in a value, however deep they are."""
    if isinstance(value, Mapping):
        return set().union(*map(placeholders, value.values()))
    if isinstance(value, list):
        return set().union(*map(placeholders, value))
    return {match[1] for match in _PLACEHOLDER.finditer(value)} if isinstance(value, str) else set()


def name_of(name: str, swept: Mapping[str, Any]) -> str:
    """Return the name of one scenario of a sweep: "zone kmh=30", unless it has placeholders."""
    if placeholders(name) & set(swept):
        rest = {key: value for key, value in swept.items() if key not in placeholders(name)}
        name, swept = str(fill_in(name, swept)), rest
    words = ", ".join(f"{key}={value}" for key, value in swept.items())
    return f"{name} {words}".rstrip()
