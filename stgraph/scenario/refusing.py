"""What is wrong with a value that a model refuses: where it stands, and what is allowed there."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stgraph.binding import what_to_give
from stgraph.errors import nearest_name
from stgraph.report import Report

_MISSING = object()


class _Place(NamedTuple):
    """A field of a model, or of a model in it."""

    path: tuple[str, ...]  # names of fields, the outermost first
    model: type[BaseModel]  # the one that the last field belongs to


def note_errors(
    error: ValidationError,
    model: type[BaseModel],
    given: Mapping[str, Any],
    *,
    where: str,
    report: Report,
    also: Iterable[str] = (),
    flat: Iterable[str] = (),
    places: Mapping[str, str] | None = None,
    under: str = "",
) -> None:
    """Note every field that a model refused, however deep, with the value and what is allowed.

    Parameters
    ----------
    error
        What pydantic says.
    model, given
        The model and the values that it refused.
    where
        Place of the values for messages, such as ``"operation 2 (close)"``.
    report
        Gets one error per field.
    also
        Names that may stand beside the fields of the model, for the hint at the nearest ones.
    flat
        Names of fields whose own fields were given directly: ``target.name`` is called ``name``.
    places
        Field -> its place, where that is not `where`.
    under
        Name of the table that the fields stand in, as ``"horizon"``: then it is ``horizon.to``.
    """
    flat = set(flat)
    by_path: dict[tuple[str, ...], list[ErrorDetails]] = {}
    models: dict[tuple[str, ...], type[BaseModel]] = {}
    for item in error.errors():
        place = _locate(model, item["loc"])
        by_path.setdefault(place.path, []).append(item)
        models[place.path] = place.model
    for path, items in by_path.items():
        label = path[1:] if len(path) > 1 and path[0] in flat else path
        start = (places or {}).get(path[0], where) if path else where
        words = ".".join([*([under] if under else []), *label])
        place_words = f"{start} `{words}`" if words else start
        known = [*names_of(models[path]), *(also if len(path) == 1 else ())]
        _note(items, path, _value_at(given, path), known, place_words, report)


def names_of(model: type[BaseModel]) -> list[str]:
    """Return the names of the fields of a model, as a file has them."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    return [name for name in names if name != "op"]


def note_unknown(name: str, known: Iterable[str], where: str, report: Report) -> None:
    """Note a key that does not exist, with the three nearest that do."""
    known = sorted(set(known))
    what = f"is an unknown key{nearest_name(name, known, n=3)}"
    report.error(where, what, f"there are {', '.join(known)}")


def _note(
    items: list[ErrorDetails],
    path: tuple[str, ...],
    value: Any,
    known: list[str],
    where: str,
    report: Report,
) -> None:
    """Note what is wrong with one field."""
    kinds = {item["type"] for item in items}
    if "extra_forbidden" in kinds:
        note_unknown(path[-1], known, where, report)
        return
    if value is _MISSING:
        report.error(where, "is missing", f"add `{path[-1]}`")
        return
    rest = []
    for item in items:
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error" and isinstance(value, Mapping) and ";" in text:
            what, _, todo = text.partition("; ")  # fields that do not fit each other
            report.error(where, what, todo)
        else:
            rest.append(item)
    if rest:
        report.error(where, f"cannot be {_shown(value)}", what_to_give(rest))


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> _Place:
    """Return the field that a location of pydantic is about; the rest of it are items."""
    path: list[str] = []
    for part in loc:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if not isinstance(part, str):
            break
        path.append(part)
        inner = _model_in(fields[part].annotation) if part in fields else None
        if inner is None or len(path) == len(loc):
            break
        model = inner
    return _Place(tuple(path), model)


def _model_in(hint: Any) -> type[BaseModel] | None:
    """Return the model that an annotation allows, if there is one."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    inner = (_model_in(part) for part in typing.get_args(hint))
    return next((model for model in inner if model is not None), None)


def _value_at(given: Any, path: Iterable[str]) -> Any:
    """Return the value at a path of names."""
    for name in path:
        if not isinstance(given, Mapping):
            return given  # a short form, such as hours in place of a window
        given = given.get(name, _MISSING)
    return given


def _shown(value: Any) -> str:
    """Return a value as a message shows it; long ones are cut."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
