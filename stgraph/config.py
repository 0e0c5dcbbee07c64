"""One job = one TOML file: its tables as frozen models, read and checked at once.

Every table of the file is one model below. Keys that belong to a connector, graph builder, model
or sink are checked against that function's own signature, so those of other packages work alike.
All paths are relative to the config file (those of ``[[output]]``: to the run folder), and
``${NAME}`` or ``${NAME:-default}`` in a path is an environment variable, because data sets lie
elsewhere on every machine. Nothing else in a config reads the environment.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stgraph import registry
from stgraph.binding import Origin, bind_options, explain, resolve_path
from stgraph.errors import ConfigError, STGraphError, nearest_name
from stgraph.report import Report

_MAX_BYTES = 1_000_000  # a config is written by hand; anything larger is another file
_STAGE = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class DataConfig(BaseModel):
    """``[data]``: where the nodes and their readings come from."""

    model_config = _STAGE
    connector: str = "stations"  # registered name; see `stgraph info`
    options: Mapping[str, Any] = Field(default_factory=dict)  # the connector's own keys


class GraphConfig(BaseModel):
    """``[graph]``: which nodes are neighbours."""

    model_config = _STAGE
    method: str = "knn"  # registered name, or "given": the edges that the connector brings
    options: Mapping[str, Any] = Field(default_factory=dict)  # the builder's own keys


class PrepareConfig(BaseModel):
    """``[prepare]``: what happens to the readings before a model sees them."""

    model_config = _STAGE
    outliers: Literal["none", "hampel"] = "none"  # readings far from their neighbours in time
    gaps: Literal["none", "linear", "seasonal", "neighbours"] = "none"  # how gaps are filled
    holidays: str | None = None  # country code such as "NZ" or "DE-BY" (extra `holidays`)


class WindowsConfig(BaseModel):
    """``[windows]``: what a forecast looks at, how far it goes, and how the data is split."""

    model_config = _STAGE
    window: Count = 12  # input steps
    horizon: Count = 12  # forecast steps
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # train, validation, test; in order

    @field_validator("fractions")
    @classmethod
    def _add_up(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        """Refuse numbers that are no parts of one whole."""
        fits = fractions[0] > 0 and min(fractions) >= 0
        if not fits or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
            raise ValueError("three shares that add up to 1, the first above 0")
        return fractions


class ModelConfig(BaseModel):
    """``[model]``: which model, with which sizes."""

    model_config = _STAGE
    name: str = "gcn_lstm"  # registered name; see `stgraph info`
    options: Mapping[str, Any] = Field(default_factory=dict)  # keys of the model's own config


class TrainConfig(BaseModel):
    """``[train]``: how long and how the model learns."""

    model_config = _STAGE
    max_epochs: Count = 40  # passes over the training windows, at most
    max_minutes: Positive | None = None  # stop training after this; None: no limit
    batch_size: Count = 64  # windows per step
    learning_rate: Positive = 2e-3  # peak of the schedule
    weight_decay: NotNegative = 1e-4  # of AdamW
    gradient_clip: Positive = 5.0  # largest norm of the gradient
    patience: Count = 8  # epochs without a better validation error before stopping
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # same seed, same machine: same model
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where there is one
    precision: Literal["auto", "32", "bf16"] = "auto"  # auto: bf16 on cuda, 32 on the cpu
    tensorboard: bool = False  # also write TensorBoard logs (extra `tensorboard`)
    progress: bool = False  # show a bar per epoch on stderr


class EvaluateConfig(BaseModel):
    """``[evaluate]``: what the model is measured against, on the test windows."""

    model_config = _STAGE
    baselines: tuple[str, ...] | None = None  # registered names; None: the simple ones
    steps: tuple[int, ...] | None = None  # horizons shown in tables; None: a handful


class ForecastConfig(BaseModel):
    """``[forecast]``: when the forecast is made."""

    model_config = _STAGE
    at: dt.datetime | None = None  # last instant known, local unless it has a zone; None: the end


class OutputConfig(BaseModel):
    """``[[output]]``: one file, written by a sink."""

    model_config = _STAGE
    sink: str  # registered name; see `stgraph info`
    path: Path  # relative to the run folder
    options: Mapping[str, Any] = Field(default_factory=dict)  # the sink's own keys


class RunConfig(BaseModel):
    """``[run]``: where results go."""

    model_config = _STAGE
    folder: Path = Path("runs/job")  # checkpoint, metrics, report and outputs


class JobConfig(BaseModel):
    """A whole job: `read_config` makes one from a file, the constructor one in Python."""

    model_config = _STAGE
    data: DataConfig
    graph: GraphConfig = GraphConfig()
    prepare: PrepareConfig = PrepareConfig()
    windows: WindowsConfig = WindowsConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    forecast: ForecastConfig = ForecastConfig()
    output: tuple[OutputConfig, ...] = ()
    run: RunConfig = RunConfig()


class _Owner(NamedTuple):
    """Whose signature the free keys of a table are checked against."""

    group: registry.Group
    key: str  # the key that names it
    given: int  # leading parameters that the pipeline passes


_OWNERS = {
    "data": _Owner("connectors", "connector", 0),
    "graph": _Owner("neighbours", "method", 1),
    "model": _Owner("models", "name", 0),
    "output": _Owner("sinks", "sink", 2),
}


def read_config(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
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
    environment
        Variables for ``${NAME}`` in paths. None means those of the process.

    Returns
    -------
    JobConfig
        Frozen, with absolute paths and with the options of every function checked.

    Raises
    ------
    ConfigError
        Lists everything that is wrong with the file.
    """
    path = Path(path)
    table = _load_toml(path)
    report = Report()
    for override in overrides:
        _override(table, override, report)
    folder = path.resolve().parent
    origin = Origin(report, folder, os.environ if environment is None else environment)
    _check_names(table, JobConfig.model_fields, path.name, report, kind="table")
    table["run"] = _with_default_folder(table.get("run", {}), path.stem)
    stages = {name: _read_stage(name, table, path.name, origin) for name in JobConfig.model_fields}
    report.raise_errors(ConfigError, title=f"{path} cannot be used")
    run = stages["run"]
    stages["output"] = tuple(
        output.model_copy(update={"path": run.folder / output.path}) for output in stages["output"]
    )
    return JobConfig(**stages)


