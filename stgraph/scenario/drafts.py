"""Scenarios as their files have them, each with what it takes over from those that it extends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from stgraph.errors import ConfigError, nearest_name
from stgraph.report import Report
from stgraph.scenario.documents import load_document
from stgraph.scenario.refusing import note_unknown

# tables whose keys are taken over one by one; everything else is taken over, or replaced, whole
MERGED = ("baseline", "horizon", "outputs")
_OWN = ("name", "operations", "extends", "sweep", "description", "based_on", "swept")
_SHARED = ("version", "timezone", "method", "demand", "seed", *MERGED)
_EITHER = {"baseline.job": "baseline.forecast", "baseline.forecast": "baseline.job"}


class Given(NamedTuple):
    """A value of a file, and where it stands."""

    value: Any
    file: Path
    where: str  # for messages: "bridges.yaml, scenario 'north'"


@dataclass(frozen=True, eq=False)
class Draft:
    """A scenario as its file has it: nothing is checked but the names of its fields."""

    name: str
    file: Path
    where: str
    fields: Mapping[str, Given] = field(default_factory=dict)  # keys of MERGED as "horizon.from"
    shared: Mapping[str, Given] = field(default_factory=dict)  # the same, beside the list
    operations: tuple[Given, ...] = ()
    sweep: Any = None
    extends: Given | None = None
    based_on: str | None = None


def read_drafts(path: Path, report: Report) -> list[Draft]:
    """Return the scenarios of a file, with what they extend.

    Raises
    ------
    ConfigError
        The file cannot be read; what is wrong in it goes to the report.
    """
    cache = {path.resolve(): _split(load_document(path), path, report)}
    drafts = cache[path.resolve()]
    return [_extend(draft, cache, report, ()) for draft in drafts]


def _split(document: Mapping[str, Any], path: Path, report: Report) -> list[Draft]:
    """Return every scenario of a document with what they share."""
    if "scenario" not in document:
        return [_draft(document, {}, path, path.name, path.stem, report)]
    shared = {key: value for key, value in document.items() if key != "scenario"}
    for key in shared:
        if key in _OWN:
            todo = "put it into one of the scenarios"
            report.error(f"{path.name} `{key}`", "stands beside the list `scenario`", todo)
        elif key not in _SHARED:
            note_unknown(key, [*_SHARED, "scenario"], f"{path.name} `{key}`", report)
    common = _fields({k: v for k, v in shared.items() if k in _SHARED}, path, path.name, report)
    tables = document["scenario"]
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        report.error(f"{path.name} `scenario`", "is no list of tables", "write a list")
        return []
    if not tables:
        report.error(f"{path.name} `scenario`", "is an empty list", "write one at least")
    drafts: list[Draft] = []
    for number, table in enumerate(tables, start=1):
        name = table.get("name")
        label = repr(name) if isinstance(name, str) else str(number)
        where = f"{path.name}, scenario {label}"
        if name is None:
            report.error(f"{where} `name`", "is missing", "give every scenario a name of its own")
        draft = _draft(table, common, path, where, label, report)
        if draft.name in [other.name for other in drafts]:
            report.error(f"{where} `name`", f"{name!r} is given twice", "choose another name")
        drafts.append(draft)
    return drafts


def _draft(
    table: Mapping[str, Any],
    shared: Mapping[str, Given],
    path: Path,
    where: str,
    name: str,
    report: Report,
) -> Draft:
    """Return one scenario of a file."""
    for key in table:
        if key not in (*_OWN, *_SHARED):
            note_unknown(key, [*_OWN, *_SHARED], f"{where} `{key}`", report)
    own = {key: value for key, value in table.items() if key in _SHARED}
    fields = _fields(own, path, where, report)
    for key in ("description", "based_on", "swept"):
        if key in table:
            fields[key] = Given(table[key], path, where)
    operations = table.get("operations", [])
    if not isinstance(operations, list):
        todo = "write a list, each entry as in close: {name: A Avenue}"
        report.error(f"{where} `operations`", f"is a {_kind_of(operations)}", todo)
        operations = []
    given = table.get("name", name)
    if not isinstance(given, str) or not given.strip():
        report.error(f"{where} `name`", f"cannot be {given!r}", "give a text")
        given = name
    extends = Given(table["extends"], path, where) if "extends" in table else None
    return Draft(
        name=given.strip(),
        file=path,
        where=where,
        fields=fields,
        shared=shared,
        operations=tuple(
            Given(entry, path, f"{where}, operation {number}")
            for number, entry in enumerate(operations, start=1)
        ),
        sweep=table.get("sweep"),
        extends=extends,
    )


def _fields(table: Mapping[str, Any], path: Path, where: str, report: Report) -> dict[str, Given]:
    """Return the fields of a table, the keys of some tables in it one by one."""
    fields: dict[str, Given] = {}
    for key, value in table.items():
        if key not in MERGED:
            fields[key] = Given(value, path, where)
        elif isinstance(value, Mapping):
            fields |= {f"{key}.{inner}": Given(v, path, where) for inner, v in value.items()}
        else:
            report.error(f"{where} `{key}`", f"cannot be {value!r}", "give a table")
    return fields


def _update(fields: dict[str, Given], more: Mapping[str, Given]) -> None:
    """Put further fields in the place of those that are there."""
    for key in more:
        if key in _EITHER and _EITHER[key] not in more:
            fields.pop(_EITHER[key], None)
    fields.update(more)


def _extend(
    draft: Draft, cache: dict[Path, list[Draft]], report: Report, chain: tuple[Draft, ...]
) -> Draft:
    """Return a scenario with what it takes over.

    Its own fields come before those of the one that it extends, and these before those that the
    scenarios of its file share.
    """
    fields = dict(draft.shared)
    if draft.extends is None:
        _update(fields, draft.fields)
        return replace(draft, fields=fields)
    place = f"{draft.where} `extends`"
    if draft in chain:
        names = [repr(one.name) for one in chain[chain.index(draft) :]]
        what = f"is a circle: {' extends '.join([*names, names[0]])}"
        report.error(place, what, "let one of them stand for itself")
        return draft
    parent = _find(draft.extends, cache, place, report)
    if parent is None:
        return draft
    parent = _extend(parent, cache, report, (*chain, draft))
    _update(fields, {key: one for key, one in parent.fields.items() if key not in _OWN})
    _update(fields, draft.fields)
    sweep = draft.sweep
    if isinstance(parent.sweep, Mapping) and isinstance(sweep or {}, Mapping):
        sweep = {**parent.sweep, **(sweep or {})}
    return replace(
        draft,
        fields=fields,
        operations=(*parent.operations, *draft.operations),
        sweep=sweep,
        based_on=parent.name,
    )


def _find(
    extends: Given, cache: dict[Path, list[Draft]], place: str, report: Report
) -> Draft | None:
    """Return the scenario of a name, in the same file or as ``other.yaml#name``."""
    wanted = extends.value
    if not isinstance(wanted, str) or not wanted.strip():
        todo = 'give the name of a scenario, or "file.yaml#name"'
        report.error(place, f"cannot be {wanted!r}", todo)
        return None
    own = {draft.name: draft for draft in cache[extends.file.resolve()]}
    if wanted in own:
        return own[wanted]
    other, mark, name = wanted.rpartition("#")
    other, name = (other, name) if mark else (wanted, "")
    if not other.lower().endswith((".toml", ".yaml", ".yml")):
        what = f"there is no scenario {wanted!r} here{nearest_name(wanted, own, n=3)}"
        report.error(place, what, 'give the name of one, or "file.yaml#name"')
        return None
    file = extends.file.parent / Path(other).expanduser()
    if file.resolve() not in cache:
        try:
            document = load_document(file)
        except ConfigError as error:
            report.error(place, str(error))
            return None
        cache[file.resolve()] = _split(document, file, report)
    drafts = cache[file.resolve()]
    names = [draft.name for draft in drafts]
    if not name and len(drafts) == 1:
        return drafts[0]
    if name in names:
        return drafts[names.index(name)]
    what = f"{other} has no scenario {name!r}{nearest_name(name, names, n=3)}"
    if not name:
        what = f"{other} has {len(names)} scenarios"
    report.error(place, what, f"write one of them, as in {other}#{next(iter(names), 'name')}")
    return None


def _kind_of(value: Any) -> str:
    """Return what kind of thing a value of a file is."""
    return "table" if isinstance(value, Mapping) else repr(value)
