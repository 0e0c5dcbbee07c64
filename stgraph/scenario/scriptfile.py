"""Scenarios in files: one or several, that extend others, with sweeps; and back to YAML.

Relative paths are relative to the file that they stand in, and ``${NAME}`` in a path is an
environment variable, as in the config of a job.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from stgraph.binding import Origin
from stgraph.errors import ConfigError, nearest_name
from stgraph.report import Report
from stgraph.scenario.documents import dump_yaml
from stgraph.scenario.drafts import MERGED, Draft, Given, read_drafts
from stgraph.scenario.entries import read_entry, to_json
from stgraph.scenario.operations import AddDemand, Operation, ScaleDemand
from stgraph.scenario.script import Scenario, build_scenario, check_script
from stgraph.scenario.settings import read_settings
from stgraph.scenario.sources import DemandSource, Source
from stgraph.scenario.sweeping import FIELDS, expand_sweep, fill_in, name_of, placeholders

Need = Literal["roads", "forecast", "demand"]


def read_scenarios(
    path: str | Path,
    *,
    needs: Collection[Need] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[Scenario, ...]:
    """Read all scenarios of a file, a sweep as one scenario for every combination.

    Parameters
    ----------
    path
        ``.toml``, ``.yaml`` or ``.yml``, UTF-8: the fields of one scenario, or a list of them in
        `scenario` beside what they share.
    needs
        What every scenario has to name because nobody gives it in Python: ``"roads"``,
        ``"forecast"`` (that or a job), ``"demand"`` (if there are operations on it).
    environment
        Variables for ``${NAME}`` in paths. None means those of the process.

    Returns
    -------
    tuple of Scenario
        In the order of the file, with absolute paths, `extends` and `sweep` resolved.

    Raises
    ------
    ConfigError
        Lists everything that is wrong with all of them.
    """
    path = Path(path)
    report = Report()
    origin = Origin(report, None, os.environ if environment is None else environment)
    memo: dict[str, Any] = {}
    found = [
        (draft, scenario)
        for draft in read_drafts(path, report)
        for scenario in _read_draft(draft, origin, memo)
    ]
    for draft, scenario in found:
        check_script(scenario, report, where=f"{draft.where}, ")
        _check_needs(scenario, needs, draft.where, report)
    scenarios = tuple(scenario for _, scenario in found)
    _check_names(scenarios, path.name, report)
    report.findings[:] = dict.fromkeys(report.findings)  # those of what several extend
    report.raise_errors(ConfigError, title=f"{path} cannot be used")
    return scenarios


def pick_scenarios(
    scenarios: Collection[Scenario], only: Collection[str] | None
) -> tuple[Scenario, ...]:
    """Return the scenarios of some names, those of a sweep also by the name of the whole.

    Raises
    ------
    ConfigError
        There is none of a name; the message has the nearest ones.
    """
    if not only:
        return tuple(scenarios)
    report = Report()
    names = [scenario.name for scenario in scenarios]
    sweeps = [one.name.partition(f" {next(iter(one.swept))}=")[0] for one in scenarios if one.swept]
    known = dict.fromkeys([*sweeps, *names])
    for name in only:
        if not any(_is_meant(scenario, name) for scenario in scenarios):
            what = f"there is no such scenario{nearest_name(name, known, n=3)}"
            todo = f"there are {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            report.error(repr(name), what, todo)
    report.raise_errors(ConfigError, title="these scenarios are not in the file")
    return tuple(one for one in scenarios if any(_is_meant(one, name) for name in only))


def to_yaml(scenario: Scenario) -> str:
    """Return a scenario as a file, from which `read_scenarios` makes the same scenario.

    Connection strings, which are secrets, are left out.
    """
    fields: dict[str, Any] = {}
    for name, field in type(scenario).model_fields.items():
        value = getattr(scenario, name)
        if name == "operations":
            fields[name] = [_write_operation(operation) for operation in value]
        elif name in ("name", "version") or value != field.get_default(call_default_factory=True):
            fields[name] = _write(value)
    return dump_yaml(fields)


def _read_draft(draft: Draft, origin: Origin, memo: dict[str, Any]) -> Iterator[Scenario]:
    """Yield the scenarios that a draft is: one, or those of its sweep."""
    report = origin.report
    where = f"{draft.where} `sweep`"
    used = placeholders([entry.value for entry in draft.operations])
    used |= placeholders([given.value for given in draft.fields.values()])
    used |= placeholders(draft.name)
    for name in draft.sweep if isinstance(draft.sweep, Mapping) else ():
        if name not in used and name not in FIELDS:
            todo = f"write ${{{name}}} in place of a value"
            report.error(f"{where[:-1]}.{name}`", "is used nowhere", todo)
    for swept in expand_sweep(draft.sweep, where, report):
        n_found = len(report.errors)
        fields = {key: _fill(given, swept) for key, given in draft.fields.items()}
        for name in FIELDS:
            if name in swept:
                fields[name] = Given(swept[name], draft.file, draft.where)
        values = read_settings(fields, origin, memo)
        operations = [
            read_entry(
                fill_in(entry.value, swept),
                where=entry.where,
                origin=origin._replace(folder=entry.file.resolve().parent),
            )
            for entry in draft.operations
        ]
        values |= {"name": name_of(draft.name, swept), "operations": tuple(operations)}
        values |= {"swept": swept} if swept else {}
        values |= {"based_on": draft.based_on} if draft.based_on else {}
        if None in operations:
            values["operations"] = ()  # noted already
        scenario = build_scenario(
            {key: value for key, value in values.items() if value is not None},
            where=draft.where,
            report=report,
            places={key: given.where for key, given in fields.items()},
        )
        tables = [values.get(key, "") for key in ("demand", *MERGED)]  # None: noted already
        if scenario is not None and None not in tables and len(report.errors) == n_found:
            yield scenario


def _fill(given: Given, swept: Mapping[str, Any]) -> Given:
    """Return a value of a file with the placeholders of a sweep replaced."""
    return given._replace(value=fill_in(given.value, swept))


def _check_needs(scenario: Scenario, needs: Collection[Need], where: str, report: Report) -> None:
    """Note what a scenario does not name although it has to."""
    baseline = scenario.baseline
    if "roads" in needs and baseline.roads is None:
        todo = 'name the network, as in baseline = {roads = "city.osm.pbf"}'
        report.error(f"{where} `baseline.roads`", "is missing", todo)
    if "forecast" in needs and baseline.forecast is None and baseline.job is None:
        todo = "name the forecast, or the `job` whose checkpoint makes it"
        report.error(f"{where} `baseline.forecast`", "is missing", todo)
    if "demand" in needs and scenario.demand is None:
        for number, operation in enumerate(scenario.operations, start=1):
            if isinstance(operation, AddDemand | ScaleDemand):
                todo = "add a table `demand` with `od` or `gravity`"
                place = f"{where}, operation {number} ({operation.op})"
                report.error(place, "changes a demand, and there is none", todo)


def _check_names(scenarios: Collection[Scenario], file: str, report: Report) -> None:
    """Note names that several scenarios have."""
    names = [scenario.name for scenario in scenarios]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        what = f"there are {names.count(name)} scenarios called {name!r}"
        report.error(f"{file} `name`", what, "give each a name of its own")


def _is_meant(scenario: Scenario, name: str) -> bool:
    """Tell whether a name is that of a scenario or of the sweep that it belongs to."""
    return scenario.name == name or (bool(scenario.swept) and scenario.name.startswith(f"{name} "))


def _write_operation(operation: Operation) -> dict[str, Any]:
    """Return an operation as an entry of a file, the fields of target and window among its own."""
    fields = _write(operation)
    for name in ("target", "window"):
        inner = fields.get(name)
        if isinstance(inner, dict) and not set(inner) & set(fields):
            del fields[name]
            fields = {**inner, **fields} if name == "target" else {**fields, **inner}
    return {fields.pop("op"): fields}


def _write(value: Any) -> Any:
    """Return a value as YAML has it: models without what is as it would be anyway."""
    if isinstance(value, Source):
        return {"connector": value.connector, **_write(value.options)}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        given = {field.alias or name: getattr(value, name) for name, field in fields.items()}
        usual = {
            field.alias or name: field.get_default(call_default_factory=True)
            for name, field in fields.items()
            if name != "op"
        }
        if isinstance(value, DemandSource):  # further options stand beside the matrix
            given |= given.pop("options")
        return _write({k: v for k, v in given.items() if k not in usual or v != usual[k]})
    if isinstance(value, Mapping):
        plain = {name: one for name, one in value.items() if not isinstance(one, SecretStr)}
        return {str(name): _write(one) for name, one in plain.items()}
    if isinstance(value, (list, tuple)):
        return [_write(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _write(dataclasses.asdict(value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, (bool, int, float, str, type(None))) else to_json(value)
