"""Read a job from its TOML file and check all of it at once.

All paths are relative to the config file (those of ``[[output]]``: to the run folder), and
``${NAME}`` or ``${NAME:-default}`` in a path or in a database's `dsn` is an environment variable,
because data sets and databases are elsewhere on every machine. Nothing else in a config reads the
environment.
"""

from __future__ import annotations

import datetime as dt
import inspect
import json
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from stgraph import registry
from stgraph.binding import (
    Origin,
    bind_options,
    convert,
    hints_of,
    note_refused,
    resolve_dsn,
    resolve_path,
)
from stgraph.config import (
    BY_PIPELINE,
    OWN_METHODS,
    GraphConfig,
    JobConfig,
    OutputConfig,
    PrepareConfig,
    RoadsConfig,
    SourceConfig,
)
from stgraph.errors import ConfigError, nearest_name
from stgraph.joining import join_feature
from stgraph.preprocessing.gaps import fill_gaps
from stgraph.preprocessing.outliers import mask_outliers
from stgraph.report import Report

_MAX_BYTES = 1_000_000  # a config is written by hand; anything larger is another file


class _Owner(NamedTuple):
    """Whose signature the free keys of a table are checked against."""

    group: registry.Group
    key: str  # the key that names it
    given: int  # leading parameters that the pipeline passes


_OWNERS = {
    "data": _Owner("connectors", "connector", 0),
    "source": _Owner("connectors", "connector", 0),
    "roads": _Owner("connectors", "connector", 0),
    "graph": _Owner("neighbours", "method", 1),
    "model": _Owner("models", "name", 0),
    "output": _Owner("sinks", "sink", 2),
}