def _load_toml(path: Path) -> dict[str, Any]:
    """Return the parsed TOML of a file."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is not a file; give the TOML file of a job")
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path}: has {path.stat().st_size} bytes and a config at most {_MAX_BYTES}; "
                "give the TOML file of a job"
            )
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        todo = f"write one with: stgraph init {path}"
        raise ConfigError(f"{path}: there is no such file; {todo}") from None
    except UnicodeDecodeError as error:
        todo = "save the file as UTF-8 text"
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; {todo}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}; correct that place") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check it") from None


def _override(table: dict[str, Any], override: str, report: Report) -> None:
    """Set one ``table.key=value`` in the parsed TOML."""
    place, equals, text = override.partition("=")
    *parents, key = (part.strip() for part in place.split("."))
    if not equals or not all([*parents, key]) or len(parents) not in (1, 2):
        todo = "write it as in --set train.max_epochs=3 or --set output.0.path=map.png"
        report.error(f"--set {override}", "is not `table.key=value`", todo)
        return
    target: Any = table
    for parent in parents:
        if isinstance(target, list):
            target = target[int(parent)] if parent.isdigit() and int(parent) < len(target) else None
        elif isinstance(target, dict):
            target = target.setdefault(parent, {})
    if not isinstance(target, dict):
        todo = f"there is no table {'.'.join(parents)!r}"
        report.error(f"--set {override}", "has no place to go", todo)
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
        return _read_outputs(job.get(name, []), f"{file}, [[output]]", origin)
    table = job.get(name, {})
    if not isinstance(table, dict):
        origin.report.error(where, f"is {table!r} and not a table", f"write a line [{name}]")
        return None
    if name == "data" and not table:
        origin.report.error(where, "is missing", "name the data, as `stgraph init` shows")
        return None
    model: Any = JobConfig.model_fields[name].annotation
    return _read_table(model, name, table, where, origin)


def _read_outputs(tables: Any, where: str, origin: Origin) -> tuple[Any, ...]:
    """Return the models of all ``[[output]]`` tables."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        origin.report.error(where, "is not a list of tables", "write it with two brackets")
        return ()
    outputs = [
        _read_table(OutputConfig, "output", table, f"{where} {number}", origin)
        for number, table in enumerate(tables, start=1)
    ]
    paths = [str(output.path) for output in outputs if output is not None]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        todo = "give every output a path of its own"
        origin.report.error(f"{where} `path`", f"{path!r} is given twice", todo)
    return tuple(outputs)


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
    elif stage is not None:
        owner = _OWNERS[name]
        options = _read_options(owner, getattr(stage, owner.key), free, where, origin)
        return stage.model_copy(update={"options": options})
    return stage


def _read_options(
    owner: _Owner, name: str, free: Mapping[str, Any], where: str, origin: Origin
) -> dict[str, Any]:
    """Return the free keys of a table as keyword arguments of the function the table names."""
    if (owner.group, name) == ("neighbours", "given"):
        _check_names(free, [owner.key], where, origin.report, kind="key")
        return {}
    try:
        function = registry.load(owner.group, name)
    except STGraphError as error:
        origin.report.error(f"{where} `{owner.key}`", str(error))
        return {}
    if owner.group == "models":
        function = typing.get_type_hints(function.__init__)["config"]
    also = ("path", owner.key) if owner.group == "sinks" else (owner.key,)
    return bind_options(function, free, where=where, origin=origin, given=owner.given, also=also)


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
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        for key, what, todo in explain(error, own):
            origin.report.error(f"{where} `{key}`", what, todo)
        return None


def _check_names(
    given: Iterable[str], known: Iterable[str], where: str, report: Report, *, kind: str
) -> None:
    """Note every name that is not known, with the nearest one."""
    for name in given:
        if name not in known:
            todo = f"remove it{nearest_name(name, known)}; there are {sorted(known)}"
            report.error(f"{where} `{name}`", f"is an unknown {kind}", todo)
