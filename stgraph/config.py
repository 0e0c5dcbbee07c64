"""What a job may ask for: one frozen model per table of its TOML file.

`stgraph.configfile.read_config` fills them from a file. Keys that belong to a connector, graph
builder, model or sink are in `options`, checked against that function's own signature.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from stgraph import registry
from stgraph.errors import ConfigError, InputError

_STAGE = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


# of the graph: the edges that the connector brings or else knn, only those it brings, and none
OWN_METHODS = ("auto", "given", "none")

# parameters that the pipeline passes itself, so that nothing looks ahead of the training part, and
# what sinks may want to know about the job
BY_PIPELINE = (
    "fit_steps",
    "causal",
    "node_metrics",
    "observations",
    "config",
    "metrics",
    "code_version",
    "ahead_steps",
)


# keys of [head] that only some kinds have
_KEYS_OF_HEADS = {
    "levels": ("quantiles", "regression", "gaussian"),
    "loss": ("regression",),
    "huber_delta": ("regression",),
    "edges": ("classes",),
    "class_weights": ("classes",),
}


class DataConfig(BaseModel):
    """``[data]``: where the nodes and their readings come from."""

    model_config = _STAGE
    connector: str = "stations"  # registered name; see `stgraph info`
    options: Mapping[str, Any] = Field(default_factory=dict)  # the connector's own keys


class SourceConfig(BaseModel):
    """``[[source]]``: further features of the nodes, from another source."""

    model_config = _STAGE
    connector: str = "stations"  # registered name; see `stgraph info`
    join: Mapping[str, Any] = Field(default_factory=dict)  # options of `join_feature`
    options: Mapping[str, Any] = Field(default_factory=dict)  # the connector's own keys


class GraphConfig(BaseModel):
    """``[graph]``: which nodes are neighbours."""

    model_config = _STAGE
    method: str = "auto"  # registered name, or one of OWN_METHODS
    options: Mapping[str, Any] = Field(default_factory=dict)  # the builder's own keys


class PrepareConfig(BaseModel):
    """``[prepare]``: what happens to the readings before a model sees them."""

    model_config = _STAGE
    scaler: Literal["standard", "minmax", "robust"] = "standard"  # of each node's readings
    holidays: str | None = None  # country code such as "NZ" or "DE-BY" (extra `holidays`)
    seasons: bool = True  # show the same time of earlier weeks; off: the window is all that is read
    outliers: Mapping[str, Any] | None = None  # options of `mask_outliers`; None: all is believed
    gaps: Mapping[str, Any] | None = None  # options of `fill_gaps`; None: gaps stay gaps


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


class HeadConfig(BaseModel):
    """``[head]``: what a forecast says about every value, and what it is trained for."""

    model_config = _STAGE
    kind: Literal["quantiles", "regression", "gaussian", "classes"] = "quantiles"
    levels: tuple[float, ...] = (0.1, 0.5, 0.9)  # of the quantiles; these three always belong
    loss: Literal["mae", "mse", "huber"] = "mae"  # of regression
    huber_delta: Positive = 1.0  # errors count linearly from here on; in standard deviations
    edges: tuple[float, ...] = Field(
        default=(), validate_default=True
    )  # between classes, in input units
    class_weights: Literal["balanced"] | tuple[Positive, ...] | None = None  # None: all the same
    step_weights: Literal["uniform", "near", "far"] | tuple[NotNegative, ...] = "uniform"

    @field_validator(*_KEYS_OF_HEADS)
    @classmethod
    def _belong(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse keys that mean nothing to this kind."""
        kinds, kind = _KEYS_OF_HEADS[info.field_name or ""], info.data.get("kind")
        if kind is not None and kind not in kinds and value != ():
            raise ValueError(f"it to {' or '.join(kinds)}, not to {kind}")
        return value

    @field_validator("levels")
    @classmethod
    def _complete(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        """Return the levels in order, with those that every table and map shows."""
        percent = {round(100 * level, 6) for level in levels}
        if not all(level == int(level) and 0 < level < 100 for level in percent):
            raise ValueError("whole per cents from 0.01 to 0.99")
        return tuple(level / 100 for level in sorted({*map(int, percent), 10, 50, 90}))

    @field_validator("edges")
    @classmethod
    def _ascend(cls, edges: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        """Refuse limits that are no limits."""
        if info.data.get("kind") == "classes" and not edges:
            raise ValueError("the limits between the classes, such as [20, 40, 60]")
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("limits between classes in ascending order")
        return edges

    @field_validator("class_weights")
    @classmethod
    def _one_each(cls, weights: Any, info: ValidationInfo) -> Any:
        """Refuse weights that are not one per class."""
        n_classes = len(info.data.get("edges", ())) + 1
        if isinstance(weights, tuple) and len(weights) != n_classes:
            raise ValueError(f"one number for each of the {n_classes} classes between `edges`")
        return weights

    @field_validator("step_weights")
    @classmethod
    def _some(cls, weights: Any) -> Any:
        """Refuse weights under which nothing counts."""
        if isinstance(weights, tuple) and not any(weights):
            raise ValueError("at least one number above 0")
        return weights

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 unless there are any."""
        return len(self.edges) + 1 if self.kind == "classes" else 0

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What is put behind a target's name to name the features of its forecast.

        The mean, the quantiles in ascending order, and the standard deviation; or the most likely
        class and the probability of each.
        """
        if self.kind == "classes":
            return ("_class", *(f"_p{number}" for number in range(self.n_classes)))
        quantiles = tuple(f"_q{round(100 * level):02d}" for level in self.levels)
        return ("", *quantiles, *(("_std",) if self.kind == "gaussian" else ()))

    @property
    def main_positions(self) -> list[int]:
        """Positions of the mean and the 10, 50 and 90 % quantiles among the suffixes."""
        return [self.suffixes.index(name) for name in ("", "_q10", "_q50", "_q90")]

    def class_names(self, unit: str = "") -> list[str]:
        """Return the classes in words: below 20 km/h, 20 to 40 km/h, 40 km/h or more."""
        unit = f" {unit}".rstrip()
        limits = [f"{edge:g}" for edge in self.edges]
        inner = [f"{low} to {high}{unit}" for low, high in itertools.pairwise(limits)]
        return [f"below {limits[0]}{unit}", *inner, f"{limits[-1]}{unit} or more"] if limits else []


class TrainConfig(BaseModel):
    """``[train]``: how long and how the model learns."""

    model_config = _STAGE
    max_epochs: Count = 12  # passes over the training windows, at most
    max_minutes: Positive | None = None  # stop training after this; None: no limit
    batch_size: Count = 32  # windows per step
    memory_gb: Positive = 4.0  # what a step may take; larger batches are learned from in parts
    learning_rate: Positive = 2e-3  # peak of the schedule
    weight_decay: NotNegative = 1e-4  # of AdamW
    gradient_clip: Positive = 5.0  # largest norm of the gradient
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99  # of averaged weights; 0: the last ones
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


class RoadsConfig(BaseModel):
    """``[roads]``: the road segments that are forecast too, with a sensor or without."""

    model_config = _STAGE
    connector: str = "roads"  # registered name; see `stgraph info`
    max_snap_m: Positive = 50.0  # stations further away from every road are on none
    heading_column: str | None = None  # of the stations: direction of the traffic measured
    road_column: str | None = None  # of the stations: name or number of their road
    side: Literal["left", "right"] | None = None  # of the road on which traffic drives
    near_m: Positive = 1000.0  # way to the nearest sensor up to which support is "near"
    far_m: Positive = 5000.0  # and up to which it is "far"; "none" beyond
    learn: bool = True  # False: interpolate only
    hide: Annotated[float, Field(gt=0, lt=1)] = 0.2  # share of the sensors hidden to measure
    draws: Annotated[int, Field(ge=0)] = 1  # how often; each takes as long as fitting; 0: never
    options: Mapping[str, Any] = Field(default_factory=dict)  # the connector's own keys


class OutputConfig(BaseModel):
    """``[[output]]``: one file or database, written by a sink."""

    model_config = _STAGE
    sink: str  # registered name; see `stgraph info`
    of: Literal["stations", "segments"] = "stations"  # segments: every road of [roads]
    path: Path | None = None  # of a file, relative to the run folder
    dsn: SecretStr | None = None  # of a database, a libpq connection string; never shown
    options: Mapping[str, Any] = Field(default_factory=dict)  # the sink's own keys

    @property
    def target(self) -> Path | SecretStr:
        """Where it goes: `path` or `dsn`, whichever is given."""
        target = self.path or self.dsn
        if target is None:
            raise ConfigError(f"an output of {self.sink!r} needs a `path` or a `dsn`; give one")
        return target


class RunConfig(BaseModel):
    """``[run]``: where results go."""

    model_config = _STAGE
    folder: Path = Path("runs/job")  # checkpoint, metrics, report and outputs


class JobConfig(BaseModel):
    """A whole job."""

    model_config = _STAGE
    data: DataConfig
    source: tuple[SourceConfig, ...] = ()
    graph: GraphConfig = GraphConfig()
    prepare: PrepareConfig = PrepareConfig()
    windows: WindowsConfig = WindowsConfig()
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    forecast: ForecastConfig = ForecastConfig()
    style: Mapping[str, Any] = Field(default_factory=dict)  # of every output that takes a style
    roads: RoadsConfig | None = None
    output: tuple[OutputConfig, ...] = ()
    run: RunConfig = RunConfig()


def dump_job(job: JobConfig) -> dict[str, Any]:
    """Return a job as JSON values; of a connection string only where it leads."""
    values: dict[str, Any] = job.model_dump(mode="json", fallback=str)
    for number, output in enumerate(job.output):
        if output.dsn is not None:
            values["output"][number]["dsn"] = describe_secret(output.dsn)
    for table, stage in (
        (values["data"], job.data),
        (values["roads"], job.roads),
        *zip(values["source"], job.source, strict=True),
    ):
        for name, option in ({} if stage is None else stage.options).items():
            if isinstance(option, SecretStr):
                table["options"][name] = describe_secret(option, name=name)
    return values


def describe_secret(dsn: SecretStr, *, name: str = "dsn") -> str:
    """Return where the connection string of an option leads, without its secrets."""
    describe = "describe_url" if name == "database_url" else "describe"
    try:
        return str(registry.load("database", describe)(dsn.get_secret_value()))
    except InputError:  # one that only its own sink or connector understands
        return str(dsn)


def reveal(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with their secrets as plain text, for the function that needs them."""
    return {
        name: option.get_secret_value() if isinstance(option, SecretStr) else option
        for name, option in options.items()
    }
