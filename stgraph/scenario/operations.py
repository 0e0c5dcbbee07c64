"""What a scenario may change: one frozen model per operation, with units and limits.

Each operation is one entry of `Scenario.operations`, in a file ``{close = {target = ...}}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import shapely
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from stgraph.scenario.target import Id, Target, Text, one_or_more, parse_wkt, text_of_id, to_wkt
from stgraph.scenario.window import Window

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

MAX_KMH = 130.0
MAX_VPH_PER_LANE = 2400.0  # more than any lane carries
MAX_LANES = 12  # of a direction
_KMH_OF = {"km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "m/s": 3.6, "knots": 1.852}


def _speed(value: Any) -> Any:
    """Refuse speeds with a unit and speeds at which nobody moves, each with what to do."""
    if isinstance(value, str):
        number, unit = re.fullmatch(r"\s*([\d.]*)\s*(.*?)\s*", value.lower(), re.DOTALL).groups()  # type: ignore[union-attr]
        try:
            kmh = f": {float(number) * _KMH_OF[unit]:.4g}"
        except (KeyError, ValueError):
            kmh = ""
        raise ValueError(f"a number in km/h without unit{kmh}")
    if _is_number(value) and value <= 0:
        raise ValueError("a speed above 0 km/h; to let nobody through, use close")
    if _is_number(value) and value > MAX_KMH:
        raise ValueError(f"a speed of at most {MAX_KMH:g} km/h")
    return value


def _share(value: Any) -> Any:
    """Refuse factors that close a road or that are per cents."""
    if isinstance(value, str) and value.strip().endswith("%"):
        raise ValueError("a factor without unit, such as 0.5 for half of it")
    if _is_number(value) and value <= 0:
        raise ValueError("a factor above 0; to let nobody through, use close")
    if _is_number(value) and value > 10:
        raise ValueError("a factor of at most 10: 0.5 is half of it, 2 is twice as much")
    return value


def _number_of_lanes(value: Any) -> Any:
    """Refuse roads without lanes, and more lanes than any road has."""
    if _is_number(value) and value < 1:
        raise ValueError("at least 1 lane; to let nobody through, use close")
    if _is_number(value) and value > MAX_LANES:
        raise ValueError(f"at most {MAX_LANES} lanes of a direction")
    return value


def _vehicles(value: Any) -> Any:
    """Refuse capacities that no road has."""
    if isinstance(value, str):
        raise ValueError("a number in vehicles per hour without unit")
    if _is_number(value) and value <= 0:
        raise ValueError("a capacity above 0 vehicles per hour; to let nobody through, use close")
    if _is_number(value) and value > MAX_LANES * MAX_VPH_PER_LANE:
        most = f"a capacity of at most {MAX_VPH_PER_LANE:g} vehicles per hour and lane"
        raise ValueError(f"{most}, {MAX_LANES * MAX_VPH_PER_LANE:g} for {MAX_LANES} lanes")
    return value


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number and not true or false."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _line(value: Any) -> Any:
    """Return a GeoJSON line, or a list of (lon, lat), as WKT."""
    try:
        if isinstance(value, Mapping):
            return to_wkt(shapely.geometry.shape(dict(value)))
        if isinstance(value, (list, tuple)):
            return to_wkt(shapely.LineString(value))
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        raise ValueError("a line as WKT or as a list of (lon, lat) in degrees") from None
    return value


Direction = Literal["forward", "back", "both"]  # along the segments that the target names
Kmh = Annotated[float, BeforeValidator(_speed), Field(gt=0, le=MAX_KMH)]
Factor = Annotated[float, BeforeValidator(_share), Field(gt=0, le=10)]
Lanes = Annotated[int, BeforeValidator(_number_of_lanes), Field(ge=1, le=MAX_LANES)]
Vph = Annotated[float, BeforeValidator(_vehicles), Field(gt=0)]
Trips = Annotated[float, Field(gt=0, le=10_000_000)]
Tags = Annotated[tuple[Text, ...], BeforeValidator(one_or_more)]


class _Operation(BaseModel):
    """What all operations have."""

    model_config = _MODEL
    window: Window | None = None  # when it holds; None: all the time
    override: bool = False  # may change what an earlier operation has set at the same time
    note: str = ""  # for the report


class _OnRoads(_Operation):
    """What the operations on existing segments have."""

    target: Target
    direction: Direction = "forward"  # both: also the same street the other way


class Close(_OnRoads):
    """Let nobody through, but those that are exempt (who are not modelled and not counted)."""

    op: Literal["close"] = "close"
    allow: Tags = ()  # such as ("bus", "emergency"); for the report
    direction: Direction = "both"


class SetSpeed(_OnRoads):
    """Set the free-flow speed, in km/h or times what it is."""

    op: Literal["set_speed"] = "set_speed"
    kmh: Kmh | None = None
    factor: Factor | None = None

    @model_validator(mode="after")
    def _one_value(self) -> SetSpeed:
        """Refuse a speed of two values, or of none."""
        _need_one(self, "kmh", "factor")
        return self


class SetLanes(_OnRoads):
    """Set the number of lanes of a direction; the capacity changes in proportion."""

    op: Literal["set_lanes"] = "set_lanes"
    lanes: Lanes


class SetCapacity(_OnRoads):
    """Set the capacity of a direction, in vehicles per hour or times what it is."""

    op: Literal["set_capacity"] = "set_capacity"
    vph: Vph | None = None
    factor: Factor | None = None

    @model_validator(mode="after")
    def _one_value(self) -> SetCapacity:
        """Refuse a capacity of two values, or of none."""
        _need_one(self, "vph", "factor")
        return self


class Roadworks(_OnRoads):
    """Take lanes or capacity away, and slow down: set_capacity and set_speed in one."""

    op: Literal["roadworks"] = "roadworks"
    lanes_lost: Annotated[int, Field(ge=1, le=MAX_LANES)] | None = None
    factor: Annotated[Factor, Field(le=1)] | None = None  # of the capacity
    kmh: Kmh | None = None

    @model_validator(mode="after")
    def _takes_something(self) -> Roadworks:
        """Refuse road works that nobody notices, and those that take away twice."""
        if self.lanes_lost is not None and self.factor is not None:
            raise ValueError("has `lanes_lost` and `factor`; give one of them")
        if (self.lanes_lost, self.factor, self.kmh) == (None, None, None):
            raise ValueError("changes nothing; give `lanes_lost`, `factor` or `kmh`")
        return self


class AddRoad(_Operation):
    """Build a road along a line; it joins the network at its ends."""

    op: Literal["add_road"] = "add_road"
    id: Id  # a name for it, used by later operations as target name
    geometry: Annotated[str, BeforeValidator(_line)]  # WKT LineString in degrees (EPSG:4326)
    oneway: bool = False
    lanes: Lanes = 1  # of each direction
    kmh: Kmh
    capacity_vph: Vph | None = None  # of each direction; None: by class and lanes
    road_class: Text = "secondary"
    snap_m: Annotated[float, Field(gt=0, le=500)] = 15.0  # ends farther from any road are an error
    split_edges: bool = True  # an end between two junctions makes one there

    @field_validator("geometry")
    @classmethod
    def _is_line(cls, text: str) -> str:
        """Refuse what is no line with a length."""
        line = parse_wkt(text, ("LineString",))
        if not shapely.length(line) > 0:
            raise ValueError("a line with at least two different points")
        return text.strip()

    @model_validator(mode="after")
    def _fits_lanes(self) -> AddRoad:
        """Refuse more traffic than the lanes carry."""
        most = self.lanes * MAX_VPH_PER_LANE
        if self.capacity_vph is not None and self.capacity_vph > most:
            what = f"has `capacity_vph` {self.capacity_vph:g} on {self.lanes} lane(s)"
            raise ValueError(f"{what}; give at most {MAX_VPH_PER_LANE:g} a lane, {most:g} here")
        return self


class RemoveRoad(_OnRoads):
    """Take segments out of the network for good."""

    op: Literal["remove_road"] = "remove_road"
    direction: Direction = "both"
    window: None = None

    @field_validator("window", mode="before")
    @classmethod
    def _for_good(cls, window: Any) -> Any:
        """Refuse a time."""
        if window is not None:
            raise ValueError("no time: a road is removed for good; use close for a while")
        return window


class Reverse(_OnRoads):
    """Turn one-way segments round."""

    op: Literal["reverse"] = "reverse"


class BanTurn(_Operation):
    """Forbid the turn from one street into another."""

    op: Literal["ban_turn"] = "ban_turn"
    from_: Target = Field(alias="from")
    to: Target


class Place(BaseModel):
    """Where trips begin or end: exactly one of these."""

    model_config = _MODEL
    zone: Id | None = None  # id of a zone of the demand
    node: Id | None = None  # id of a junction
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None  # with `lat`: the nearest zone
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> Place:
        """Refuse two places, none, and half of one."""
        if (self.lon is None) != (self.lat is None):
            raise ValueError("has one coordinate; give `lon` and `lat`")
        given = [name for name in ("zone", "node", "lon") if getattr(self, name) is not None]
        if len(given) != 1:
            what = "names no place" if not given else "names more than one place"
            raise ValueError(f"{what}; give `zone`, `node`, or `lon` and `lat`")
        return self


class AddDemand(_Operation):
    """Add trips to a place and back, such as those of an event."""

    op: Literal["add_demand"] = "add_demand"
    at: Place
    trips: Trips  # cars that come; as many leave if there is a `leave` window
    arrive: Window | None = None
    leave: Window | None = None
    origins: Text = "demand"  # "demand": as trips end and begin now; else a column of the zones
    window: None = None

    @field_validator("window", mode="before")
    @classmethod
    def _no_window(cls, window: Any) -> Any:
        """Refuse a time that does not say whether cars come or go."""
        if window is not None:
            raise ValueError("the times as `arrive` and `leave`")
        return window

    @model_validator(mode="after")
    def _comes_or_goes(self) -> AddDemand:
        """Refuse trips at no time."""
        if self.arrive is None and self.leave is None:
            raise ValueError('has no time; give `arrive` or `leave`, such as "17:30-19:00"')
        return self


def _zone_ids(value: Any) -> Any:
    """Return ids as text; a list may not be empty."""
    if isinstance(value, (list, tuple)) and not value:
        raise ValueError('at least one zone, or "any"')
    if isinstance(value, (list, tuple)):
        return tuple(text_of_id(part) for part in value)
    return text_of_id(value)


_Zones = Annotated[Text | tuple[Text, ...], BeforeValidator(_zone_ids)]


class ScaleDemand(_Operation):
    """Multiply the trips between zones."""

    op: Literal["scale_demand"] = "scale_demand"
    factor: Annotated[float, Field(ge=0, le=10)]
    from_zone: _Zones = "any"
    to_zone: _Zones = "any"


class SetWeather(_Operation):
    """Set what is known of the future, such as rain, for the model's own forecast."""

    op: Literal["set_weather"] = "set_weather"
    feature: Text  # a known-future feature of the model
    value: float  # in the unit of the feature


Operation = Annotated[
    Close
    | SetSpeed
    | SetLanes
    | SetCapacity
    | Roadworks
    | AddRoad
    | RemoveRoad
    | Reverse
    | BanTurn
    | AddDemand
    | ScaleDemand
    | SetWeather,
    Field(discriminator="op"),
]

KINDS: Mapping[str, type[_Operation]] = {  # name in a script -> model
    kind.model_fields["op"].default: kind for kind in get_args(get_args(Operation)[0])
}


def _need_one(operation: BaseModel, *names: str) -> None:
    """Raise ValueError unless exactly one of some fields is given."""
    given = [name for name in names if getattr(operation, name) is not None]
    if len(given) != 1:
        keys = (" and " if given else " or ").join(f"`{name}`" for name in names)
        what = f"has {keys}" if given else f"has no {keys}"
        raise ValueError(f"{what}; give exactly one of them")
