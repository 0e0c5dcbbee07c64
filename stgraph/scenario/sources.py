"""What a scenario is compared with, who drives in it, when, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from stgraph.binding import SECRETS
from stgraph.scenario.target import Id
from stgraph.scenario.window import Instant

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)
MAX_ZONES, MAX_LIMITS = 12, 6  # of isochrones
Minutes = Annotated[float, Field(gt=0, le=240)]


class Source(BaseModel):
    """A graph that a registered connector reads."""

    model_config = _MODEL
    connector: str  # registered name; see `stgraph info`
    options: Mapping[str, Any] = Field(default_factory=dict)  # the connector's own keys

    @field_validator("options")
    @classmethod
    def _hide(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep connection strings secret, however they were given."""
        return {
            name: SecretStr(value) if name in SECRETS and isinstance(value, str) else value
            for name, value in options.items()
        }


class Baseline(BaseModel):
    """``baseline``: the network as it is, and what is forecast for it."""

    model_config = _MODEL
    roads: Source | None = None  # None: those that are given in Python
    forecast: Source | None = None  # speed and flow of every segment; nodes are segment ids
    history: Source | None = None  # the same in the past, to fit how speed depends on flow
    job: Path | None = None  # TOML file of a job whose checkpoint makes the forecast

    @model_validator(mode="after")
    def _one_forecast(self) -> Baseline:
        """Refuse two forecasts."""
        if self.forecast is not None and self.job is not None:
            raise ValueError("has `forecast` and `job`; give the one that the forecast comes from")
        return self


class DemandSource(BaseModel):
    """``demand``: how many want to go from where to where; without it there is only a pattern."""

    model_config = _MODEL
    od: Source | None = None  # trips between zones
    gravity: Mapping[str, Any] | None = None  # in place of `od`: options of `fit_gravity`
    zones: Path | None = None  # of `gravity`: a file of zones; None: made of the junctions
    options: Mapping[str, Any] = Field(default_factory=dict)  # of `od`: those of `demand_from_od`

    @model_validator(mode="after")
    def _one_kind(self) -> DemandSource:
        """Refuse two demands, and none."""
        if (self.od is None) == (self.gravity is None):
            what = "has no demand" if self.od is None else "has `od` and `gravity`"
            raise ValueError(f"{what}; give `od` or `gravity`, or leave `demand` out")
        if self.od is not None and self.zones is not None:
            raise ValueError("has `zones` beside `od`; give them with the matrix, in `od`")
        if self.gravity is not None and self.options:
            keys = ", ".join(f"`{name}`" for name in self.options)
            raise ValueError(f"has {keys} beside `gravity`; put them into it")
        return self


class Horizon(BaseModel):
    """``horizon``: which part of the forecast; its step is that of the forecast."""

    model_config = _MODEL
    from_: Instant = Field(alias="from")
    to: Instant  # no longer part of it

    @model_validator(mode="after")
    def _has_length(self) -> Horizon:
        """Refuse a horizon that ends before it begins."""
        comparable = (self.from_.tzinfo is None) == (self.to.tzinfo is None)
        if comparable and self.from_ >= self.to:
            raise ValueError(
                f"ends at {self.to}, not after its beginning at {self.from_}; give a later `to`"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether it means something only with a time zone."""
        return self.from_.tzinfo is None or self.to.tzinfo is None


class Isochrones(BaseModel):
    """``outputs.isochrones``: areas within reach of zones, with and without the scenario."""

    model_config = _MODEL
    from_: tuple[Id, ...] = Field(alias="from")  # zones
    minutes: tuple[Minutes, ...] = (10, 20, 30)

    @field_validator("from_")
    @classmethod
    def _each_once(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        """Take every zone once, and a handful of them at most: each is some time's work."""
        if not 1 <= len(set(zones)) <= MAX_ZONES:
            raise ValueError(f"1 to {MAX_ZONES} zones")
        return tuple(dict.fromkeys(zones))

    @field_validator("minutes")
    @classmethod
    def _rise(cls, minutes: tuple[float, ...]) -> tuple[float, ...]:
        """Sort the limits."""
        if not 1 <= len(set(minutes)) <= MAX_LIMITS:
            raise ValueError(f"1 to {MAX_LIMITS} limits in minutes")
        return tuple(sorted(set(minutes)))


class Outputs(BaseModel):
    """``outputs``: files and a database to write, and what is shown there."""

    model_config = _MODEL
    geopackage: Path | None = None  # layers for QGIS
    report: Path | None = None  # one HTML page
    dsn: SecretStr | None = None  # libpq connection string of a PostGIS database; never shown
    schema_: str = Field(default="stgraph", alias="schema")  # in the database
    top_n: Annotated[int, Field(ge=1, le=1000)] = 20  # links in the lists of the largest changes
    od_pairs: tuple[tuple[Id, Id], ...] = ()  # zones between which travel times are always shown
    isochrones: Isochrones | None = None  # None: no areas are looked for

    @field_validator("geopackage")
    @classmethod
    def _is_geopackage(cls, path: Path | None) -> Path | None:
        """Refuse a file that QGIS would not take for a GeoPackage."""
        if path is not None and path.suffix.lower() != ".gpkg":
            raise ValueError("a file that ends in .gpkg")
        return path

    @field_validator("report")
    @classmethod
    def _is_page(cls, path: Path | None) -> Path | None:
        """Refuse a file that no browser would open."""
        if path is not None and path.suffix.lower() not in (".html", ".htm"):
            raise ValueError("a file that ends in .html")
        return path
