"""The tables of a scenario file beside its operations: baseline, demand, horizon, outputs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from stgraph import registry
from stgraph.binding import Origin, bind_options, resolve_dsn, resolve_path
from stgraph.configfile import bind_connector
from stgraph.scenario.drafts import MERGED, Given
from stgraph.scenario.entries import existing_file, to_json
from stgraph.scenario.refusing import names_of, note_errors, note_unknown
from stgraph.scenario.sources import Baseline, DemandSource, Horizon, Outputs, Source

# connector of a source that names none
_CONNECTORS = {"roads": "roads", "forecast": "stations", "history": "stations", "od": "od"}
_FILES = ("roads", "od")  # sources of which a file alone is enough


def read_settings(
    fields: Mapping[str, Given], origin: Origin, memo: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of a scenario but name and operations, those that are tables as models.

    Parameters
    ----------
    fields
        As drafts have them: ``"timezone"``, ``"baseline.roads"``, ``"horizon.from"``.
    origin
        Its report collects what is wrong; its folder is that of each field's file.
    memo
        Tables that were read already, which the scenarios of a sweep mostly share; it is added to.
    """
    values: dict[str, Any] = {
        key: given.value for key, given in fields.items() if "." not in key and key != "demand"
    }
    if "demand" in fields:
        key = repr(("demand", fields["demand"]))
        if key not in memo:
            memo[key] = _read_demand(fields["demand"], origin)
        values["demand"] = memo[key]
    models: dict[str, type[BaseModel]] = {
        "baseline": Baseline, "horizon": Horizon, "outputs": Outputs,
    }  # fmt: skip
    for name in MERGED:
        inner = {
            key.partition(".")[2]: given
            for key, given in fields.items()
            if key.partition(".")[0] == name
        }
        key = repr((name, inner))
        if inner and key not in memo:
            where = next(given.where for given in reversed(list(inner.values())))
            memo[key] = _read_table(name, models[name], inner, where, origin)
        if inner:
            values[name] = memo[key]
    return values


def _read_demand(given: Given, origin: Origin) -> DemandSource | None:
    """Return where the demand comes from."""
    value = {"od": given.value} if isinstance(given.value, str) else given.value
    if not isinstance(value, Mapping):
        origin.report.error(f"{given.where} `demand`", f"cannot be {value!r}", "give a table")
        return None
    own = ("od", "gravity", "zones")
    inner = {key: given._replace(value=one) for key, one in value.items() if key in own}
    free = {key: one for key, one in value.items() if key not in own}
    if free:
        inner["options"] = given._replace(value=free)
    demand: DemandSource | None = _read_table("demand", DemandSource, inner, given.where, origin)
    return demand


def _read_table(
    name: str, model: type[BaseModel], fields: Mapping[str, Given], where: str, origin: Origin
) -> Any:
    """Return the model of a table, None if something is wrong with it."""
    values: dict[str, Any] = {}
    n_found = len(origin.report.errors)
    for key, given in fields.items():
        place = f"{given.where} `{name}.{key}`"
        if key not in names_of(model):
            if (name, key) == ("horizon", "step"):
                origin.report.error(place, "is no key", "leave it out: it is the forecast's")
                continue
            note_unknown(key, names_of(model), place, origin.report)
            continue
        own = origin._replace(folder=given.file.resolve().parent)
        values[key] = _read_value(key, given.value, place, own)
    if len(origin.report.errors) > n_found:
        return None
    try:
        return _validate(model, values)
    except ValidationError as error:
        note_errors(error, model, values, where=where, report=origin.report, under=name)
        return None


def _validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """Return a model of values, of which sources and secrets are read already."""
    if model in (Baseline, DemandSource):
        return model(**values)
    # through JSON: strict about 8 and "8", lenient about lists and times as text
    plain = {key: value for key, value in values.items() if key != "dsn"}
    checked = model.model_validate_json(json.dumps(plain, default=to_json), strict=True)
    return checked.model_copy(update={"dsn": values["dsn"]}) if "dsn" in values else checked


def _read_value(key: str, value: Any, where: str, origin: Origin) -> Any:
    """Return a value with its connector's options checked, or its path made absolute."""
    if key in _CONNECTORS:
        return _read_source(key, value, where, origin)
    if key == "dsn":
        return resolve_dsn(value, where, origin)
    if key in ("job", "zones") and isinstance(value, str):
        return existing_file(value, where, origin)
    if key == "gravity" and isinstance(value, Mapping):
        from stgraph.scenario.gravity import fit_gravity  # not before it is needed

        supplied = ("counts", "zones", "minutes", "assign")
        return bind_options(
            fit_gravity, value, where=where, origin=origin, given=1, supplied=supplied
        )
    if key == "options":
        from stgraph.scenario.demand_sources import demand_from_od

        where = where.removesuffix(".options`") + "`"
        also = ("od", "gravity", "zones")
        return bind_options(demand_from_od, value, where=where, origin=origin, given=2, also=also)
    if key in ("geopackage", "report") and isinstance(value, str):
        return resolve_path(value, where, origin)
    return value


def _read_source(key: str, value: Any, where: str, origin: Origin) -> Source | None:
    """Return a connector with its options; a file alone is read by the usual connector."""
    usual = _CONNECTORS[key]
    if isinstance(value, str) and key in _FILES:
        value = {next(iter(_parameters(usual))): value}
    if not isinstance(value, Mapping):
        todo = 'give a file, or a table as in {connector = "osm", path = "city.osm.pbf"}'
        if key not in _FILES:
            todo = 'give a table as in {connector = "stations", stations = "...", readings = "..."}'
        origin.report.error(where, f"cannot be {value!r}", todo)
        return None
    connector = value.get("connector", usual)
    rest = {name: option for name, option in value.items() if name != "connector"}
    options = bind_connector(connector, rest, where=where, origin=origin)
    if key == "roads" and connector in registry.names("connectors"):
        if "nodes" in _parameters(connector):
            options.setdefault("nodes", "junctions")
        if options.get("nodes", "junctions") != "junctions":
            what = f"cannot be {options['nodes']!r}"
            origin.report.error(f"{where} `nodes`", what, "leave it out: streets are the edges")
    return Source(connector=str(connector), options=options)


def _parameters(connector: str) -> Mapping[str, inspect.Parameter]:
    """Return the options of a connector."""
    return inspect.signature(registry.load("connectors", connector)).parameters
