"""Check the options of a config table against the signature of the function they are for."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails

from stgraph import registry
from stgraph.errors import InputError, nearest_name
from stgraph.report import Report

# ${NAME} or ${NAME:-default}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")

# parameters that take a connection string, which is kept as a secret -> an example of one
SECRETS = {"dsn": "service=traffic", "database_url": "postgresql://user@host/database"}

_WORDS = {  # of pydantic -> so that they follow after "give"
    "greater than or equal to": "a number of at least",
    "less than or equal to": "a number of at most",
    "greater than": "a number above",
    "less than": "a number below",
    "a valid boolean": "true or false",
    "Field required": "one more value",
    "Tuple should have at least 1 item after validation, not 0": "at least one",
}


class Origin(NamedTuple):
    """Where the values of a config come from, and where findings about them go."""

    report: Report
    folder: Path | None = None  # what relative paths are relative to; None leaves them alone
    environment: Mapping[str, str] = os.environ  # what ``${NAME}`` in a path may name


def bind_options(
    function: Callable[..., Any],
    table: Mapping[str, Any],
    *,
    where: str,
    origin: Origin,
    given: int = 0,
    supplied: Collection[str] = (),
    also: Collection[str] = (),
) -> dict[str, Any]:
    """Return the options of a table as keyword arguments that fit a function.

    Parameters
    ----------
    function
        Any function or class with named parameters; its annotations say what a value may be.
    table
        Option names and values as TOML gives them.
    where
        Place of the table for messages, such as ``"job.toml, [graph]"``.
    origin
        Its report collects unknown and missing names and values of another type. A parameter
        takes a path, resolved from its folder, when the annotation mentions `pathlib.Path` or
        `os.PathLike`. The parameters `dsn` (libpq) and `database_url` (SQLAlchemy) take connection
        strings, which are kept as secrets.
    given
        How many leading parameters the caller passes itself; they are no options.
    supplied
        Names of further parameters that the caller passes itself.
    also
        Other names that the table may hold, for the hint at the nearest one.

    Returns
    -------
    dict
        Keyword arguments with the types of the annotations; only the names found in `table`.
    """
    parameters = _options_of(function, given)
    for name in supplied:
        parameters.pop(name, None)
    hints = hints_of(function)
    known = sorted({*parameters, *also})
    bound: dict[str, Any] = {}
    for name, value in table.items():
        place = f"{where} `{name}`"
        if name in SECRETS and name in parameters:
            bound[name] = resolve_dsn(value, place, origin, option=name)
        elif name in parameters:
            hint = hints.get(name, Any)
            if _takes_path(hint):
                value = _resolve_all(value, place, origin)
            bound[name] = convert(value, hint, place, origin)
        else:
            what = f"is an unknown key{nearest_name(name, known)}"
            origin.report.error(place, what, f"there are {known}")
    if inspect.isclass(function) and issubclass(function, BaseModel):
        _check_model(function, bound, where, origin.report)
        return bound
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in table:
            origin.report.error(f"{where} `{name}`", "is missing", f"add `{name} = ...`")
    return bound


def resolve_path(text: str, where: str, origin: Origin) -> str:
    """Return a path of a config with its variables filled in, absolute where a folder is given."""
    filled = _fill_variables(text, where, origin)
    if filled is None:
        return text
    if "\0" in text or not text.strip():
        origin.report.error(where, f"cannot be {text!r}", "give a path")
        return text
    path = Path(filled).expanduser()
    return str(path) if origin.folder is None else os.path.normpath(origin.folder / path)


def resolve_dsn(
    value: object, where: str, origin: Origin, *, option: str = "dsn"
) -> SecretStr | None:
    """Return a connection string with its variables filled in; no message shows what it holds."""
    if not isinstance(value, str):
        todo = f'give a connection string: "{SECRETS[option]}"'
        origin.report.error(where, "is no text", todo)
        return None
    filled = _fill_variables(value, where, origin)
    if filled is None:
        return None
    try:
        if option == "dsn":
            registry.load("database", "describe")(filled)
        else:  # a relative SQLite file is beside the config, as all paths are
            filled = str(registry.load("database", "resolve_url")(filled, origin.folder))
    except InputError as error:
        origin.report.error(where, str(error).removeprefix(f"`{option}` "))
        return None
    return SecretStr(filled)


def _fill_variables(text: str, where: str, origin: Origin) -> str | None:
    """Return a text with the values of its variables; None, and a finding, if one is not set."""
    environment = origin.environment
    missing = [
        match["name"]
        for match in _VARIABLE.finditer(text)
        if match["default"] is None and not environment.get(match["name"])
    ]
    if missing:
        todo = f"run: export {missing[0]}=..."
        origin.report.error(where, f"names ${{{missing[0]}}}, which is not set", todo)
        return None
    return _VARIABLE.sub(lambda found: environment.get(found["name"]) or found["default"], text)


def note_refused(
    error: ValidationError, given: Mapping[str, Any], where: str, report: Report
) -> None:
    """Note every key that pydantic refused, and what several keys say together."""
    items = error.errors()
    for item in items:
        if not item["loc"]:  # of the model as a whole
            what, _, todo = item["msg"].removeprefix("Value error, ").partition("; ")
            report.error(where, what, todo)
    for key in dict.fromkeys(str(item["loc"][0]) for item in items if item["loc"]):
        if key in given:
            own = [item for item in items if item["loc"][:1] == (key,)]
            report.error(f"{where} `{key}`", f"cannot be {given[key]!r}", what_to_give(own))
        else:
            report.error(f"{where} `{key}`", "is missing", f"add `{key} = ...`")


def what_to_give(items: Iterable[ErrorDetails]) -> str:
    """Return what to give instead of one value, from what pydantic says about it."""
    texts = []
    for item in items:
        if item["type"] != "needs_python_object":  # the branch for objects passed in Python
            text = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            for words, better in _WORDS.items():
                text = text.replace(words, better)
            place = next((part for part in item["loc"] if isinstance(part, int)), None)
            texts.append(text if place is None else f"{text} (item {place})")
    return "give " + (" or ".join(dict.fromkeys(texts)) or "another type of value")


def convert(value: Any, hint: Any, where: str, origin: Origin) -> Any:
    """Return a TOML value as the annotated type, or note that it is none."""
    nested = next((part for part in (hint, *typing.get_args(hint)) if _is_record(part)), None)
    if nested is not None and isinstance(value, Mapping):
        return _convert_table(value, nested, where, origin)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            hint, config=None if _is_record(hint) else ConfigDict(arbitrary_types_allowed=True)
        )
    except (PydanticSchemaGenerationError, PydanticUserError):
        return value  # an annotation pydantic cannot read: the function itself will check
    try:
        # through JSON: strict about 8 and "8", lenient where TOML has no type of its own (tuples)
        return adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        origin.report.error(where, f"cannot be {value!r}", what_to_give(error.errors()))
        return value


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations as types; those that only a type checker can see are left out."""
    target: Any = function
    if inspect.isclass(function) and not _is_record(function):
        target = function.__init__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError:
        return dict(_hints_one_by_one(target))


