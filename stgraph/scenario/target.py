"""Which segments an operation is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Near(BaseModel):
    """The segment nearest to a point."""

    model_config = _MODEL
    lon: Annotated[float, Field(ge=-180, le=180)]
    lat: Annotated[float, Field(ge=-90, le=90)]
    max_m: Annotated[float, Field(gt=0, le=5000)] = 50.0  # farther ones do not count


class Target(BaseModel):
    """Segments of the network: those for which everything holds that is given.

    At least one of them; `road_class` and `within` narrow what the others name, or stand alone.
    """

    model_config = _MODEL
    edges: tuple[int, ...] | None = None  # segment ids
    osmid: tuple[int, ...] | None = None  # OpenStreetMap ids of ways
    name: str | None = None  # of the street, whole, upper and lower case alike
    polygon: str | Path | None = None  # file of polygons, or WKT in degrees: half the length inside
    near: Near | None = None
    where: str | None = None  # condition on the columns, such as "lanes >= 2 and speed_kmh > 50"
    between: tuple[str, str] | None = (
        None  # ids of junctions: the shortest way from one to the other
    )
    road_class: tuple[str, ...] | None = None
    within: str | Path | None = None  # as `polygon`