def read_config(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    model: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> JobConfig:
    """Read a job from a TOML file and check all of it.

    Parameters
    ----------
    path
        The file, UTF-8, at most 1 MB.
    overrides
        Values to use instead, such as ``"train.max_epochs=3"``; what follows ``=`` is TOML, or
        text where it is not.
    model
        Registered name of a model to take in place of the file's, whose options go with it.
    environment
        Variables for ``${NAME}`` in paths and DSNs. None means those of the process.

    Returns
    -------
    JobConfig
        Frozen, with absolute paths and with the options of every function checked. Connection
        strings are secrets that no printing shows.

    Raises
    ------
    ConfigError
        Lists everything that is wrong with the file.
    """
    path = Path(path)
    return check_tables(
        load_toml(path, what="the TOML file of a job", todo=f"write one with: stgraph init {path}"),
        name=path.name,
        title=f"{path} cannot be used",
        folder=path.resolve().parent,
        run_name=path.stem,
        overrides=overrides,
        model=model,
        environment=environment,
    )


def check_tables(
    table: dict[str, Any],
    *,
    name: str,
    title: str,
    folder: Path,
    run_name: str = "job",
    overrides: Iterable[str] = (),
    model: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> JobConfig:
    """Return a job from its parsed tables, all of them checked.

    Parameters
    ----------
    table
        What the TOML of a job says; overrides are put into it.
    name, title
        What messages call the job, and how the error begins.
    folder
        What relative paths are relative to.
    run_name
        Name of the run folder where none is given.
    overrides, model, environment
        As for `read_config`.

    Raises
    ------
    ConfigError
        Lists everything that is wrong.
    """
    report = Report()
    given = table.get("model")
    if model is not None and (not isinstance(given, dict) or given.get("name") != model):
        table = {**table, "model": {"name": model}}
    for override in overrides:
        _override(table, override, report)
    origin = Origin(report, folder, os.environ if environment is None else environment)
    _check_names(table, JobConfig.model_fields, name, report, kind="table")
    table["run"] = _with_default_folder(table.get("run", {}), run_name)
    stages = {stage: _read_stage(stage, table, name, origin) for stage in JobConfig.model_fields}
    report.findings[:] = dict.fromkeys(report.findings)  # a shared style is checked per output
    report.raise_errors(ConfigError, title=title)
    run = stages["run"]
    stages["output"] = tuple(
        output.model_copy(update={"path": run.folder / output.path}) if output.path else output
        for output in stages["output"]
    )
    job = JobConfig(**stages)
    _check_together(job, name, report)
    report.raise_errors(ConfigError, title=title)
    return job


def bind_connector(
    name: str, table: Mapping[str, Any], *, where: str, origin: Origin
) -> dict[str, Any]:
    """Return the keys of a table as options of a connector, checked against its signature."""
    return _read_options(_OWNERS["data"], name, table, where, origin)


def read_text(path: Path, *, what: str, todo: str) -> str:
    """Return the text of a file that was written by hand.

    Parameters
    ----------
    path
        The file, UTF-8, at most 1 MB.
    what
        What it should be, for messages: ``"the TOML file of a job"``.
    todo
        What to do if it is not there.

    Raises
    ------
    ConfigError
        It is not there, is no such file, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is not a file; give {what}")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError(
                f"{path}: has {size} bytes and a config at most {_MAX_BYTES}; give {what}"
            )
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {todo}") from None
    except UnicodeDecodeError as error:
        todo = "save the file as UTF-8 text"
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; {todo}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check it") from None


def load_toml(path: Path, *, what: str, todo: str) -> dict[str, Any]:
    """Return the parsed TOML of a file; parameters and errors are those of `read_text`."""
    try:
        return tomllib.loads(read_text(path, what=what, todo=todo))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}; correct that place") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; give {what}") from None


def _override(table: dict[str, Any], override: str, report: Report) -> None:
    """Set one ``table.key=value`` in the parsed TOML."""
    place, equals, text = override.partition("=")
    *parents, key = (part.strip() for part in place.split("."))
    is_url = "://" in place  # somebody's connection string, which is not shown
    if not equals or is_url or not all([*parents, key]) or len(parents) not in (1, 2):
        todo = "write it as in --set train.max_epochs=3 or --set output.0.path=map.png"
        shown = place.split("://")[0] + "=..." * bool(equals)
        report.error(f"--set {shown}", "is not `table.key=value`", todo)
        return
    target: Any = table
    for parent in parents:
        if isinstance(target, list):
            target = target[int(parent)] if parent.isdigit() and int(parent) < len(target) else None
        elif isinstance(target, dict):
            target = target.setdefault(parent, {})
    if not isinstance(target, dict):
        todo = f"there is no table {'.'.join(parents)!r}"
        report.error(f"--set {place}=...", "has no place to go", todo)
        return
    try:
        target[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        target[key] = text.strip()


def _with_default_folder(table: Any, name: str) -> Any:
    """Return the ``[run]`` table; a job that names no folder gets one of its own."""
    return {"folder": f"runs/{name}", **table} if isinstance(table, dict) else table


def _read_stage(name: str, job: Mapping[str, Any], file: str, origin: Origin) -> Any:
    """Return the model of one table of the job; what is wrong with it goes to the report."""
    where = f"{file}, [{name}]"
    if name == "output":
        return _read_outputs(job, file, origin)
    if name == "source":
        return _read_sources(job, file, origin)
    table = job.get(name, {})
    if not isinstance(table, dict):
        origin.report.error(where, f"is {table!r} and not a table", f"write a line [{name}]")
        return None
    if name == "style":
        return table  # checked with the outputs that take it
    if name == "data" and not table:
        origin.report.error(where, "is missing", "name the data, as `stgraph init` shows")
        return None
    if name == "roads" and name not in job:
        return None
    model: Any = RoadsConfig if name == "roads" else JobConfig.model_fields[name].annotation
    return _read_table(model, name, table, where, origin)


def _read_sources(job: Mapping[str, Any], file: str, origin: Origin) -> tuple[Any, ...]:
    """Return the models of all ``[[source]]`` tables, with the options of their joins checked."""
    sources = []
    for number, table in enumerate(_tables_of(job, "source", file, origin.report), start=1):
        where = f"{file}, [[source]] {number}"
        source = _read_table(SourceConfig, "source", table, where, origin)
        if source is not None:
            join = bind_options(
                join_feature, source.join, where=f"{where} `join`", origin=origin, given=2,
                supplied=BY_PIPELINE,
            )  # fmt: skip
            source = source.model_copy(update={"join": join})
        sources.append(source)
    return tuple(sources)


def _tables_of(job: Mapping[str, Any], name: str, file: str, report: Report) -> list[Any]:
    """Return the tables of a list of tables, none if it is something else."""
    tables = job.get(name, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    where = f"{file}, [[{name}]]"
    report.error(where, "is not a list of tables", "write it with two brackets")
    return []


def _read_outputs(job: Mapping[str, Any], file: str, origin: Origin) -> tuple[Any, ...]:
    """Return the models of all ``[[output]]`` tables, each with the style of the job."""
    tables, where = _tables_of(job, "output", file, origin.report), f"{file}, [[output]]"
    outputs = []
    for number, table in enumerate(tables, start=1):
        output = _read_output(table, f"{where} {number}", origin)
        if output is not None and "style" in job:
            output = _with_style(output, job["style"], f"{file}, [style]", origin)
        outputs.append(output)
    _check_twice([output for output in outputs if output is not None], where, origin.report)
    return tuple(outputs)


def _read_output(table: Mapping[str, Any], where: str, origin: Origin) -> Any:
    """Return the model of one ``[[output]]``, whose sink takes either a path or a DSN."""
    name, given = table.get("sink"), {"path", "dsn"} & set(table)
    wanted = _target_key(name) if name in registry.names("sinks") else None
    if wanted is not None:
        for key in sorted(given - {wanted}):
            what = f"is for other sinks: {name!r} takes `{wanted}`"
            origin.report.error(f"{where} `{key}`", what, f"add `{wanted} = ...` in its place")
        if not given:
            origin.report.error(f"{where} `{wanted}`", "is missing", f"add `{wanted} = ...`")
    dsn = None
    if "dsn" in given and wanted != "path":
        dsn = resolve_dsn(table["dsn"], f"{where} `dsn`", origin)
    rest = {key: value for key, value in table.items() if key != "dsn"}
    if wanted == "dsn":
        rest.pop("path", None)
    output = _read_table(OutputConfig, "output", rest, where, origin)
    return None if output is None else output.model_copy(update={"dsn": dsn})


def _target_key(sink: str) -> str:
    """Return which key names where a sink writes to: that of its second parameter."""
    parameters = list(inspect.signature(registry.load("sinks", sink)).parameters)
    return "dsn" if parameters[1:2] == ["dsn"] else "path"


def _check_twice(outputs: Iterable[OutputConfig], where: str, report: Report) -> None:
    """Note outputs that would replace each other."""
    seen: set[object] = set()
    for output in outputs:
        secret = "" if output.dsn is None else output.dsn.get_secret_value()
        target = (output.path, secret, output.options.get("schema") if secret else None)
        if target in seen and target[:2] != (None, ""):
            key, what = ("dsn", "the same schema") if secret else ("path", repr(str(output.path)))
            todo = "give every output a path, or a schema, of its own"
            report.error(f"{where} `{key}`", f"{what} is given twice", todo)
        seen.add(target)


def _with_style(output: OutputConfig, style: Any, where: str, origin: Origin) -> OutputConfig:
    """Return the output with the style of the job, if its sink takes one and it has none."""
    if output.sink not in registry.names("sinks") or "style" in output.options:
        return output
    hint = hints_of(registry.load("sinks", output.sink)).get("style")
    if hint is None or not isinstance(style, dict):
        return output
    options = {**output.options, "style": convert(style, hint, where, origin)}
    return output.model_copy(update={"options": options})


def _read_table(
    model: type[BaseModel], name: str, table: Mapping[str, Any], where: str, origin: Origin
) -> Any:
    """Return the model of one table, the keys of its connector, model, ... in `options`."""
    fields = [field for field in model.model_fields if field != "options"]
    own = {key: value for key, value in table.items() if key in fields}
    free = {key: value for key, value in table.items() if key not in fields}
    stage = _validate(model, own, where, origin)
    if name not in _OWNERS:
        _check_names(free, fields, where, origin.report, kind="key")
        return _with_steps(stage, where, origin) if isinstance(stage, PrepareConfig) else stage
    if stage is None:
        return None
    owner = _OWNERS[name]
    if isinstance(stage, GraphConfig) and stage.method == "auto" and free:
        stage = stage.model_copy(update={"method": "knn"})  # options are of a builder
    options = _read_options(owner, getattr(stage, owner.key), free, where, origin)
    return stage.model_copy(update={"options": options})


def _with_steps(stage: PrepareConfig, where: str, origin: Origin) -> PrepareConfig:
    """Return ``[prepare]`` with the options of its steps checked."""
    checked: dict[str, Any] = {}
    for name, function in (("outliers", mask_outliers), ("gaps", fill_gaps)):
        table = getattr(stage, name)
        if table is not None:
            place = f"{where[:-1]}.{name}]"
            checked[name] = bind_options(
                function, table, where=place, origin=origin, given=1, supplied=BY_PIPELINE
            )
    return stage.model_copy(update=checked)


def _read_options(
    owner: _Owner, name: str, free: Mapping[str, Any], where: str, origin: Origin
) -> dict[str, Any]:
    """Return the free keys of a table as keyword arguments of the function the table names."""
    if owner.group == "neighbours" and name in OWN_METHODS:
        _check_names(free, [owner.key], where, origin.report, kind="key")
        return {}
    known = registry.names(owner.group)
    if name not in known:
        known += OWN_METHODS if owner.group == "neighbours" else ()
        what = f"cannot be {name!r}{nearest_name(name, known)}"
        origin.report.error(f"{where} `{owner.key}`", what, f"there are {known}")
        return {}
    function = registry.load(owner.group, name)
    if owner.group == "models":
        function = typing.get_type_hints(function.__init__)["config"]
    also = (_target_key(name), owner.key) if owner.group == "sinks" else (owner.key,)
    return bind_options(
        function,
        free,
        where=where,
        origin=origin,
        given=owner.given,
        supplied=BY_PIPELINE,
        also=also,
    )


def _check_together(job: JobConfig, file: str, report: Report) -> None:
    """Note what only shows when two tables are seen together."""
    horizon, steps = job.windows.horizon, job.evaluate.steps or ()
    if any(not 1 <= step <= horizon for step in steps):
        where = f"{file}, [evaluate] `steps`"
        report.error(where, f"cannot be {list(steps)}", f"give steps from 1 to {horizon}")
    weights = job.head.step_weights
    if not isinstance(weights, str) and len(weights) != horizon:
        where = f"{file}, [head] `step_weights`"
        report.error(where, f"has {len(weights)} numbers", f"give {horizon}, one per step ahead")
    _check_needs(job, file, report)
    roads = job.roads
    if roads is not None and job.head.kind == "classes":
        todo = "choose another `kind`: what is carried to roads are values with quantiles"
        report.error(f"{file}, [head] `kind`", "cannot be 'classes' with a table [roads]", todo)
    if roads is not None and roads.near_m >= roads.far_m:
        what = f"cannot be {roads.near_m:g} where `far_m` is {roads.far_m:g}"
        report.error(f"{file}, [roads] `near_m`", what, "give a near limit below the far one")
    for number, output in enumerate(job.output, start=1):
        if output.of == "segments" and roads is None:
            where = f"{file}, [[output]] {number} `of`"
            report.error(where, "is 'segments', but there is no table [roads]", "name the roads")
    known = registry.names("models")
    for name in job.evaluate.baselines or ():
        if name not in known:
            where = f"{file}, [evaluate] `baselines`"
            todo = f"there are {known}"
            report.error(where, f"no model is called {name!r}{nearest_name(name, known)}", todo)


def _check_needs(job: JobConfig, file: str, report: Report) -> None:
    """Note what a model needs that other tables withhold."""
    name = job.model.name
    if name == "auto" and job.windows.fractions[1] == 0:
        todo = "give the second of them a share: models are chosen by the validation part"
        report.error(f"{file}, [windows] `fractions`", "leave no validation part", todo)
    if name == "seasonal_naive" and not job.prepare.seasons:
        what, todo = f"is false, but {name} repeats the last season", "set it to true"
        report.error(f"{file}, [prepare] `seasons`", what, todo)


def _validate(
    model: type[BaseModel], own: Mapping[str, Any], where: str, origin: Origin
) -> BaseModel | None:
    """Return the model of the keys that are the table's own."""
    values = dict(own)
    if isinstance(own.get("folder"), str):
        values["folder"] = resolve_path(own["folder"], f"{where} `folder`", origin)
    if isinstance(own.get("path"), str):  # the run folder comes before it, later
        values["path"] = resolve_path(own["path"], f"{where} `path`", origin._replace(folder=None))
    try:
        # through JSON: strict about 8 and "8", lenient where TOML has no type of its own (tuples)
        return model.model_validate_json(json.dumps(values, default=_as_text), strict=True)
    except ValidationError as error:
        note_refused(error, own, where, origin.report)
        return None


def _as_text(value: object) -> str:
    """Return what TOML has a type for and JSON has not; a date is the beginning of its day."""
    is_day = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    return f"{value}T00:00" if is_day else str(value)


def _check_names(
    given: Iterable[str], known: Iterable[str], where: str, report: Report, *, kind: str
) -> None:
    """Note every name that is not known, with the nearest one."""
    for name in given:
        if name not in known:
            what = f"is an unknown {kind}{nearest_name(name, known)}"
            report.error(f"{where} `{name}`", what, f"there are {sorted(known)}")