def _convert_table(table: Mapping[str, Any], record: Any, where: str, origin: Origin) -> Any:
    """Return a nested table as the dataclass it is meant for."""
    before = len(origin.report.errors)
    bound = bind_options(record, table, where=where, origin=origin)
    if len(origin.report.errors) > before:
        return None
    try:
        return record(**bound)
    except ValueError as error:  # our own errors are value errors too
        origin.report.error(where, str(error))
        return None


def _is_record(hint: Any) -> bool:
    """Tell whether an annotation is a dataclass or a pydantic model."""
    return inspect.isclass(hint) and (dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel))


def _check_model(
    model: type[BaseModel], bound: Mapping[str, Any], where: str, report: Report
) -> None:
    """Note values that a pydantic model refuses although their type is right."""
    if report.errors:
        return  # of a wrong type already
    try:
        model(**bound)
    except ValidationError as error:
        note_refused(error, bound, where, report)


def _options_of(function: Callable[..., Any], given: int) -> dict[str, inspect.Parameter]:
    """Return the parameters that may be named, without the leading ones the caller passes."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(function).parameters.values())[given:]
    return {parameter.name: parameter for parameter in parameters if parameter.kind in kinds}


def _hints_one_by_one(target: Any) -> Iterator[tuple[str, Any]]:
    """Yield the annotations that can be resolved."""
    names = getattr(inspect.unwrap(target), "__globals__", {})
    for name, hint in inspect.get_annotations(target).items():
        holder = type("holder", (), {"__annotations__": {name: hint}})
        try:
            yield name, typing.get_type_hints(holder, globalns=names, include_extras=True)[name]
        except NameError:
            continue


def _takes_path(hint: Any) -> bool:
    """Tell whether a path may be given."""
    if any(isinstance(kind, type) and issubclass(kind, os.PathLike) for kind in _kinds(hint)):
        return True
    return any(_takes_path(part) for part in typing.get_args(hint))


def _kinds(hint: Any) -> tuple[Any, Any]:
    """Return an annotation and what it is an alias of: ``PathLike[str]`` and ``PathLike``."""
    return hint, typing.get_origin(hint)


def _resolve_all(value: Any, where: str, origin: Origin) -> Any:
    """Return a path value, or the paths of a list of them, made absolute."""
    if isinstance(value, list):
        return [_resolve_all(item, where, origin) for item in value]
    return resolve_path(value, where, origin) if isinstance(value, str) else value
