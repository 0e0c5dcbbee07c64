"""One operation from its name and its keys, as a call or a scenario file has them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

import shapely
from pydantic import BaseModel, ValidationError

from stgraph.report import Report
from stgraph.scenario.operations import KINDS, Operation
from stgraph.scenario.refusing import names_of, note_errors
from stgraph.scenario.target import Target, to_wkt
from stgraph.scenario.window import Window

# fields of an operation whose own fields may be given directly
_INNER: Mapping[str, type[BaseModel]] = {"target": Target, "window": Window}


def build_operation(
    kind: str, given: Mapping[str, Any], *, where: str, report: Report
) -> Operation | None:
    """Return an operation, or None and everything that is wrong with it.

    Parameters
    ----------
    kind
        Its name: a key of `KINDS`.
    given
        Its fields. Those of its target and window may stand among them or in `target` and
        `window`.
    where
        Place of the operation for messages.
    report
        Gets one error per field that cannot be used.
    """
    model = KINDS[kind]
    values, flat = _gather(model, given, where, report)
    if values is None:
        return None
    try:
        text = json.dumps(values, default=to_json)
        # through JSON: strict about 8 and "8", lenient about lists and times as text
        return model.model_validate_json(text, strict=True)  # type: ignore[return-value]
    except ValidationError as error:
        plain = json.loads(text)
        also = [key for name in _inner_of(model) for key in _keys_of(name, model)]
        note_errors(error, model, plain, where=where, report=report, also=also, flat=flat)
        return None


def _gather(
    model: type[BaseModel], given: Mapping[str, Any], where: str, report: Report
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the fields with those of target and window in their place, and which these were."""
    values = dict(given)
    flat, n_found = [], len(report.errors)
    for name in _inner_of(model):
        keys = [key for key in _keys_of(name, model) if key in values]
        inner = {key: values.pop(key) for key in keys}
        if inner and values.get(name) is not None:
            what = f"is given, and so is {' and '.join(f'`{key}`' for key in inner)} beside it"
            report.error(f"{where} `{name}`", what, f"put all of it into `{name}`, or nothing")
        elif inner:
            values[name] = inner
            flat.append(name)
    if "target" in _inner_of(model):
        values.setdefault("target", {})
    return (values if len(report.errors) == n_found else None), flat


def _inner_of(model: type[BaseModel]) -> list[str]:
    """Return which of target and window a kind of operation has."""
    return [name for name in _INNER if name in model.model_fields]


def _keys_of(name: str, model: type[BaseModel]) -> list[str]:
    """Return which keys of a target or window may stand among those of the operation."""
    own = names_of(model)
    return [key for key in names_of(_INNER[name]) if key not in own]


def to_json(value: Any) -> Any:
    """Return what JSON has no type for: models, geometries, times, paths, arrays, iterables."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, shapely.Geometry):
        return to_wkt(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.date):
        return f"{value}T00:00"
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # arrays and single numbers of numpy and pandas
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return list(value)
    return str(value)
