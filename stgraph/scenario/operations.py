"""What a scenario may change: one frozen model per operation, with units and limits.

Each operation is one entry of `Scenario.operations`, in a file ``{close = {target = ...}}``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stgraph.scenario.target import Target
from stgraph.scenario.window import Window

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

Direction = Literal["forward", "back", "both"]  # along the segments that the target names
Kmh = Annotated[float, Field(gt=0, le=130)]
Factor = Annotated[float, Field(gt=0, le=10)]
Lanes = Annotated[int, Field(ge=1, le=12)]
Trips = Annotated[float, Field(gt=0)]


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
    allow: tuple[str, ...] = ()  # such as ("bus", "emergency"); for the report
    direction: Direction = "both"


class SetSpeed(_OnRoads):
    """Set the free-flow speed, in km/h or times what it is."""

    op: Literal["set_speed"] = "set_speed"
    kmh: Kmh | None = None
    factor: Factor | None = None


class SetLanes(_OnRoads):
    """Set the number of lanes of a direction; the capacity changes in proportion."""

    op: Literal["set_lanes"] = "set_lanes"
    lanes: Lanes


class SetCapacity(_OnRoads):
    """Set the capacity of a direction, in vehicles per hour or times what it is."""

    op: Literal["set_capacity"] = "set_capacity"
    vph: Annotated[float, Field(gt=0)] | None = None
    factor: Factor | None = None


class Roadworks(_OnRoads):
    """Take lanes or capacity away, and slow down: set_capacity and set_speed in one."""

    op: Literal["roadworks"] = "roadworks"
    lanes_lost: Annotated[int, Field(ge=1)] | None = None
    factor: Factor | None = None  # of the capacity
    kmh: Kmh | None = None


class AddRoad(_Operation):
    """Build a road along a line; it joins the network at its ends."""

    op: Literal["add_road"] = "add_road"
    id: str  # a name for it, used by later operations as target name
    geometry: str  # WKT LineString in degrees (EPSG:4326), first to last point
    oneway: bool = False
    lanes: Lanes = 1  # of each direction
    kmh: Kmh
    capacity_vph: Annotated[float, Field(gt=0)] | None = None  # None: by class and lanes
    road_class: str = "secondary"
    snap_m: Annotated[float, Field(gt=0, le=500)] = 15.0  # ends farther from any road are an error
    split_edges: bool = True  # an end between two junctions makes one there


class RemoveRoad(_OnRoads):
    """Take segments out of the network for good."""

    op: Literal["remove_road"] = "remove_road"
    direction: Direction = "both"
    window: None = None


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
    zone: str | None = None  # id of a zone of the demand
    node: str | None = None  # id of a junction
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None  # with `lat`: the nearest zone
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None


class AddDemand(_Operation):
    """Add trips to a place and back, such as those of an event."""

    op: Literal["add_demand"] = "add_demand"
    at: Place
    trips: Trips  # cars that come; as many leave if there is a `leave` window
    arrive: Window | None = None
    leave: Window | None = None
    origins: str = "demand"  # "demand": as trips end and begin now; else a column of the zones
    window: None = None


class ScaleDemand(_Operation):
    """Multiply the trips between zones."""

    op: Literal["scale_demand"] = "scale_demand"
    factor: Annotated[float, Field(ge=0, le=10)]
    from_zone: str | tuple[str, ...] = "any"
    to_zone: str | tuple[str, ...] = "any"


class SetWeather(_Operation):
    """Set what is known of the future, such as rain, for the model's own forecast."""

    op: Literal["set_weather"] = "set_weather"
    feature: str  # a known-future feature of the model
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
