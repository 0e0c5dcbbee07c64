"""One operation from its name and its keys, as a call or a scenario file has them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import shapely
from pydantic import BaseModel, ValidationError

from stgraph.binding import Origin, resolve_path
from stgraph.errors import nearest_name
from stgraph.report import Report
from stgraph.scenario.operations import KINDS, Operation
from stgraph.scenario.refusing import names_of, note_errors
from stgraph.scenario.sweeping import placeholders
from stgraph.scenario.target import Target, is_wkt, to_wkt
from stgraph.scenario.window import Window

_FORM = "write an operation and its fields, as in close: {name: A Avenue}"

# fields of an operation whose own fields may be given directly
_INNER: Mapping[str, type[BaseModel]] = {"target": Target, "window": Window}


def read_entry(entry: Any, *, where: str, origin: Origin) -> Operation | None:
    """Return an operation from an entry of a file, or None and everything that is wrong with it.

    Parameters
    ----------
    entry
        ``{"close": {"name": ...}}``, or ``{"op": "close", "name": ...}``.
    where
        Place of the entry for messages: ``"bridges.yaml, operation 2"``.
    origin
        Its folder makes relative paths absolute; its report collects what is wrong.
    """
    found = _kind_and_fields(entry, where, origin.report)
    if found is None:
        return None
    kind, fields = found
    where, n_found = f"{where} ({kind})", len(origin.report.errors)
    fields = _with_paths(fields, where, origin)
    if len(origin.report.errors) > n_found:
        return None
    unknown = sorted(placeholders(fields))
    if unknown:
        what = f"names {', '.join(f'${{{name}}}' for name in unknown)}"
        origin.report.error(where, f"{what}, which `sweep` does not have", "add it there")
        return None
    return build_operation(kind, fields, where=where, report=origin.report)


def _kind_and_fields(
    entry: Any, where: str, report: Report
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the name of an operation and its fields, from either form of an entry."""
    if not isinstance(entry, Mapping):
        todo = f"write it as in {entry}: {{name: A Avenue}}" if str(entry) in KINDS else _FORM
        report.error(where, f"cannot be {entry!r}", todo)
        return None
    if "op" in entry:
        kind, fields = entry["op"], {k: v for k, v in entry.items() if k != "op"}
    elif len(entry) == 1:
        ((kind, fields),) = entry.items()
    else:
        named = [key for key in entry if key in KINDS]
        todo = f"indent what belongs to `{named[0]}` below it" if len(named) == 1 else _FORM
        report.error(where, f"has the {len(entry)} keys {', '.join(map(str, entry))}", todo)
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        what = f"there is no operation {kind!r}{nearest_name(kind, KINDS, n=3)}"
        report.error(where, what, f"there are {', '.join(KINDS)}")
        return None
    if not isinstance(fields, Mapping):
        what = "has no fields" if fields is None else f"cannot be {fields!r}"
        report.error(f"{where} ({kind})", what, f"write it as in {kind}: {{name: A Avenue}}")
        return None
    return kind, fields


def _with_paths(fields: Mapping[str, Any], where: str, origin: Origin) -> dict[str, Any]:
    """Return fields with the files of a target, wherever it stands, as absolute paths."""
    found = dict(fields)
    for name in ("target", "from", "to"):
        if isinstance(found.get(name), Mapping):
            found[name] = _with_paths(found[name], f"{where} `{name}`", origin)
    for name in ("polygon", "within"):
        text = found.get(name)
        if isinstance(text, str) and text.strip() and not is_wkt(text):
            place = f"{where} `{name}`"
            found[name] = existing_file(text, place, origin)
    return found


def existing_file(text: str, where: str, origin: Origin) -> str:
    """Return the absolute path of a file, and note it if there is none."""
    n_found = len(origin.report.errors)
    path = resolve_path(text, where, origin)
    if len(origin.report.errors) == n_found and not Path(path).is_file():
        what = f"there is no file {path!r}"
        origin.report.error(where, what, "give the path from the folder of the scenario file")
    return path


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
    if "target" in _inner_of(model) and "target" not in values:
        misspelt = set(values) - set(names_of(model))  # its key, probably: one error is enough
        values["target"] = {"name": "?"} if misspelt else {}
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
