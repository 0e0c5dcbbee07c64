"""A scenario as a script: what changes, in order, and what it is compared with.

The calls are the operations of a scenario file, and give the same scenario::

    Scenario("bridge works", timezone="Europe/Berlin")
        .close(name="A Avenue Bridge", daily="07:00-19:00", days=["mon-fri"])
        .set_speed(polygon="centre.geojson", road_class=["residential"], kmh=30)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stgraph._canonical import is_zone
from stgraph.errors import ConfigError
from stgraph.report import Report
from stgraph.scenario.entries import build_operation
from stgraph.scenario.operations import AddDemand, AddRoad, Direction, Operation, Place, ScaleDemand
from stgraph.scenario.refusing import note_errors
from stgraph.scenario.sources import Baseline, DemandSource, Horizon, Outputs
from stgraph.scenario.target import Near, Target, Text
from stgraph.scenario.window import Window

Method = Literal["auto", "assignment", "learned", "diversion", "simulate"]

# what the calls take; one value will do where several are allowed
Ids = int | Iterable[int] | None
Words = str | Iterable[str] | None
Path_ = str | Path | None
Point = Near | tuple[float, float] | Mapping[str, float] | None
Roads = Target | Mapping[str, Any]
When = Window | Mapping[str, Any] | str | None
Time = dt.datetime | str | None


class Scenario(BaseModel):
    """A list of operations on a road network, compared with a frozen baseline.

    Every call returns a new scenario with one more operation. Which roads it is about is said by
    the fields of `Target` (`edges`, `osmid`, `name`, `polygon`, `near`, `where`, `between`,
    `road_class`, `within`) and when it holds by those of `Window` (`from_`, `to`, `daily`,
    `days`), or by one of each as `target` and `window`. Without a time it always holds.
    `override=True` lets it change what an earlier operation has set at the same time; `note` is
    text for the report. Each raises ConfigError with everything that is wrong with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: Text
    description: str = ""
    version: Literal[1] = 1
    timezone: str | None = None  # IANA name, of all local times
    horizon: Horizon | None = None  # None: all of the forecast
    method: Method = "auto"
    baseline: Baseline = Baseline()
    demand: DemandSource | None = None  # None: a pattern only, or what is given in Python
    operations: tuple[Operation, ...] = ()  # in this order
    outputs: Outputs = Outputs()
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    based_on: str | None = None  # name of the scenario that it extends
    swept: Mapping[str, Any] = Field(default_factory=dict)  # its values of a parameter sweep

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        version: Literal[1] = 1,
        timezone: str | None = None,
        horizon: Horizon | Mapping[str, Any] | None = None,
        method: Method = "auto",
        baseline: Baseline | Mapping[str, Any] | None = None,
        demand: DemandSource | Mapping[str, Any] | None = None,
        operations: Iterable[Operation] = (),
        outputs: Outputs | Mapping[str, Any] | None = None,
        seed: int = 0,
        based_on: str | None = None,
        swept: Mapping[str, Any] | None = None,
    ) -> None:
        given = {
            "name": name,
            "description": description,
            "version": version,
            "timezone": timezone,
            "horizon": horizon,
            "method": method,
            "baseline": Baseline() if baseline is None else baseline,
            "demand": demand,
            "operations": tuple(operations),
            "outputs": Outputs() if outputs is None else outputs,
            "seed": seed,
            "based_on": based_on,
            "swept": dict(swept or {}),
        }
        report = Report()
        _fill(self, given, where=f"scenario {name!r}", report=report)
        report.raise_errors(ConfigError, title=f"scenario {name!r} cannot be used")

    @field_validator("timezone")
    @classmethod
    def _exists(cls, zone: str | None) -> str | None:
        """Refuse names that are no time zone."""
        if zone is not None and not is_zone(zone):
            raise ValueError('the IANA name of a time zone, such as "Europe/Berlin"')
        return zone

    def extend(self, name: str, *, description: str = "", method: Method | None = None) -> Scenario:
        """Return a scenario of another name that begins with the operations of this one."""
        changes: dict[str, Any] = {"name": name, "description": description, "swept": {}}
        changes |= {"based_on": self.name, "method": method or self.method}
        return Scenario(**{**dict(self), **changes})

    def close(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "both",
        allow: Words = (),
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Let nobody through; `allow` names those who are exempt, for the report."""
        return self._with("close", locals())

    def set_speed(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "forward",
        kmh: float | None = None,
        factor: float | None = None,
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Set the free-flow speed to km/h (at most 130), or to a factor of what it is."""
        return self._with("set_speed", locals())

    def set_lanes(
        self,
        *,
        lanes: int,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "forward",
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Set the lanes of a direction; the capacity changes in proportion."""
        return self._with("set_lanes", locals())

    def set_capacity(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "forward",
        vph: float | None = None,
        factor: float | None = None,
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Set the capacity of a direction to vehicles per hour, or to a factor of it."""
        return self._with("set_capacity", locals())

    def roadworks(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "forward",
        lanes_lost: int | None = None,
        factor: float | None = None,
        kmh: float | None = None,
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Take lanes, or a share of the capacity, and slow down to km/h."""
        return self._with("roadworks", locals())

    def add_road(
        self,
        *,
        id: str,  # noqa: A002  # as in a file
        geometry: str | shapely.LineString | Sequence[tuple[float, float]],
        kmh: float,
        oneway: bool = False,
        lanes: int = 1,
        capacity_vph: float | None = None,
        road_class: str = "secondary",
        snap_m: float = 15.0,
        split_edges: bool = True,
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Build a road along a line in degrees (WKT, or a list of (lon, lat))."""
        return self._with("add_road", locals())

    def remove_road(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "both",
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Take segments out of the network for good."""
        return self._with("remove_road", locals())

    def reverse(
        self,
        *,
        target: Roads | None = None,
        edges: Ids = None,
        osmid: Ids = None,
        name: str | None = None,
        polygon: Path_ = None,
        near: Point = None,
        where: str | None = None,
        between: Sequence[str | int] | None = None,
        road_class: Words = None,
        within: Path_ = None,
        direction: Direction = "forward",
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Turn one-way segments round."""
        return self._with("reverse", locals())

    def ban_turn(
        self,
        *,
        from_: Roads,
        to: Roads,
        window: When = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Forbid the turn from one street into another."""
        return self._with("ban_turn", locals())

    def add_demand(
        self,
        *,
        at: Place | Mapping[str, Any],
        trips: float,
        arrive: When = None,
        leave: When = None,
        origins: str = "demand",
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Add cars that come to a place, and leave it, such as those of an event."""
        return self._with("add_demand", locals())

    def scale_demand(
        self,
        *,
        factor: float,
        from_zone: Words = "any",
        to_zone: Words = "any",
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Multiply the trips between zones."""
        return self._with("scale_demand", locals())

    def set_weather(
        self,
        *,
        feature: str,
        value: float,
        window: When = None,
        from_: Time = None,
        to: Time = None,
        daily: str | None = None,
        days: Words = None,
        override: bool = False,
        note: str = "",
    ) -> Scenario:
        """Set a known-future feature of the model, such as rain, in its own unit."""
        return self._with("set_weather", locals())

    def _with(self, kind: str, given: dict[str, Any]) -> Scenario:
        """Return the scenario with one more operation, from what its call was given."""
        where, report = f"operation {len(self.operations) + 1} ({kind})", Report()
        fields = {
            name.rstrip("_"): value
            for name, value in given.items()
            if name != "self" and value is not None
        }
        operation = build_operation(kind, fields, where=where, report=report)
        report.raise_errors(ConfigError, title=f"scenario {self.name!r} cannot do this")
        return Scenario(**{**dict(self), "operations": (*self.operations, operation)})


def build_scenario(
    given: Mapping[str, Any],
    *,
    where: str,
    report: Report,
    places: Mapping[str, str] | None = None,
) -> Scenario | None:
    """Return a scenario of some fields, or None and everything that is wrong with them.

    Messages begin with `where`, or with what `places` has for a field.
    """
    scenario, n_found = Scenario.__new__(Scenario), len(report)
    _fill(scenario, given, where=where, report=report, places=places)
    return scenario if len(report) == n_found else None


def _fill(
    scenario: Scenario,
    given: Mapping[str, Any],
    *,
    where: str,
    report: Report,
    places: Mapping[str, str] | None = None,
) -> None:
    """Set the fields of a new scenario, and note those that cannot be used."""
    try:
        BaseModel.__init__(scenario, **given)
    except ValidationError as error:
        note_errors(error, Scenario, given, where=where, report=report, places=places)


def check_script(scenario: Scenario, report: Report, *, where: str = "") -> None:
    """Note what is wrong with a scenario whatever the network is.

    Parameters
    ----------
    scenario
        Any scenario.
    report
        Gets errors for local times without a zone, names of new roads that are given twice, and
        demand that `diversion` cannot use; warnings for scenarios that change nothing.
    where
        What stands before the places in messages, such as ``"bridges.yaml, "``.
    """
    labelled = [
        (f"{where}operation {number} ({operation.op})", operation)
        for number, operation in enumerate(scenario.operations, start=1)
    ]
    local = [place.removeprefix(where) for place, operation in labelled if _has_local(operation)]
    if scenario.horizon is not None and scenario.horizon.is_local:
        local.append("`horizon`")
    if local and scenario.timezone is None:
        more = f" and {len(local) - 3} more" if len(local) > 3 else ""
        what = f"is missing, and there are local times in {', '.join(local[:3])}{more}"
        report.error(f"{where}`timezone`", what, 'give one, such as "Europe/Berlin"')
    roads: dict[str, str] = {}
    for place, operation in labelled:
        if isinstance(operation, AddRoad):
            first = roads.setdefault(operation.id.casefold(), place)
            if first != place:
                what = f"{operation.id!r} is the id of {first.removeprefix(where)}, too"
                report.error(f"{place} `id`", what, "give every new road an id of its own")
        if isinstance(operation, AddDemand | ScaleDemand) and scenario.method == "diversion":
            what = "needs a demand, and `method` is 'diversion', which has none"
            report.error(place, what, "use another method, such as assignment")
    if not labelled:
        report.warning(f"{where}`operations`", "there are none", "nothing will change")


def _has_local(operation: Operation) -> bool:
    """Tell whether an operation has a time that means something only in a zone."""
    fields = ("window", "arrive", "leave")
    windows = [getattr(operation, name, None) for name in fields]
    return any(window.is_local for window in windows if window is not None)
