"""Which segments an operation is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import shapely
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_WKT = re.compile(r"\s*(SRID|[A-Z]+)\s*(Z\s*)?(\(|=|EMPTY)", re.IGNORECASE)

_Value = TypeVar("_Value")

# fields that name roads each in a way of its own: more than one of them is a contradiction
_ONE_OF = ("edges", "osmid", "near", "between")


def one_or_more(value: Any) -> Any:
    """Return a list as a tuple, and so a single value: ``road_class = "residential"`` will do."""
    if isinstance(value, (str, int, float)):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _some(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """Refuse an empty list."""
    if not values:
        raise ValueError("at least one")
    return values


def text_of_id(value: Any) -> Any:
    """Return an id as text, whether the file has it as text or as a number."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def not_blank(text: str) -> str:
    """Refuse a text of nothing but spaces."""
    if not text.strip():
        raise ValueError("a text that is not empty")
    return text.strip()


def to_wkt(geometry: shapely.Geometry) -> str:
    """Return a geometry as WKT with all of its digits."""
    return shapely.to_wkt(geometry, rounding_precision=-1)


def is_wkt(text: str) -> bool:
    """Tell whether a text is meant as a geometry and not as the name of a file."""
    return _WKT.match(text) is not None


def parse_wkt(text: str, kinds: tuple[str, ...]) -> shapely.Geometry:
    """Return the geometry of a WKT in degrees, or raise ValueError with what to give."""
    wanted = f"a WKT {' or '.join(kinds)} in degrees"
    try:
        geometry = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"{wanted} ({str(error).splitlines()[0]})") from None
    if geometry.geom_type not in kinds or geometry.is_empty:
        empty = " that is empty" if geometry.is_empty else ""
        raise ValueError(f"{wanted}, not a {geometry.geom_type}{empty}")
    west, south, east, north = geometry.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise ValueError(f"{wanted}: longitude (-180..180) before latitude (-90..90)")
    return geometry


def _area(given: str | Path) -> str | Path:
    """Return the WKT of polygons as it is, anything else as a path."""
    text = not_blank(str(given))
    if not is_wkt(text):
        return Path(text)
    geometry = parse_wkt(text, ("Polygon", "MultiPolygon"))
    if not shapely.is_valid(geometry):
        raise ValueError(f"a valid polygon ({shapely.is_valid_reason(geometry)})")
    return text


Id = Annotated[str, BeforeValidator(text_of_id), AfterValidator(not_blank)]
Text = Annotated[str, AfterValidator(not_blank)]
Area = Annotated[str | Path, AfterValidator(_area)]
Texts = Annotated[tuple[Text, ...], AfterValidator(_some), BeforeValidator(one_or_more)]
Integers = Annotated[tuple[int, ...], AfterValidator(_some), BeforeValidator(one_or_more)]


class Near(BaseModel):
    """The segment nearest to a point."""

    model_config = _MODEL
    lon: Annotated[float, Field(ge=-180, le=180)]
    lat: Annotated[float, Field(ge=-90, le=90)]
    max_m: Annotated[float, Field(gt=0, le=5000)] = 50.0  # farther ones do not count


class Target(BaseModel):
    """Segments of the network: those for which everything holds that is given.

    At least one of them, and at most one of `edges`, `osmid`, `near` and `between`; `road_class`,
    `where` and `within` narrow what the others name, or stand alone.
    """

    model_config = _MODEL
    edges: Integers | None = None  # segment ids
    osmid: Integers | None = None  # OpenStreetMap ids of ways
    name: Text | None = None  # of the street, whole, upper and lower case alike
    polygon: Area | None = None  # file of polygons, or WKT in degrees: half the length inside
    near: Near | None = None  # also (lon, lat)
    where: Text | None = None  # condition on the columns, as "lanes >= 2 and speed_kmh > 50"
    between: tuple[Id, Id] | None = None  # junctions: the shortest way from one to the other
    road_class: Texts | None = None
    within: Area | None = None  # as `polygon`

    @field_validator("near", mode="before")
    @classmethod
    def _from_pair(cls, near: Any) -> Any:
        """Return (longitude, latitude) as a point."""
        if isinstance(near, (list, tuple)):
            if len(near) != 2:
                raise ValueError("two numbers: longitude and latitude")
            return {"lon": near[0], "lat": near[1]}
        return near

    @field_validator("between")
    @classmethod
    def _apart(cls, between: tuple[str, str] | None) -> tuple[str, str] | None:
        """Refuse a way from a junction to itself."""
        if between is not None and between[0] == between[1]:
            raise ValueError("two different junctions")
        return between

    @model_validator(mode="after")
    def _names_roads(self) -> Target:
        """Refuse a target that names nothing, or one thing in two ways."""
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if not given:
            keys = ", ".join(f"`{name}`" for name in type(self).model_fields)
            raise ValueError(f"names no road; give one of {keys}")
        ways = [f"`{name}`" for name in _ONE_OF if name in given]
        if len(ways) > 1:
            raise ValueError(f"names roads by {' and by '.join(ways)}; give one of them")
        return self

    def __str__(self) -> str:
        """Return the target in words, for tables and reports."""
        given: Mapping[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return ", ".join(f"{name} {_words(value)}" for name, value in given.items())


def _words(value: Any) -> str:
    """Return the value of a field in words; long ones are cut."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, list):
        more = f" and {len(value) - 5} more" if len(value) > 6 else ""
        return ", ".join(map(str, value[: 5 if more else 6])) + more
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
